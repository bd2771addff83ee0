-- name: mask
SELECT m.content, m.report_id, coalesce(r.patient, '')
FROM mask AS m
JOIN report_row AS r ON r.report_id = m.report_id
WHERE m.sop_instance_uid = %(instance)s AND r.status <> 'entered-in-error';

-- name: masks_of
SELECT m.sop_instance_uid, m.content
FROM mask AS m
JOIN report_version AS v ON v.report_id = m.report_id
WHERE m.report_id = %(report_id)s AND v.version = %(version)s
  AND v.draft -> 'answers' @> jsonb_build_array(jsonb_build_object('mask_ref', jsonb_build_object(
          'ref', jsonb_build_object('sop_instance_uid', m.sop_instance_uid))))
ORDER BY m.sop_instance_uid;
