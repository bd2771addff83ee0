-- An acknowledged instance is settled when a stored outcome names its bytes; only then may its file go
-- (docs/decisions, inbox and ledger). The constraints hold whatever program writes.

ALTER TABLE instance
    ADD COLUMN settled_at timestamptz,
    ADD COLUMN settled_by bigint REFERENCES ledger,
    ADD COLUMN settled_code text NOT NULL DEFAULT '',    -- reported, unchanged, a skip's code, or file-missing
    ADD COLUMN released boolean NOT NULL DEFAULT false;  -- its file may be removed

UPDATE instance SET settled_at = coalesce(handed_over_at, received_at), settled_code = 'before-0002', released = true
WHERE path = '';

ALTER TABLE instance
    ADD CONSTRAINT released_when_settled CHECK (NOT released OR settled_at IS NOT NULL),
    ADD CONSTRAINT forgotten_when_released CHECK (path <> '' OR released);

CREATE INDEX instance_removable ON instance (archive, study_instance_uid) WHERE released AND path <> '';
CREATE INDEX instance_kept ON instance (settled_at) WHERE NOT released AND settled_at IS NOT NULL;

-- p_held: [{"sop": uid, "sha256": digest, "announced": whether the archive itself counts it}, ...]. Of what the archive
-- does not have ours is the only copy: it is settled, and kept for a later draft of the same study.
CREATE FUNCTION settle_received(p_ledger_id bigint, p_archive text, p_study text, p_held jsonb, p_code text)
RETURNS void
LANGUAGE sql AS $$
    UPDATE firstread.instance AS i
    SET settled_at = clock_timestamp(), settled_by = p_ledger_id, settled_code = p_code,
        released = i.released OR h.announced,
        handed_over_at = coalesce(i.handed_over_at, clock_timestamp())
    FROM jsonb_to_recordset(p_held) AS h (sop text, sha256 text, announced boolean)
    WHERE i.archive = p_archive AND i.study_instance_uid = p_study
      AND i.sop_instance_uid = h.sop AND i.sha256 = h.sha256 AND i.path <> ''
$$;
