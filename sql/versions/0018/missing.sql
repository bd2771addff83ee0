-- Received instances that were settled because their files were gone: few or none, and looked at by every run.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

CREATE INDEX instance_missing ON instance (instance_id) WHERE settled_code = 'file-missing';

RESET ROLE;
