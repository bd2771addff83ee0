-- name: read
SELECT resource_type, resource_id, version_id, last_updated, as_served(body, version_id, last_updated)::text
FROM resource
WHERE resource_type = %(type)s AND resource_id = %(id)s;

-- name: vread
SELECT resource_type, resource_id, version_id, last_updated, as_served(body, version_id, last_updated)::text
FROM resource_history
WHERE resource_type = %(type)s AND resource_id = %(id)s AND version_id = %(version)s;

-- name: report_row
SELECT r.*, coalesce(left(d.body ->> 'conclusion', 400), '') AS impression,
       coalesce(p.body ->> 'gender', '') AS sex, coalesce(p.body ->> 'birthDate', '') AS birth_date
FROM report_row AS r
LEFT JOIN resource AS d ON d.resource_type = 'DiagnosticReport' AND d.resource_id = r.report_id
LEFT JOIN resource AS p ON p.resource_type = 'Patient' AND p.resource_id = r.patient
WHERE r.report_id = %(report_id)s;

-- name: report_parts
SELECT version, draft, checks, left_out, completeness
FROM report_version
WHERE report_id = %(report_id)s
ORDER BY version DESC
LIMIT 1;

-- name: previews
SELECT p.series_instance_uid, p.sop_instance_uid, p.frame, p.jpeg, p.original_rows, p.original_columns,
       coalesce(o.png, '')
FROM preview AS p
LEFT JOIN preview_overlay AS o ON o.report_id = p.report_id AND o.version = p.version AND o.ordinal = p.ordinal
WHERE p.report_id = %(report_id)s AND p.version = %(version)s
ORDER BY p.ordinal;

-- name: report_versions
SELECT h.version_id, h.body ->> 'status', h.last_updated, coalesce(v.model_id, ''), coalesce(v.findings, ''),
       coalesce(v.impression, '')
FROM resource_history AS h
LEFT JOIN report_version AS v ON v.report_id = h.resource_id AND v.version = h.version_id
WHERE h.resource_type = 'DiagnosticReport' AND h.resource_id = %(report_id)s
ORDER BY h.version_id DESC;

-- name: earlier_report
SELECT e.report_id, e.version, e.study_date
FROM report_row AS e
JOIN report_row AS r ON r.report_id = %(report_id)s
WHERE e.study_instance_uid = %(study_instance_uid)s
  AND e.patient = r.patient
  AND e.report_id <> r.report_id
  AND e.status <> 'entered-in-error'
ORDER BY e.created_at DESC
LIMIT 1;

-- name: studies
SELECT l.ledger_id, l.archive, l.study_instance_uid, l.recipe, l.state::text, l.code, l.reason, l.attempts,
       l.next_attempt_at, l.study_date, l.accession_number, l.announced, l.held, coalesce(l.report_id, ''),
       l.report_version, coalesce(v.findings, ''), coalesce(v.impression, ''), l.updated_at
FROM ledger AS l
LEFT JOIN report_version AS v ON v.report_id = l.report_id AND v.version = l.report_version
WHERE (%(archive)s::text IS NULL OR l.archive = %(archive)s)
  AND (%(ledger_ids)s::bigint[] IS NULL OR l.ledger_id = ANY (%(ledger_ids)s))
ORDER BY l.ledger_id DESC
LIMIT %(limit)s;

-- name: state_counts
SELECT archive, state::text, CASE WHEN state IN ('skipped', 'failed') THEN code ELSE '' END AS why,
       count(*) FILTER (WHERE in_force), count(*) FILTER (WHERE NOT in_force)
FROM ledger
WHERE (%(archive)s::text IS NULL OR archive = %(archive)s)
  AND (%(states)s::text[] IS NULL OR state::text = ANY (%(states)s))
  AND (%(codes)s::text[] IS NULL OR code = ANY (%(codes)s))
  AND (%(studies)s::text[] IS NULL OR study_instance_uid = ANY (%(studies)s))
  AND (%(accessions)s::text[] IS NULL OR accession_number = ANY (%(accessions)s))
  AND (%(since)s::date IS NULL OR study_date >= %(since)s)
  AND (%(until)s::date IS NULL OR study_date <= %(until)s)
GROUP BY archive, state, why
ORDER BY archive, state, 4 DESC, why;

-- name: status_rows
SELECT ledger_id, archive, study_instance_uid, accession_number, study_date, state::text, code, reason, attempts,
       next_attempt_at, updated_at, in_force
FROM ledger
WHERE (%(archive)s::text IS NULL OR archive = %(archive)s)
  AND (%(states)s::text[] IS NULL OR state::text = ANY (%(states)s))
  AND (%(codes)s::text[] IS NULL OR code = ANY (%(codes)s))
  AND (%(studies)s::text[] IS NULL OR study_instance_uid = ANY (%(studies)s))
  AND (%(accessions)s::text[] IS NULL OR accession_number = ANY (%(accessions)s))
  AND (%(since)s::date IS NULL OR study_date >= %(since)s)
  AND (%(until)s::date IS NULL OR study_date <= %(until)s)
  AND (in_force OR %(older)s)
ORDER BY updated_at DESC, ledger_id DESC;

-- name: drafts_page
SELECT r.report_id, r.ledger_id, r.archive, r.study_instance_uid, r.accession_number, r.study_date,
       coalesce(r.modalities, '{}'), r.status, v.written_by, r.language, r.model_id, r.recipe, r.version, r.created_at,
       coalesce(r.findings, ''), coalesce(r.impression, ''), coalesce(p.body, '{}'), coalesce(f.found, '[]')
FROM reports AS r
JOIN report_versions AS v ON v.report_id = r.report_id AND v.current
LEFT JOIN resource AS p ON p.resource_type = 'Patient' AND p.resource_id = split_part(r.patient, '/', 2)
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
               'kind', kind, 'side', side, 'present', present, 'confidence', confidence, 'zone', zone,
               'severity', severity, 'sentence', sentence, 'frame', frame, 'sop_instance_uid', sop_instance_uid,
               'box', CASE WHEN x0 IS NOT NULL THEN jsonb_build_array(x0, y0, x1, y1) END) ORDER BY number) AS found
    FROM findings WHERE report_id = r.report_id
) AS f ON true
WHERE (%(archive)s::text IS NULL OR r.archive = %(archive)s)
  AND (%(since)s::date IS NULL OR r.study_date >= %(since)s)
  AND (%(until)s::date IS NULL OR r.study_date <= %(until)s)
  AND r.report_id > %(after)s
ORDER BY r.report_id
LIMIT %(limit)s;

-- name: schema_revision
SELECT version_num FROM firstread.alembic_version;
