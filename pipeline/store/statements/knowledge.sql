-- name: lock
SELECT pg_advisory_xact_lock(hashtextextended('firstread knowledge ' || %(base)s, 0));

-- name: files
SELECT path, digest FROM knowledge_file WHERE base = %(base)s;

-- name: listed
SELECT f.base, count(DISTINCT f.file_id), count(p.passage_id)
FROM knowledge_file AS f LEFT JOIN knowledge_passage AS p USING (file_id)
GROUP BY f.base ORDER BY f.base;

-- name: forget
DELETE FROM knowledge_file WHERE base = %(base)s AND path = ANY(%(paths)s);

-- name: forget_other_bases
DELETE FROM knowledge_file WHERE base <> ALL(%(bases)s);

-- name: add_file
INSERT INTO knowledge_file (base, path, digest) VALUES (%(base)s, %(path)s, %(digest)s) RETURNING file_id;

-- name: add_passage
INSERT INTO knowledge_passage (file_id, base, place, title, content, names, terms)
VALUES (%(file_id)s, %(base)s, %(place)s, %(title)s, %(content)s, %(names)s,
        to_tsvector('pg_catalog.english', %(words)s) || array_to_tsvector(%(pairs)s::text[]));

-- name: search
-- A term weighs what BM25 gives it (Robertson and Zaragoza 2009, 3.1); one that stands nowhere weighs most.
WITH asked AS (
    SELECT unnest(tsvector_to_array(to_tsvector('pg_catalog.english', %(words)s))) AS term
    UNION SELECT unnest(%(pairs)s::text[])
), total AS (
    SELECT count(*)::float8 AS passages FROM knowledge_passage WHERE base = ANY(%(bases)s)
), weighed AS MATERIALIZED (
    SELECT a.query, ln(1 + (t.passages - f.found + 0.5) / (f.found + 0.5)) AS weight
    FROM (SELECT quote_literal(term)::tsquery AS query FROM asked) AS a, total AS t,
         LATERAL (SELECT count(*)::float8 AS found FROM knowledge_passage AS p
                  WHERE p.terms @@ a.query AND p.base = ANY(%(bases)s)) AS f
), found AS (
    SELECT p.passage_id, sum(w.weight) AS weight
    FROM weighed AS w JOIN knowledge_passage AS p ON p.terms @@ w.query
    WHERE p.base = ANY(%(bases)s)
    GROUP BY p.passage_id
)
SELECT f.base, f.path, f.digest, p.place, p.title, p.content, n.weight / (SELECT sum(weight) FROM weighed) AS share
FROM found AS n JOIN knowledge_passage AS p USING (passage_id) JOIN knowledge_file AS f USING (file_id)
ORDER BY n.weight DESC, length(p.content), f.base, f.path, p.passage_id
LIMIT %(limit)s;

-- name: named_in
SELECT f.base, f.path, f.digest, p.place, p.title, p.content, 1.0::float8
FROM knowledge_passage AS p JOIN knowledge_file AS f USING (file_id)
WHERE f.base = ANY(%(bases)s)
  AND EXISTS (SELECT FROM unnest(p.names) AS one (name) WHERE position(one.name IN %(text)s) > 0)
ORDER BY f.base, f.path, p.passage_id
LIMIT %(limit)s;
