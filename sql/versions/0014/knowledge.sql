-- A site's knowledge base: files read into passages, found by the words in them. No patient data.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

CREATE TABLE knowledge_file (
    file_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    base text NOT NULL CHECK (base <> ''),
    path text NOT NULL CHECK (path <> ''),
    digest text NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (base, path)
);

CREATE TABLE knowledge_passage (
    passage_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id bigint NOT NULL REFERENCES knowledge_file ON DELETE CASCADE,
    base text NOT NULL,
    place text NOT NULL,
    title text NOT NULL,
    content text NOT NULL,
    names text[] NOT NULL,
    terms tsvector NOT NULL     -- words by Postgres' English stemmer, Chinese in pairs of characters
);
CREATE INDEX knowledge_passage_file ON knowledge_passage (file_id);
CREATE INDEX knowledge_passage_terms ON knowledge_passage USING gin (terms);

GRANT SELECT, INSERT, DELETE ON knowledge_file, knowledge_passage TO firstread_machine;
GRANT SELECT ON knowledge_file, knowledge_passage TO firstread_viewer;

RESET ROLE;
RESET search_path;
