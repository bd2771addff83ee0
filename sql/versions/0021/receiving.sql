-- Receiving instances takes as long beside a hundred thousand as beside ten (bench_receive).
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- Writes what came and gives of each whether its bytes were known, and whether its UID is known with other bytes. A plan made while
-- the table was small would be kept by the session and read all of it for every group; here each UID is looked up in the index,
-- of the two that begin with the archive in the one whose order it is read in.
CREATE FUNCTION record_received(
    p_archive text, p_studies text[], p_series text[], p_instances text[], p_digests text[], p_sizes bigint[],
    p_classes text[], p_syntaxes text[], p_paths text[], p_peers text[]
) RETURNS TABLE (sop text, duplicate boolean, conflict boolean)
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH came AS MATERIALIZED (
        SELECT DISTINCT ON (c.sop, c.sha256) c.*, dense_rank() OVER (PARTITION BY c.sop ORDER BY c.sha256) > 1 AS beside
        FROM unnest(p_studies, p_series, p_instances, p_digests, p_sizes, p_classes, p_syntaxes, p_paths, p_peers)
             AS c (study, series, sop, sha256, size, sop_class, syntax, path, peer)
    ), known AS MATERIALIZED (
        SELECT c.*, coalesce(i.duplicate, false) AS duplicate, coalesce(i.conflict, c.beside) AS conflict
        FROM came AS c CROSS JOIN LATERAL (
            SELECT bool_or(i.sha256 = c.sha256) AS duplicate, bool_or(i.sha256 <> c.sha256) AS conflict
            FROM (SELECT sha256 FROM instance
                  WHERE archive = p_archive AND sop_instance_uid = c.sop AND by_content ORDER BY sha256 OFFSET 0) AS i) AS i
    ), stored AS (
        INSERT INTO instance AS i (archive, study_instance_uid, series_instance_uid, sop_instance_uid, sha256, size,
                                   sop_class_uid, transfer_syntax_uid, path, peer, conflict)
        SELECT p_archive, k.study, k.series, k.sop, k.sha256, k.size, k.sop_class, k.syntax, k.path, k.peer, k.conflict
        FROM known AS k
        ORDER BY k.sop, k.sha256
        ON CONFLICT (archive, sop_instance_uid, sha256) DO UPDATE
            SET path = EXCLUDED.path, received_at = EXCLUDED.received_at, handed_over_at = NULL, peer = EXCLUDED.peer,
                settled_at = NULL, settled_code = '', released = false  -- settled_by: for settle_known
            WHERE i.path = ''
    )
    SELECT k.sop, k.duplicate, k.conflict FROM known AS k;
END $$;
REVOKE EXECUTE ON FUNCTION
    record_received(text, text[], text[], text[], text[], bigint[], text[], text[], text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    record_received(text, text[], text[], text[], text[], bigint[], text[], text[], text[], text[]) TO firstread_machine;

RESET ROLE;
RESET search_path;
