-- What storing a study calls often, made lean (bench_store): no plan and no setting of its own for each call.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- As in 0001: a function in plpgsql keeps its plan for the session, one in SQL plans at each call.
CREATE OR REPLACE FUNCTION writing_as() RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF current_user = 'firstread_machine' THEN
        RETURN 'machine';
    ELSIF current_user = 'firstread_signer' THEN
        RETURN 'signer';
    ELSIF pg_catalog.pg_has_role(current_user, 'firstread_signer', 'USAGE')
          AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RETURN 'signer';
    END IF;
    RETURN 'machine';
END $$;

CREATE OR REPLACE FUNCTION append_audit(p_chain text, p_ledger_id bigint, p_events json) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO firstread.audit_event (chain, ledger_id, event, place, recorded, previous_hash, row_hash)
    SELECT p_chain, p_ledger_id, one.value, 0, now(), '', ''
    FROM json_array_elements(p_events) WITH ORDINALITY AS one (value, place)
    ORDER BY one.place;
END $$;

CREATE OR REPLACE FUNCTION identifier_tokens(identifiers jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    many jsonb := CASE jsonb_typeof(identifiers) WHEN 'array' THEN identifiers
                                                 WHEN 'object' THEN jsonb_build_array(identifiers)
                                                 ELSE '[]' END;
    found text[] := '{}';
    system text;
    value text;
BEGIN
    FOR n IN 0 .. jsonb_array_length(many) - 1 LOOP
        system := coalesce(many -> n ->> 'system', '');
        value := many -> n ->> 'value';
        found := found || ('y=' || system);
        IF value IS NOT NULL THEN
            found := found || ARRAY['s=' || system || '|' || value, 'v=' || value];
        END IF;
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT one FROM unnest(found) AS one ORDER BY one);
END $$;

-- It is written out where it is called: said to be as constant as what it calls (to_char).
ALTER FUNCTION audit_hash(bytea, text, bigint, timestamptz, bigint, text) STABLE;

-- As in 0011, and: only the last event is taken out of its text and put back.
CREATE OR REPLACE FUNCTION with_written(p_events json, p_written jsonb) RETURNS json
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    events text := p_events::text;
    last text := p_events ->> -1;
    changed text;
    keys text[];  -- in their order
BEGIN
    IF json_array_length(p_events) = 0 OR jsonb_array_length(p_written) = 0 THEN
        RETURN p_events;
    END IF;
    keys := ARRAY(SELECT json_object_keys(last::json));
    IF last LIKE '%}]}' AND keys[cardinality(keys)] = 'entity' THEN
        changed := left(last, -2) || ',' || substr(p_written::text, 2) || '}';
    ELSIF last LIKE '%}' AND NOT 'entity' = ANY (keys) AND cardinality(keys) > 0 THEN
        changed := left(last, -1) || ',"entity":' || p_written::text || '}';
    ELSE
        changed := last::jsonb || jsonb_build_object('entity', coalesce(last::jsonb -> 'entity', '[]') || p_written);
    END IF;
    IF right(events, length(last) + 1) = last || ']' THEN
        RETURN left(events, -1 - length(last)) || changed || ']';
    END IF;
    RETURN (SELECT '[' || string_agg(CASE WHEN one.place < json_array_length(p_events) THEN one.value::text
                                          ELSE changed END, ',' ORDER BY one.place) || ']'
            FROM json_array_elements(p_events) WITH ORDINALITY AS one (value, place));
END $$;

-- The change time of this transaction that was taken already (p_final: the final one), or null: what every row asks first.
CREATE FUNCTION taken_change_time(p_final boolean) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
    taken text[] := string_to_array(current_setting('firstread.change_time', true), ' ');  -- transaction, time, final
BEGIN
    IF taken[1] = pg_current_xact_id_if_assigned()::text AND (taken[3]::boolean OR NOT p_final) THEN
        RETURN timestamptz 'epoch' + taken[2]::bigint * interval '1 millisecond';
    END IF;
    RETURN NULL;
END $$;

-- As in 0008, but both ask what was taken already before they take a time.
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
    NEW.last_updated := coalesce(taken_change_time(false), change_time(false));
    NEW.patient := coalesce(NEW.body #>> '{subject,reference}', NEW.body #>> '{patient,reference}');
    NEW.effective_at := first_instant(coalesce(NEW.body ->> 'effectiveDateTime', NEW.body ->> 'started'));
    NEW.identifiers := CASE WHEN NEW.body ? 'identifier'
                            THEN identifier_tokens(NEW.body -> 'identifier') ELSE '{}' END;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION keep_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = firstread, pg_temp AS $$
DECLARE
    settled timestamptz := coalesce(taken_change_time(true), change_time(true));
BEGIN
    INSERT INTO resource_history (resource_type, resource_id, version_id, last_updated, body, written_by)
    VALUES (NEW.resource_type, NEW.resource_id, NEW.version_id, settled, NEW.body, NEW.written_by);
    IF NEW.last_updated <> settled THEN
        UPDATE resource SET last_updated = settled
        WHERE resource_type = NEW.resource_type AND resource_id = NEW.resource_id AND last_updated <> settled;
    END IF;
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION taken_change_time(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION taken_change_time(boolean) TO firstread_machine, firstread_signer;
RESET ROLE;
RESET search_path;
