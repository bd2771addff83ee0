-- What sweeps have covered, and whether drafting is paused.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- One row for each sweep of an archive. Ended: the archive was heard to the end and what it has was worked on.
CREATE TABLE sweep (
    sweep_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    archive text NOT NULL,
    recipe text NOT NULL,
    since date,                 -- study dates asked for, both inclusive; null: no bound
    until date,
    onward boolean NOT NULL,    -- it went on from what was covered, nobody named its dates
    whole_until date NOT NULL,  -- the last asked day that was over, where the archive is, when it began
    begun_at timestamptz NOT NULL,
    ended_at timestamptz,
    covered_until date          -- every day up to here is covered, counted from the first onward sweep; null: none
);
CREATE INDEX sweep_ended ON sweep (archive, ended_at) WHERE ended_at IS NOT NULL;

-- A stop by hand: it holds until someone resumes, whatever an orchestrator does with its schedules.
CREATE TABLE pause (
    pause_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by text NOT NULL CHECK (paused_by <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    resumed_at timestamptz,
    resumed_by text,
    CHECK ((resumed_at IS NULL) = (resumed_by IS NULL))
);
CREATE UNIQUE INDEX pause_holding ON pause ((true)) WHERE resumed_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON sweep, pause TO firstread_machine;
RESET ROLE;
RESET search_path;
