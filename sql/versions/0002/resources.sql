-- What belongs to which report, and a status machine that knows withdrawal.

ALTER TABLE resource ADD COLUMN report_id text;  -- of Observation and Provenance: the report they were drafted for
CREATE INDEX resource_report ON resource (report_id) WHERE report_id IS NOT NULL;

-- As in 0001, and: the machine withdraws its own drafts (entered-in-error) and may take the withdrawal back. What a person
-- has withdrawn was written by the signer, and stays (guard_resource).
CREATE OR REPLACE FUNCTION status_allowed(writer text, status_from text, status_to text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN writer = 'machine' THEN
            status_to IN ('registered', 'partial', 'preliminary', 'cancelled', 'entered-in-error')
            AND coalesce(status_from, 'registered')
                IN ('registered', 'partial', 'preliminary', 'cancelled', 'entered-in-error')
            AND NOT (status_to = 'registered' AND coalesce(status_from, 'registered') <> 'registered')
            AND NOT (status_to = 'entered-in-error' AND status_from IS NULL)
        WHEN status_from IS NULL THEN
            status_to IN ('registered', 'partial', 'preliminary')
        WHEN status_from IN ('registered', 'partial', 'preliminary') THEN
            status_to IN ('partial', 'preliminary', 'final', 'cancelled', 'entered-in-error')
        WHEN status_from IN ('final', 'amended', 'corrected', 'appended') THEN
            status_to IN ('amended', 'corrected', 'appended', 'entered-in-error')
        ELSE false
    END
$$;

-- True where a body says of itself, of something contained or of an entry that a person has finished it.
CREATE FUNCTION says_finished(body jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(body ->> 'status' IN ('final', 'amended', 'corrected', 'appended'), false)
        OR coalesce(body ->> 'docStatus' IN ('final', 'amended'), false)
        OR ((body ? 'contained' OR body ? 'entry') AND jsonb_path_exists(body,
            '$.** ? (@.status == "final" || @.status == "amended" || @.status == "corrected"
                     || @.status == "appended" || @.docStatus == "final" || @.docStatus == "amended")'))
$$;

CREATE OR REPLACE FUNCTION guard_resource() RETURNS trigger
LANGUAGE plpgsql SET search_path = firstread, pg_temp AS $$
DECLARE
    writer text := writing_as();
    status_from text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'resources are not deleted' USING ERRCODE = 'FR004';
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
    NEW.last_updated := date_trunc('milliseconds', clock_timestamp());  -- as exact as it is served
    NEW.patient := coalesce(NEW.body #>> '{subject,reference}', NEW.body #>> '{patient,reference}');
    NEW.effective_at := first_instant(coalesce(NEW.body ->> 'effectiveDateTime', NEW.body ->> 'started'));
    NEW.identifiers := CASE WHEN NEW.body ? 'identifier'
                            THEN identifier_tokens(NEW.body -> 'identifier') ELSE '{}' END;
    RETURN NEW;
END $$;
