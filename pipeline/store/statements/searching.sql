-- A search is put together: its head, one condition for each criterion (# is its number), its place, its order. Only what is
-- asked is in the statement, so that the planner sees conditions that an index can answer.

-- name: found
SELECT resource_type, resource_id, version_id, last_updated, as_served(body, version_id, last_updated)::text,
       CASE WHEN isfinite(dated_from) THEN dated_from END
FROM resource
WHERE resource_type = %(type)s

-- name: counted
SELECT count(*)
FROM resource
WHERE resource_type = %(type)s

-- name: ids
AND resource_id = ANY (%(one_#)s)

-- name: patients
AND patient = ANY (%(one_#)s)

-- name: identifiers
AND identifiers && %(one_#)s

-- name: tokens
AND tokens && %(one_#)s

-- name: names
AND EXISTS (SELECT FROM unnest(%(parts_#)s::text[]) AS part, unnest(%(one_#)s::text[]) AS start, unnest(tokens) AS token
            WHERE search_text(start) <> '' AND starts_with(token, part || ':w=' || search_text(start)))

-- name: names_within
AND EXISTS (SELECT FROM unnest(%(parts_#)s::text[]) AS part, unnest(%(one_#)s::text[]) AS held, unnest(tokens) AS token
            WHERE search_text(held) <> '' AND starts_with(token, part || ':w=')
              AND strpos(substr(token, length(part) + 4), search_text(held)) > 0)

-- name: names_exactly
AND EXISTS (SELECT FROM jsonb_path_query(body -> 'name', %(path_#)s::jsonpath) AS one
            WHERE one = ANY (SELECT to_jsonb(said) FROM unnest(%(one_#)s::text[]) AS said))

-- name: missing
AND (body @? %(path_#)s::jsonpath) <> %(missing_#)s

-- name: not
AND NOT coalesce(@condition, false)

-- name: studies
AND study_instance_uid = ANY (%(one_#)s)

-- name: statuses
AND status = ANY (%(one_#)s)

-- name: targets
AND report_id = ANY (ARRAY(
    SELECT r.report_id FROM unnest(%(types_#)s::text[], %(ids_#)s::text[]) AS t (kind, id)
    JOIN resource AS r ON r.resource_type = t.kind AND r.resource_id = t.id
    WHERE r.report_id IS NOT NULL))
AND EXISTS (SELECT FROM jsonb_array_elements(body -> 'target') AS t
            WHERE split_part(t ->> 'reference', '/_history/', 1) = ANY (%(one_#)s))

-- The prefixes of dates (FHIR R4 3.1.1.4.6); @from and @until are the range of the resource's own date, of type @type. No
-- range is longer than from widest to start, which gives the index a bound where the standard compares the other end.

-- name: eq
AND @from >= %(start_#)s::@type AND @from < %(end_#)s::@type AND @until <= %(end_#)s::@type

-- name: ne
AND @from > '-infinity' AND NOT (@from >= %(start_#)s::@type AND @until <= %(end_#)s::@type)

-- name: gt
AND @from >= %(widest_#)s::@type AND @until > %(end_#)s::@type

-- name: ge
AND @from >= %(widest_#)s::@type AND (@until > %(end_#)s::@type OR @from >= %(start_#)s::@type)

-- name: lt
AND @from > '-infinity' AND @from < %(start_#)s::@type

-- name: le
AND @from > '-infinity' AND @from < %(end_#)s::@type AND (@from < %(start_#)s::@type OR @until <= %(end_#)s::@type)

-- name: sa
AND @from >= %(end_#)s::@type

-- name: eb
AND @from > '-infinity' AND @from < %(start_#)s::@type AND @until <= %(start_#)s::@type

-- name: ap
AND @from >= %(widest_#)s::@type AND @from < %(end_#)s::@type AND @until > %(start_#)s::@type

-- The clock on the wall is less than 15 hours from UTC: what the index on instants can bound where that clock is asked.

-- name: local_least
AND dated_from >= %(least_#)s

-- name: local_most
AND dated_from < %(most_#)s

-- What a search is ordered by, and where its page begins: @columns are those of the keys, the id last.

-- name: behind
AND (@columns) @than (@places)

-- name: no_further
AND @column @than= @place

-- name: behind_in_turn
(@column @than @place OR (@column = @place AND @rest))

-- name: order
ORDER BY @order LIMIT %(limit)s
