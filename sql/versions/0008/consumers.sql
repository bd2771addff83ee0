-- What consumers read by. Runs after every table and trigger that it changes; forward only.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- 1. Change times in the order of commits. A consumer that asks for what changed after the newest it has seen would miss for
-- ever what commits later with an earlier time. So the time of a transaction is settled when it commits, under a lock that
-- it holds until others can see it: whatever commits later has a later time, to the millisecond, also where the clock is set
-- back. Until then its rows have the time at which it began to write; where nobody committed meanwhile, that is the time.

CREATE SEQUENCE resource_clock;  -- the time of the last commit that wrote resources, in milliseconds since 1970
SELECT setval('resource_clock', greatest(1, (extract(epoch FROM newest) * 1000)::bigint))
FROM (SELECT max(last_updated) AS newest FROM resource_history) AS h;

-- The change time of this transaction: a first one while it writes, the final one (p_final) when it commits. The final one
-- waits for others that commit, 20 s at most (lock_not_available).
CREATE FUNCTION change_time(p_final boolean) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = firstread, pg_temp SET lock_timeout = '20s' AS $$
DECLARE
    mine text := pg_current_xact_id()::text;
    taken text[] := string_to_array(current_setting('firstread.change_time', true), ' ');  -- transaction, time, final
    millisecond bigint;
    last_commit bigint;
BEGIN
    IF taken[1] = mine THEN
        millisecond := taken[2];
    END IF;
    IF taken[1] IS DISTINCT FROM mine OR (p_final AND NOT taken[3]::boolean) THEN
        IF p_final THEN
            PERFORM pg_advisory_xact_lock(hashtextextended('firstread change time', 0));
        END IF;
        SELECT last_value INTO last_commit FROM resource_clock;
        IF millisecond IS NULL OR millisecond <= last_commit THEN
            millisecond := greatest(last_commit + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
        END IF;
        IF p_final THEN
            PERFORM setval('resource_clock', millisecond);
        END IF;
        PERFORM set_config('firstread.change_time', concat_ws(' ', mine, millisecond, p_final), true);
    END IF;
    RETURN timestamptz 'epoch' + millisecond * interval '1 millisecond';
END $$;

-- As in 0002, but for last_updated; what settles it (keep_history) is left alone.
CREATE OR REPLACE FUNCTION guard_resource() RETURNS trigger
LANGUAGE plpgsql SET search_path = firstread, pg_temp AS $$
DECLARE
    writer text := writing_as();
    status_from text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'resources are not deleted' USING ERRCODE = 'FR004';
    END IF;
    IF TG_OP = 'UPDATE' AND current_user = 'firstread_owner' AND pg_trigger_depth() > 1 THEN
        RETURN NEW;
    END IF;
    IF NEW.body ->> 'resourceType' IS DISTINCT FROM NEW.resource_type
       OR NEW.body ->> 'id' IS DISTINCT FROM NEW.resource_id THEN
        RAISE EXCEPTION 'a resource''s body names another type or id' USING ERRCODE = 'FR005';
    END IF;
    NEW.status := NEW.body ->> 'status';
    IF TG_OP = 'UPDATE' THEN
        IF NEW.resource_type <> OLD.resource_type OR NEW.resource_id <> OLD.resource_id THEN
            RAISE EXCEPTION 'a resource keeps its type and id' USING ERRCODE = 'FR005';
        END IF;
        IF OLD.written_by = 'signer' AND writer = 'machine' THEN
            RAISE EXCEPTION 'a person has written this version; the machine does not overwrite it'
                USING ERRCODE = 'FR001';
        END IF;
        status_from := OLD.status;
        NEW.version_id := OLD.version_id + 1;
        NEW.report_id := coalesce(NEW.report_id, OLD.report_id);
    ELSE
        NEW.version_id := 1;
    END IF;
    IF NEW.resource_type IN ('DiagnosticReport', 'Observation')
       AND NOT coalesce(status_allowed(writer, status_from, NEW.status), false) THEN
        RAISE EXCEPTION 'status % after % is not for the % to write',
            coalesce(NEW.status, 'none'), coalesce(status_from, 'none'), writer USING ERRCODE = 'FR002';
    END IF;
    IF writer = 'machine' AND says_finished(NEW.body) THEN
        RAISE EXCEPTION 'a machine finishes nothing' USING ERRCODE = 'FR002';
    END IF;
    IF NEW.resource_type = 'DiagnosticReport' THEN
        NEW.report_id := NEW.resource_id;
    END IF;
    NEW.written_by := writer;
    NEW.last_updated := change_time(false);
    NEW.patient := coalesce(NEW.body #>> '{subject,reference}', NEW.body #>> '{patient,reference}');
    NEW.effective_at := first_instant(coalesce(NEW.body ->> 'effectiveDateTime', NEW.body ->> 'started'));
    NEW.identifiers := CASE WHEN NEW.body ? 'identifier'
                            THEN identifier_tokens(NEW.body -> 'identifier') ELSE '{}' END;
    RETURN NEW;
END $$;

-- Every version is kept, whoever wrote it and however; when the transaction commits, with its final time.
CREATE OR REPLACE FUNCTION keep_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = firstread, pg_temp AS $$
DECLARE
    settled timestamptz := change_time(true);
BEGIN
    INSERT INTO resource_history (resource_type, resource_id, version_id, last_updated, body, written_by)
    VALUES (NEW.resource_type, NEW.resource_id, NEW.version_id, settled, NEW.body, NEW.written_by);
    IF NEW.last_updated <> settled THEN
        UPDATE resource SET last_updated = settled
        WHERE resource_type = NEW.resource_type AND resource_id = NEW.resource_id AND last_updated <> settled;
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER keep_history ON resource;
CREATE CONSTRAINT TRIGGER keep_history AFTER INSERT ON resource DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION keep_history();
CREATE CONSTRAINT TRIGGER keep_history_of_change AFTER UPDATE ON resource DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.version_id <> NEW.version_id) EXECUTE FUNCTION keep_history();

-- 2. The date by which a type is searched, twice: as instants (dated_from, dated_until), and as the clock on the wall said
-- it (local_from, local_until), for searches by a date without a zone (R4 3.1.1.4.6: dates do not have time zones, and time
-- zones should not be considered). The two are 14 hours apart at most, so the index on instants serves both.
ALTER TABLE resource
    ADD COLUMN local_from timestamp NOT NULL DEFAULT '-infinity',
    ADD COLUMN local_until timestamp NOT NULL DEFAULT '-infinity';

-- How long what a FHIR date, dateTime or instant names is: as long as it is exact.
CREATE FUNCTION date_length(value text) RETURNS interval
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN length(value) = 4 THEN interval '1 year'
        WHEN length(value) = 7 THEN interval '1 month'
        WHEN length(value) = 10 THEN interval '1 day'
        WHEN value LIKE '%.%' THEN interval '1 millisecond'
        ELSE interval '1 second'
    END
$$;

-- What a date names, on the wall and as instants; nulls for one that is none. One without a zone is of the zone that its
-- extension tz-code names, else of UTC.
CREATE FUNCTION named_range(
    value text, tz_code text, OUT local_begins timestamp, OUT local_ends timestamp, OUT begins timestamptz, OUT ends timestamptz
)
LANGUAGE plpgsql STABLE SET timezone = 'UTC' SET datestyle = 'ISO, MDY' AS $$
BEGIN
    begins := firstread.first_instant(value);
    IF begins IS NULL OR NOT isfinite(begins) THEN
        begins := NULL;
        RETURN;
    END IF;
    local_begins := CASE WHEN length(value) > 10
        THEN regexp_replace(value, '(Z|[+-][0-9]{2}:[0-9]{2})$', '')::timestamp ELSE begins AT TIME ZONE 'UTC' END;
    local_ends := local_begins + firstread.date_length(value);
    IF length(value) > 10 OR tz_code IS NULL THEN
        ends := begins + (local_ends - local_begins);
    ELSE
        begins := local_begins AT TIME ZONE tz_code;
        ends := local_ends AT TIME ZONE tz_code;
    END IF;
EXCEPTION WHEN data_exception THEN
    begins := NULL;  -- a date that is none
    IF tz_code IS NOT NULL THEN  -- a zone that this server does not know
        SELECT r.* INTO local_begins, local_ends, begins, ends FROM firstread.named_range(value, NULL) AS r;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION index_resource() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    element text;
    said text;
    tz_code text;
    period jsonb := NEW.body -> 'effectivePeriod';
    begins timestamptz;
    ends timestamptz;
    local_begins timestamp;
    local_ends timestamp;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.last_updated <> OLD.last_updated AND NEW.body = OLD.body THEN
        RETURN NEW;  -- its time is settled, nothing else
    END IF;
    NEW.tokens := firstread.search_tokens(NEW.body);
    FOREACH element IN ARRAY ARRAY['effectiveDateTime', 'effectiveInstant', 'started', 'birthDate', 'recorded'] LOOP
        said := coalesce(said, NEW.body ->> element);
        EXIT WHEN said IS NOT NULL;
    END LOOP;
    IF period IS NOT NULL THEN  -- open at an end that it does not name
        SELECT r.begins, r.local_begins INTO begins, local_begins
        FROM firstread.named_range(coalesce(period ->> 'start', '0001-01-01'), NULL) AS r;
        SELECT r.ends, r.local_ends INTO ends, local_ends
        FROM firstread.named_range(coalesce(period ->> 'end', '9999-12-30'), NULL) AS r;
    ELSIF said IS NOT NULL THEN
        tz_code := jsonb_path_query_first(NEW.body -> ('_' || element),
            '$.extension[*] ? (@.url == "http://hl7.org/fhir/StructureDefinition/tz-code").valueCode') #>> '{}';
        SELECT r.begins, r.ends, r.local_begins, r.local_ends INTO begins, ends, local_begins, local_ends
        FROM firstread.named_range(said, tz_code) AS r;
    END IF;
    IF begins IS NULL OR ends IS NULL THEN  -- it names no date, or none that is one
        NEW.dated_from := '-infinity';
        NEW.dated_until := '-infinity';
        NEW.local_from := '-infinity';
        NEW.local_until := '-infinity';
    ELSE
        NEW.dated_from := least(begins, '9999-12-31 00:00+00');  -- as far as clients can read
        NEW.dated_until := least(ends, begins + interval '366 days');  -- a search counts on it
        NEW.local_from := least(local_begins, '9999-12-31 00:00');
        NEW.local_until := least(local_ends, local_begins + interval '366 days');
    END IF;
    RETURN NEW;
END $$;
DROP FUNCTION end_of_date(timestamptz, text);

-- What is there already: guard_resource sleeps, since these are no new versions.
ALTER TABLE resource DISABLE TRIGGER guard_resource;
UPDATE resource SET body = body;
ALTER TABLE resource ENABLE TRIGGER guard_resource;

-- 3. Histories of a type and of all, page by page.
CREATE INDEX resource_history_changed ON resource_history (resource_type, last_updated, resource_id, version_id);
ANALYZE resource, resource_history;

REVOKE EXECUTE ON FUNCTION change_time(boolean), date_length(text), named_range(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION change_time(boolean), date_length(text), named_range(text, text) TO firstread_machine, firstread_signer;
RESET ROLE;
RESET search_path;
