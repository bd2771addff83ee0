-- Which row of a study counts, whose draft the report shows, and what a person asked for.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

ALTER TABLE ledger
    ADD COLUMN in_force boolean NOT NULL DEFAULT true,       -- its recipe is the one last asked for of this study
    ADD COLUMN stands boolean NOT NULL DEFAULT false,        -- the report's current version is this row's draft
    ADD COLUMN again boolean NOT NULL DEFAULT false,         -- a person wants a new draft, though nothing changed
    ADD COLUMN films integer NOT NULL DEFAULT 0,             -- how many films the stored draft was judged on
    ADD COLUMN reported_films text NOT NULL DEFAULT '',      -- digest of those films, see Completeness.films_digest
    ADD COLUMN patient_key text NOT NULL DEFAULT '',         -- digest of patient id and issuer, '' where there is none
    ADD COLUMN failed_program text NOT NULL DEFAULT '',      -- the program and settings under which it failed
    ADD COLUMN failed_settings text NOT NULL DEFAULT '';

-- Drafts of the recipe in force that another recipe's draft hides: to be made current again.
CREATE INDEX ledger_hidden ON ledger (archive, recipe) WHERE in_force AND NOT stands AND state = 'reported';
CREATE INDEX ledger_report ON ledger (report_id) WHERE report_id IS NOT NULL;

-- As in 0001, and: a new row takes the force from the study's other rows; a reported study may come to rest as skipped.
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
