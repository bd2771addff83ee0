-- The list of reports is put together: its head, which kind of reports where it begins with the critical ones, its end.

-- name: head
SELECT r.*, coalesce(left(d.body ->> 'conclusion', 400), '') AS impression,
       coalesce(p.body ->> 'gender', '') AS sex, coalesce(p.body ->> 'birthDate', '') AS birth_date
FROM (
    SELECT * FROM report_row
    WHERE status <> 'entered-in-error'
      AND (%(text)s = '' OR position(lower(%(text)s) IN lower(patient_name)) > 0
           OR position(lower(%(text)s) IN lower(patient_id)) > 0
           OR position(lower(%(text)s) IN lower(accession_number)) > 0)
      AND (%(study_date)s::date IS NULL OR study_date = %(study_date)s)
      AND (%(status)s = '' OR status = %(status)s)
      AND (NOT %(attention)s OR warnings > 0 OR gap > 0 OR changed_since)
      AND (%(before_time)s::timestamptz IS NULL
           OR (created_at, report_id) < (%(before_time)s, %(before_id)s::text))

-- The index on critical drafts is small: without it every report would be looked at for a few.

-- name: critical
AND critical AND report_id IN (SELECT report_id FROM report_version WHERE critical)

-- name: others
AND NOT critical

-- name: end
    ORDER BY created_at DESC, report_id DESC
    LIMIT %(limit)s
) AS r
LEFT JOIN resource AS d ON d.resource_type = 'DiagnosticReport' AND d.resource_id = r.report_id
LEFT JOIN resource AS p ON p.resource_type = 'Patient' AND p.resource_id = r.patient
ORDER BY r.created_at DESC, r.report_id DESC;

-- The report beside one in the list, of all or of one kind.

-- name: above
SELECT report_id FROM report_row
WHERE status <> 'entered-in-error'
  AND (%(created_at)s::timestamptz IS NULL OR (created_at, report_id) > (%(created_at)s, %(report_id)s::text))

-- name: below
SELECT report_id FROM report_row
WHERE status <> 'entered-in-error'
  AND (%(created_at)s::timestamptz IS NULL OR (created_at, report_id) < (%(created_at)s, %(report_id)s::text))

-- name: nearest_above
ORDER BY created_at, report_id LIMIT 1

-- name: nearest_below
ORDER BY created_at DESC, report_id DESC LIMIT 1
