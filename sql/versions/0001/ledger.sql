-- The ledger: one row per (archive, study, recipe), the truth about where a study stands.

CREATE TYPE ledger_state AS ENUM (
    'discovered',  -- known, nobody's
    'retrieving',  -- claimed under a lease
    'complete',    -- every announced instance held, or the gap accepted
    'drafted',     -- the model has answered
    'reported',    -- stored; rests
    'skipped',     -- not for us, with a reason; rests
    'failed'       -- with an error code; rests, or waits for next_attempt_at
);

CREATE TABLE ledger (
    ledger_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    archive text NOT NULL,
    study_instance_uid text NOT NULL,
    recipe text NOT NULL,
    state ledger_state NOT NULL DEFAULT 'discovered',

    -- as the archive announced it
    study_date date,
    modalities text[] NOT NULL DEFAULT '{}',
    accession_number text NOT NULL DEFAULT '',
    demographics_digest text NOT NULL DEFAULT '',
    announced_instances integer,  -- study-level count, null where the archive does not count
    announced_digest text,        -- image-level list, as last seen

    -- the lease; token only grows, so that an older claim can be told from the newest
    lease_owner text,
    lease_process integer,        -- number of the advisory lock that the owner's process holds
    lease_call uuid,              -- the call that claimed, so that a repeated call finds its own rows
    lease_expires_at timestamptz,
    token bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    rediscovered boolean NOT NULL DEFAULT false,  -- changed in the archive while it was claimed

    -- the outcome
    code text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    next_attempt_at timestamptz,
    announced integer,
    held integer,
    missing text[] NOT NULL DEFAULT '{}',
    damaged jsonb NOT NULL DEFAULT '[]',
    left_out jsonb NOT NULL DEFAULT '[]',
    manifest_digest text NOT NULL DEFAULT '',
    reported_manifest text NOT NULL DEFAULT '',
    report_id text,
    report_version integer,
    first_short_at timestamptz,

    discovered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    retrieving_at timestamptz,
    complete_at timestamptz,
    drafted_at timestamptz,
    reported_at timestamptz,
    skipped_at timestamptz,
    failed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    UNIQUE (archive, study_instance_uid, recipe),
    CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL)),
    CHECK (lease_owner IS NULL OR state IN ('retrieving', 'complete', 'drafted'))
) WITH (fillfactor = 70);  -- every study's row is updated several times: leave room for updates in place

-- Work that may be claimed now or later; rows at rest are not in it, so it stays small however long the ledger.
CREATE INDEX ledger_open ON ledger (recipe, ledger_id)
    WHERE state IN ('discovered', 'retrieving', 'complete', 'drafted')
       OR (state = 'failed' AND next_attempt_at IS NOT NULL);
CREATE INDEX ledger_study ON ledger (study_instance_uid);

-- Numbers for processes that claim; each holds an advisory lock of its number while it lives.
CREATE SEQUENCE process_number AS integer CYCLE;

CREATE FUNCTION guard_ledger() RETURNS trigger
LANGUAGE plpgsql SET search_path = firstread, pg_temp AS $$
DECLARE
    allowed ledger_state[];
BEGIN
    NEW.updated_at := clock_timestamp();
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'discovered' THEN
            RAISE EXCEPTION 'a study begins as discovered' USING ERRCODE = 'FR003';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.token < OLD.token THEN
        RAISE EXCEPTION 'a ledger token never goes back' USING ERRCODE = 'FR003';
    END IF;
    IF NEW.state = OLD.state THEN
        RETURN NEW;
    END IF;
    allowed := CASE OLD.state
        WHEN 'discovered' THEN ARRAY['retrieving', 'skipped', 'failed']
        WHEN 'retrieving' THEN ARRAY['complete', 'drafted', 'reported', 'skipped', 'failed', 'discovered']
        WHEN 'complete' THEN ARRAY['drafted', 'reported', 'skipped', 'failed', 'discovered', 'retrieving']
        WHEN 'drafted' THEN ARRAY['reported', 'skipped', 'failed', 'discovered', 'retrieving']
        WHEN 'failed' THEN ARRAY['discovered', 'retrieving']
        ELSE ARRAY['discovered']
    END;
    IF NOT NEW.state = ANY (allowed) THEN
        RAISE EXCEPTION 'a study cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'FR003';
    END IF;
    CASE NEW.state
        WHEN 'discovered' THEN NEW.discovered_at := NEW.updated_at;
        WHEN 'retrieving' THEN NEW.retrieving_at := NEW.updated_at;
        WHEN 'complete' THEN NEW.complete_at := NEW.updated_at;
        WHEN 'drafted' THEN NEW.drafted_at := NEW.updated_at;
        WHEN 'reported' THEN NEW.reported_at := NEW.updated_at;
        WHEN 'skipped' THEN NEW.skipped_at := NEW.updated_at;
        WHEN 'failed' THEN NEW.failed_at := NEW.updated_at;
    END CASE;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_ledger BEFORE INSERT OR UPDATE ON ledger
    FOR EACH ROW EXECUTE FUNCTION guard_ledger();

-- Wakes a waiting worker; the payload names nothing, the ledger is asked.
CREATE FUNCTION announce_work() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('firstread_work', '');
    RETURN NULL;
END $$;

CREATE TRIGGER announce_new_work AFTER INSERT ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION announce_work();
CREATE TRIGGER announce_work AFTER UPDATE OF state ON ledger
    FOR EACH ROW WHEN (NEW.state = 'discovered' AND OLD.state <> 'discovered') EXECUTE FUNCTION announce_work();
