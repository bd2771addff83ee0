-- What searches ask of a resource beside its identifiers, kept in columns of its own, each with an index.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

ALTER TABLE resource
    ADD COLUMN tokens text[] NOT NULL DEFAULT '{}',               -- see search_tokens
    ADD COLUMN dated_from timestamptz NOT NULL DEFAULT '-infinity',   -- the date that a type is searched by, as the range
    ADD COLUMN dated_until timestamptz NOT NULL DEFAULT '-infinity';  -- that it names; -infinity: undated

-- As names are compared (FHIR R4 3.1.1.4.8): without case and accents.
CREATE FUNCTION search_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT lower(regexp_replace(normalize(value, NFD), '[\u0300-\u036F]', '', 'g'))
$$;

-- Codings of a search parameter in three forms, as identifier_tokens (0001): s=system|code, v=code, y=system.
CREATE FUNCTION coding_tokens(parameter text, coding jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY[parameter || ':s=' || coalesce(coding ->> 'system', '') || '|' || (coding ->> 'code'),
                 parameter || ':v=' || (coding ->> 'code'),
                 parameter || ':y=' || coalesce(coding ->> 'system', '')]
$$;

-- What a resource is found by: codings of code, category, modality and gender; parts of a Patient's name as
-- parameter:w=text, each word of the whole name too.
CREATE FUNCTION search_tokens(body jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = firstread, pg_temp AS $$
    SELECT coalesce(array_agg(DISTINCT token), '{}')
    FROM (
        SELECT unnest(coding_tokens('code', one)) FROM jsonb_path_query(body, '$.code.coding[*] ? (exists (@.code))') AS one
        UNION ALL
        SELECT unnest(coding_tokens('category', one))
        FROM jsonb_path_query(body, '$.category[*].coding[*] ? (exists (@.code))') AS one
        UNION ALL
        SELECT unnest(coding_tokens('modality', one))
        FROM jsonb_path_query(body, '$.series[*].modality ? (exists (@.code))') AS one
        UNION ALL
        SELECT unnest(coding_tokens('gender', jsonb_build_object(
            'system', 'http://hl7.org/fhir/administrative-gender', 'code', body -> 'gender')))
        WHERE body ? 'gender'
        UNION ALL
        SELECT 'family:w=' || search_text(one #>> '{}') FROM jsonb_path_query(body, '$.name[*].family') AS one
        UNION ALL
        SELECT 'given:w=' || search_text(one #>> '{}') FROM jsonb_path_query(body, '$.name[*].given[*]') AS one
        UNION ALL
        SELECT 'name:w=' || search_text(word)
        FROM jsonb_path_query(body, '$.name[*].text') AS one,
             LATERAL (SELECT one #>> '{}' UNION ALL SELECT regexp_split_to_table(one #>> '{}', '\s+')) AS words (word)
        WHERE word <> ''
        UNION ALL
        SELECT 'name:w=' || search_text(one #>> '{}')
        FROM jsonb_path_query(body, '$.name[*].*[*] ? (@.type() == "string")') AS one
    ) AS found (token)
    WHERE token IS NOT NULL AND octet_length(token) < 2000  -- an index entry has its limit
$$;

-- The end of what a FHIR date, dateTime or instant that begins at begins names: as long as it is exact (R4 3.1.1.4.7).
CREATE FUNCTION end_of_date(begins timestamptz, value text) RETURNS timestamptz
LANGUAGE sql STABLE SET timezone = 'UTC' AS $$
    SELECT begins + CASE
        WHEN length(value) = 4 THEN interval '1 year'
        WHEN length(value) = 7 THEN interval '1 month'
        WHEN length(value) = 10 THEN interval '1 day'
        WHEN value ~ '\.\d' THEN interval '1 millisecond'
        ELSE interval '1 second'
    END
$$;

-- The range of the date by which a type is searched: effective[x], started, birthDate or recorded.
CREATE FUNCTION resource_dates(body jsonb, OUT begins timestamptz, OUT ends timestamptz)
LANGUAGE plpgsql STABLE SET search_path = firstread, pg_temp AS $$
DECLARE
    period jsonb := body -> 'effectivePeriod';
    said text := coalesce(body ->> 'effectiveDateTime', body ->> 'effectiveInstant', body ->> 'started',
                          body ->> 'birthDate', body ->> 'recorded');
BEGIN
    IF period IS NOT NULL THEN
        begins := coalesce(first_instant(period ->> 'start'), '0001-01-01 00:00+00');
        ends := coalesce(end_of_date(first_instant(period ->> 'end'), period ->> 'end'), '9999-12-31 00:00+00');
    ELSIF said IS NOT NULL THEN
        begins := first_instant(said);
        ends := end_of_date(begins, said);
    END IF;
    IF begins IS NULL THEN  -- it names no date, or none that is one
        begins := '-infinity';
        ends := '-infinity';
        RETURN;
    END IF;
    ends := least(ends, begins + interval '366 days');  -- what a search may count on; only a period can be longer
    begins := least(begins, '9999-12-31 00:00+00');  -- as far as clients can read
END $$;

CREATE FUNCTION index_resource() RETURNS trigger
LANGUAGE plpgsql SET search_path = firstread, pg_temp AS $$
BEGIN
    NEW.tokens := search_tokens(NEW.body);
    SELECT begins, ends INTO NEW.dated_from, NEW.dated_until FROM resource_dates(NEW.body);
    RETURN NEW;
END $$;

-- What is there already: the triggers sleep, since these are no new versions.
ALTER TABLE resource DISABLE TRIGGER USER;
UPDATE resource AS r SET tokens = search_tokens(r.body), dated_from = begins, dated_until = ends
FROM resource AS one, LATERAL resource_dates(one.body)
WHERE r.resource_type = one.resource_type AND r.resource_id = one.resource_id;
ALTER TABLE resource ENABLE TRIGGER USER;

-- After guard_resource, by its name.
CREATE TRIGGER index_resource BEFORE INSERT OR UPDATE ON resource
    FOR EACH ROW EXECUTE FUNCTION index_resource();

CREATE INDEX resource_tokens ON resource USING gin (tokens);
CREATE INDEX resource_dated ON resource (resource_type, dated_from, resource_id) INCLUDE (dated_until);
CREATE INDEX resource_status ON resource (resource_type, status) WHERE status IS NOT NULL;
ANALYZE resource;

REVOKE EXECUTE ON FUNCTION search_text(text), coding_tokens(text, jsonb), search_tokens(jsonb),
    end_of_date(timestamptz, text), resource_dates(jsonb), index_resource() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_text(text), coding_tokens(text, jsonb), search_tokens(jsonb),
    end_of_date(timestamptz, text), resource_dates(jsonb) TO firstread_machine, firstread_signer;
RESET ROLE;
RESET search_path;
