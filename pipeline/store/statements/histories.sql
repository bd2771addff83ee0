-- Versions in the order in which they were written, the last first. Each type is read by its index up to a page.

-- name: page
SELECT h.resource_type, h.resource_id, h.version_id, h.last_updated,
       as_served(h.body, h.version_id, h.last_updated)::text
FROM unnest(%(types)s::text[]) AS t (kind)
CROSS JOIN LATERAL (
    SELECT resource_type, resource_id, version_id, last_updated, body
    FROM resource_history AS one
    WHERE one.resource_type = t.kind
      AND one.last_updated >= %(since)s::timestamptz
      AND one.last_updated <= %(before)s::timestamptz
      AND (one.last_updated < %(before)s::timestamptz
           OR (one.resource_type, one.resource_id, one.version_id)
              < (%(before_type)s::text, %(before_id)s::text, %(before_version)s::integer))
    ORDER BY one.last_updated DESC, one.resource_id DESC, one.version_id DESC
    LIMIT %(limit)s
) AS h
ORDER BY h.last_updated DESC, h.resource_type DESC, h.resource_id DESC, h.version_id DESC
LIMIT %(limit)s;

-- name: page_of_one
SELECT resource_type, resource_id, version_id, last_updated, as_served(body, version_id, last_updated)::text
FROM resource_history
WHERE resource_type = %(type)s AND resource_id = %(id)s AND last_updated >= %(since)s::timestamptz
  AND version_id < %(before_version)s
ORDER BY version_id DESC
LIMIT %(limit)s;

-- name: counted
SELECT count(*)
FROM resource_history
WHERE resource_type = ANY (%(types)s) AND (%(id)s = '' OR resource_id = %(id)s) AND last_updated >= %(since)s::timestamptz;
