-- What searches ask of a resource beside its identifiers, kept in columns of its own, each with an index. The functions run
-- for every resource that is written: one pass over the body, no query, no setting changed.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

ALTER TABLE resource
    ADD COLUMN tokens text[] NOT NULL DEFAULT '{}',                   -- see search_tokens
    ADD COLUMN dated_from timestamptz NOT NULL DEFAULT '-infinity',   -- the date that a type is searched by, as the range
    ADD COLUMN dated_until timestamptz NOT NULL DEFAULT '-infinity';  -- that it names; -infinity: undated

-- As names are compared (FHIR R4 3.1.1.4.8): without case and accents.
CREATE FUNCTION search_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT lower(regexp_replace(normalize(value, NFD), '[\u0300-\u036F]', '', 'g'))
$$;

-- Codings of a search parameter in three forms, as identifier_tokens (0001): s=system|code, v=code, y=system.
CREATE FUNCTION coding_tokens(parameter text, codings jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    found text[] := '{}';
    system text;
    code text;
BEGIN
    IF jsonb_typeof(codings) = 'array' THEN
        FOR n IN 0 .. jsonb_array_length(codings) - 1 LOOP
            system := coalesce(codings -> n ->> 'system', '');
            code := codings -> n ->> 'code';
            IF code IS NOT NULL AND octet_length(system) + octet_length(code) < 1000 THEN  -- an index entry has its limit
                found := found || ARRAY[parameter || ':s=' || system || '|' || code, parameter || ':v=' || code,
                                        parameter || ':y=' || system];
            END IF;
        END LOOP;
    END IF;
    RETURN found;
END $$;

-- Parts of a Patient's names, as parameter:w=text; of the whole name each word too.
CREATE FUNCTION name_tokens(names jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(DISTINCT parameter || ':w=' || firstread.search_text(word)), '{}')
    FROM (
        SELECT 'family', one #>> '{}' FROM jsonb_path_query(names, '$[*].family') AS one
        UNION ALL
        SELECT 'given', one #>> '{}' FROM jsonb_path_query(names, '$[*].given[*]') AS one
        UNION ALL
        SELECT 'name', one #>> '{}' FROM jsonb_path_query(names, '$[*].*[*] ? (@.type() == "string")') AS one
        UNION ALL
        SELECT 'name', regexp_split_to_table(one #>> '{}', '\s+') FROM jsonb_path_query(names, '$[*].text') AS one
    ) AS found (parameter, word)
    WHERE word <> '' AND octet_length(word) < 1000
$$;

-- What a resource is found by: codings of code, category, modality and gender, and names.
CREATE FUNCTION search_tokens(body jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kind text := body ->> 'resourceType';
    found text[] := '{}';
    many jsonb;
BEGIN
    IF kind IN ('DiagnosticReport', 'Observation') THEN
        found := firstread.coding_tokens('code', body #> '{code,coding}');
        many := body -> 'category';
        IF jsonb_typeof(many) = 'array' THEN
            FOR n IN 0 .. jsonb_array_length(many) - 1 LOOP
                found := found || firstread.coding_tokens('category', many -> n -> 'coding');
            END LOOP;
        END IF;
    ELSIF kind = 'ImagingStudy' THEN
        found := firstread.coding_tokens('modality', jsonb_path_query_array(body, '$.series[*].modality'));
        RETURN ARRAY(SELECT DISTINCT one FROM unnest(found) AS one);  -- its series are much alike
    ELSIF kind = 'Patient' THEN
        found := firstread.name_tokens(body -> 'name')
              || firstread.coding_tokens('gender', jsonb_build_array(jsonb_build_object(
                     'system', 'http://hl7.org/fhir/administrative-gender', 'code', body -> 'gender')));
    END IF;
    RETURN found;
END $$;

-- The end of what a FHIR date, dateTime or instant that begins at begins names: as long as it is exact (R4 3.1.1.4.7).
CREATE FUNCTION end_of_date(begins timestamptz, value text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT (begins AT TIME ZONE 'UTC' + CASE
        WHEN length(value) = 4 THEN interval '1 year'
        WHEN length(value) = 7 THEN interval '1 month'
        WHEN length(value) = 10 THEN interval '1 day'
        WHEN value LIKE '%.%' THEN interval '1 millisecond'
        ELSE interval '1 second'
    END) AT TIME ZONE 'UTC'
$$;

-- The tokens, and the range of the date by which a type is searched: effective[x], started, birthDate or recorded.
CREATE FUNCTION index_resource() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    said text := coalesce(NEW.body ->> 'effectiveDateTime', NEW.body ->> 'started');
    begins timestamptz := NEW.effective_at;  -- of those two, by guard_resource
    ends timestamptz;
    period jsonb := NEW.body -> 'effectivePeriod';
BEGIN
    NEW.tokens := firstread.search_tokens(NEW.body);
    IF said IS NULL THEN
        said := coalesce(NEW.body ->> 'effectiveInstant', NEW.body ->> 'birthDate', NEW.body ->> 'recorded');
        begins := firstread.first_instant(said);
    END IF;
    ends := firstread.end_of_date(begins, said);
    IF period IS NOT NULL THEN
        begins := coalesce(firstread.first_instant(period ->> 'start'), '0001-01-01 00:00+00');
        ends := coalesce(firstread.end_of_date(firstread.first_instant(period ->> 'end'), period ->> 'end'),
                         '9999-12-31 00:00+00');
    END IF;
    IF begins IS NULL THEN  -- it names no date, or none that is one
        NEW.dated_from := '-infinity';
        NEW.dated_until := '-infinity';
    ELSE
        NEW.dated_from := least(begins, '9999-12-31 00:00+00');  -- as far as clients can read
        NEW.dated_until := least(ends, begins + interval '366 days');  -- a search counts on it; only a period can be longer
    END IF;
    RETURN NEW;
END $$;

-- After guard_resource, by its name.
CREATE TRIGGER index_resource BEFORE INSERT OR UPDATE ON resource
    FOR EACH ROW EXECUTE FUNCTION index_resource();

-- What is there already: the other triggers sleep, since these are no new versions.
ALTER TABLE resource DISABLE TRIGGER guard_resource;
ALTER TABLE resource DISABLE TRIGGER keep_history;
UPDATE resource SET body = body;
ALTER TABLE resource ENABLE TRIGGER guard_resource;
ALTER TABLE resource ENABLE TRIGGER keep_history;

CREATE INDEX resource_tokens ON resource USING gin (tokens);
CREATE INDEX resource_dated ON resource (resource_type, dated_from, resource_id) INCLUDE (dated_until);
CREATE INDEX resource_status ON resource (resource_type, status) WHERE status IS NOT NULL;
ANALYZE resource;

REVOKE EXECUTE ON FUNCTION search_text(text), coding_tokens(text, jsonb), name_tokens(jsonb), search_tokens(jsonb),
    end_of_date(timestamptz, text), index_resource() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_text(text), coding_tokens(text, jsonb), name_tokens(jsonb), search_tokens(jsonb),
    end_of_date(timestamptz, text) TO firstread_machine, firstread_signer;
RESET ROLE;
RESET search_path;
