-- What was received without being asked for (C-STORE): a row is here before the sender is told Success.

CREATE TABLE instance (
    instance_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    archive text NOT NULL,
    study_instance_uid text NOT NULL,
    series_instance_uid text NOT NULL,
    sop_instance_uid text NOT NULL,
    sha256 text NOT NULL,
    size bigint NOT NULL,
    sop_class_uid text NOT NULL,
    transfer_syntax_uid text NOT NULL,
    path text NOT NULL,
    peer text NOT NULL,                  -- calling AE title
    conflict boolean NOT NULL,           -- this UID had come before with other bytes; both are kept
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    handed_over_at timestamptz,
    UNIQUE (archive, sop_instance_uid, sha256)
);
CREATE INDEX instance_study ON instance (archive, study_instance_uid);
CREATE INDEX instance_waiting ON instance (archive, study_instance_uid, received_at) WHERE handed_over_at IS NULL;
