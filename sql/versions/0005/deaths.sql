-- A process that dies takes its claims along; what was worked on at that moment may be why.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

ALTER TABLE ledger
    ADD COLUMN at_work boolean NOT NULL DEFAULT false,  -- claimed, and worked on at this moment
    ADD COLUMN deaths integer NOT NULL DEFAULT 0;       -- processes that died while it was worked on

-- As in 0002, and: only what is claimed is at work; a study that comes to rest well is a suspect no more, one that is
-- reopened after a failure stays one.
CREATE OR REPLACE FUNCTION guard_ledger() RETURNS trigger
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    allowed ledger_state[];
BEGIN
    NEW.updated_at := clock_timestamp();
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'discovered' THEN
            RAISE EXCEPTION 'a study begins as discovered' USING ERRCODE = 'FR003';
        END IF;
        UPDATE ledger SET in_force = false
        WHERE archive = NEW.archive AND study_instance_uid = NEW.study_instance_uid
          AND recipe <> NEW.recipe AND in_force;
        RETURN NEW;
    END IF;
    IF NEW.token < OLD.token THEN
        RAISE EXCEPTION 'a ledger token never goes back' USING ERRCODE = 'FR003';
    END IF;
    IF NEW.lease_owner IS NULL THEN
        NEW.at_work := false;
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
        WHEN 'reported' THEN ARRAY['discovered', 'skipped']
        ELSE ARRAY['discovered']
    END;
    IF NOT NEW.state = ANY (allowed) THEN
        RAISE EXCEPTION 'a study cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'FR003';
    END IF;
    CASE NEW.state
        WHEN 'discovered' THEN
            NEW.discovered_at := NEW.updated_at;
            IF OLD.state = 'failed' THEN
                NEW.deaths := least(OLD.deaths, 1);  -- tried again as often as before, and alone as before
            END IF;
        WHEN 'retrieving' THEN NEW.retrieving_at := NEW.updated_at;
        WHEN 'complete' THEN NEW.complete_at := NEW.updated_at;
        WHEN 'drafted' THEN NEW.drafted_at := NEW.updated_at;
        WHEN 'reported' THEN
            NEW.reported_at := NEW.updated_at;
            NEW.deaths := 0;
        WHEN 'skipped' THEN
            NEW.skipped_at := NEW.updated_at;
            NEW.deaths := 0;
        WHEN 'failed' THEN NEW.failed_at := NEW.updated_at;
    END CASE;
    RETURN NEW;
END $$;

RESET ROLE;
RESET search_path;
