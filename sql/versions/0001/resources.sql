-- FHIR R4 resources: the current version of each, and every version ever written.

CREATE TABLE resource (
    resource_type text NOT NULL,
    resource_id text NOT NULL CHECK (resource_id ~ '^[A-Za-z0-9.-]{1,64}$'),
    version_id integer NOT NULL,
    last_updated timestamptz NOT NULL,
    body jsonb NOT NULL,
    study_instance_uid text,               -- null for what belongs to no one study (Patient, Device, Organization)
    written_by text NOT NULL,              -- 'machine' or 'signer'
    status text,
    patient text,                          -- reference, as in the body: Patient/<id>
    identifiers text[] NOT NULL DEFAULT '{}',  -- tokens, see identifier_tokens
    effective_at timestamptz,
    PRIMARY KEY (resource_type, resource_id)
) WITH (fillfactor = 70);

CREATE INDEX resource_newest ON resource (resource_type, last_updated DESC, resource_id DESC);
CREATE INDEX resource_patient ON resource (patient) WHERE patient IS NOT NULL;
CREATE INDEX resource_study ON resource (study_instance_uid) WHERE study_instance_uid IS NOT NULL;
CREATE INDEX resource_identifiers ON resource USING gin (identifiers) WITH (fastupdate = off);

CREATE TABLE resource_history (
    resource_type text NOT NULL,
    resource_id text NOT NULL,
    version_id integer NOT NULL,
    last_updated timestamptz NOT NULL,
    body jsonb NOT NULL,
    written_by text NOT NULL,
    PRIMARY KEY (resource_type, resource_id, version_id)
);

-- Who writes: a member of firstread_signer is a person's application, everybody else (the owner and a superuser
-- too) is the machine. Membership counts where it is in force without SET ROLE, or after it.
CREATE FUNCTION writing_as() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN current_user = 'firstread_signer' THEN 'signer'
        WHEN current_user <> 'firstread_machine'
             AND pg_has_role(current_user, 'firstread_signer', 'USAGE')
             AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN 'signer'
        ELSE 'machine'
    END
$$;

-- The status machine of DiagnosticReport and Observation (FHIR R4 diagnostic-report-status, observation-status).
CREATE FUNCTION status_allowed(writer text, status_from text, status_to text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN writer = 'machine' THEN
            status_to IN ('registered', 'partial', 'preliminary', 'cancelled')
            AND coalesce(status_from, 'registered') IN ('registered', 'partial', 'preliminary', 'cancelled')
            AND NOT (status_to = 'registered' AND coalesce(status_from, '') IN ('partial', 'preliminary', 'cancelled'))
        WHEN status_from IS NULL THEN
            status_to IN ('registered', 'partial', 'preliminary')
        WHEN status_from IN ('registered', 'partial', 'preliminary') THEN
            status_to IN ('partial', 'preliminary', 'final', 'cancelled', 'entered-in-error')
        WHEN status_from IN ('final', 'amended', 'corrected', 'appended') THEN
            status_to IN ('amended', 'corrected', 'appended', 'entered-in-error')
        ELSE false
    END
$$;

CREATE FUNCTION first_instant(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT SET timezone = 'UTC' AS $$
BEGIN
    -- FHIR dates may stop at the year or the month: the first instant of what they name
    RETURN CASE length(value)
        WHEN 4 THEN (value || '-01-01')::timestamptz
        WHEN 7 THEN (value || '-01')::timestamptz
        ELSE value::timestamptz
    END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;  -- not a date: the resource is kept, it is only not found by date
END $$;

-- Each identifier as the three things FHIR can search by: s=system|value, v=value, y=system.
CREATE FUNCTION identifier_tokens(identifiers jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(DISTINCT token), '{}')
    FROM jsonb_array_elements(
             CASE jsonb_typeof(identifiers) WHEN 'array' THEN identifiers
                                            WHEN 'object' THEN jsonb_build_array(identifiers)
                                            ELSE '[]' END) AS one,
         LATERAL (VALUES ('s=' || coalesce(one ->> 'system', '') || '|' || (one ->> 'value')),
                         ('v=' || (one ->> 'value')),
                         ('y=' || coalesce(one ->> 'system', ''))) AS three (token)
    WHERE token IS NOT NULL
$$;

CREATE FUNCTION guard_resource() RETURNS trigger
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
    ELSE
        NEW.version_id := 1;
    END IF;
    IF NEW.resource_type IN ('DiagnosticReport', 'Observation')
       AND NOT coalesce(status_allowed(writer, status_from, NEW.status), false) THEN
        RAISE EXCEPTION 'status % after % is not for the % to write',
            coalesce(NEW.status, 'none'), coalesce(status_from, 'none'), writer USING ERRCODE = 'FR002';
    END IF;
    NEW.written_by := writer;
    NEW.last_updated := date_trunc('milliseconds', clock_timestamp());  -- as exact as it is served
    NEW.patient := coalesce(NEW.body #>> '{subject,reference}', NEW.body #>> '{patient,reference}');
    NEW.effective_at := first_instant(coalesce(NEW.body ->> 'effectiveDateTime', NEW.body ->> 'started'));
    NEW.identifiers := CASE WHEN NEW.body ? 'identifier'
                            THEN identifier_tokens(NEW.body -> 'identifier') ELSE '{}' END;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_resource BEFORE INSERT OR UPDATE OR DELETE ON resource
    FOR EACH ROW EXECUTE FUNCTION guard_resource();

-- Every version is kept, whoever wrote it and however.
CREATE FUNCTION keep_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = firstread, pg_temp AS $$
BEGIN
    INSERT INTO resource_history (resource_type, resource_id, version_id, last_updated, body, written_by)
    VALUES (NEW.resource_type, NEW.resource_id, NEW.version_id, NEW.last_updated, NEW.body, NEW.written_by);
    RETURN NULL;
END $$;

CREATE TRIGGER keep_history AFTER INSERT OR UPDATE ON resource
    FOR EACH ROW EXECUTE FUNCTION keep_history();

CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'FR004';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON resource_history
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON resource_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON resource
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
