-- The audit: FHIR AuditEvents, append-only, each row holding the digest of its predecessor in its chain.
-- A chain per archive (and one for reading) keeps writers of different archives from waiting for each other.

CREATE TABLE audit_chain (
    chain text PRIMARY KEY CHECK (chain !~ '[\n]'),
    place bigint NOT NULL DEFAULT 0,         -- rows so far: a removed tail is noticed by it
    previous_hash bytea NOT NULL DEFAULT '\x',
    row_hash bytea NOT NULL DEFAULT '\x'        -- of the last row
) WITH (fillfactor = 50);

CREATE TABLE audit_event (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain text NOT NULL REFERENCES audit_chain,
    place bigint NOT NULL,
    recorded timestamptz NOT NULL,
    ledger_id bigint,
    event json NOT NULL,                        -- json, not jsonb: the text as it was written is what is hashed
    previous_hash bytea NOT NULL,
    row_hash bytea NOT NULL,
    UNIQUE (chain, place)
);
CREATE INDEX audit_event_study ON audit_event (ledger_id) WHERE ledger_id IS NOT NULL;

-- SHA-256 over these lines, in UTF-8: predecessor's digest (hex), chain, place, time (UTC, microseconds),
-- ledger id or empty, event. The event comes last, so the lines before it cannot be confused with it.
CREATE FUNCTION audit_hash(
    previous bytea, chain text, place bigint, recorded timestamptz, ledger_id bigint, event text
) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(convert_to(
        encode(previous, 'hex') || E'\n' || chain || E'\n' || place || E'\n'
        || to_char(recorded AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || E'\n'
        || coalesce(ledger_id::text, '') || E'\n' || event,
        'UTF8'))
$$;

-- Runs with the owner's rights: no application role can touch the heads.
CREATE FUNCTION chain_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = firstread, pg_temp AS $$
DECLARE
    head audit_chain;
BEGIN
    NEW.recorded := clock_timestamp();
    LOOP
        UPDATE audit_chain AS c
        SET place = c.place + 1,
            previous_hash = c.row_hash,
            row_hash = audit_hash(
                c.row_hash, c.chain, c.place + 1, NEW.recorded, NEW.ledger_id, NEW.event::text)
        WHERE c.chain = NEW.chain
        RETURNING c.* INTO head;
        EXIT WHEN FOUND;
        INSERT INTO audit_chain (chain) VALUES (NEW.chain) ON CONFLICT DO NOTHING;
    END LOOP;
    NEW.place := head.place;
    NEW.previous_hash := head.previous_hash;
    NEW.row_hash := head.row_hash;
    RETURN NEW;
END $$;

CREATE TRIGGER chain_audit BEFORE INSERT ON audit_event
    FOR EACH ROW EXECUTE FUNCTION chain_audit();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER heads_stay BEFORE DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
