-- Segmentations of ours as DICOM files, and their outlines on the pictures of the review page.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

CREATE TABLE mask (
    sop_instance_uid text PRIMARY KEY,
    series_instance_uid text NOT NULL,
    sop_class_uid text NOT NULL,
    report_id text NOT NULL,
    version integer NOT NULL,
    content bytea NOT NULL,
    sha256 text NOT NULL GENERATED ALWAYS AS (encode(sha256(content), 'hex')) STORED,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (report_id, version) REFERENCES report_version
);
CREATE INDEX mask_report ON mask (report_id);

CREATE TABLE preview_overlay (
    report_id text NOT NULL,
    version integer NOT NULL,
    ordinal integer NOT NULL,
    png bytea NOT NULL,
    PRIMARY KEY (report_id, version, ordinal),
    FOREIGN KEY (report_id, version, ordinal) REFERENCES preview
);
ALTER TABLE preview_overlay ALTER COLUMN png SET STORAGE EXTERNAL;  -- a PNG does not compress again

-- What a report brings beside its text: the first of two files of one UID stays, as DICOM has it.
CREATE FUNCTION save_masks(
    p_report_id text, p_version integer, p_series text[], p_instances text[], p_classes text[], p_contents bytea[],
    p_ordinals integer[], p_pngs bytea[]
) RETURNS void
LANGUAGE sql SET search_path = firstread, pg_temp AS $$
    INSERT INTO mask (sop_instance_uid, series_instance_uid, sop_class_uid, report_id, version, content)
    SELECT one.instance, one.series, one.class, p_report_id, p_version, one.content
    FROM unnest(p_series, p_instances, p_classes, p_contents) AS one (series, instance, class, content)
    ON CONFLICT DO NOTHING;
    INSERT INTO preview_overlay (report_id, version, ordinal, png)
    SELECT p_report_id, p_version, one.ordinal, one.png
    FROM unnest(p_ordinals, p_pngs) AS one (ordinal, png)
    ON CONFLICT DO NOTHING;
$$;

REVOKE EXECUTE ON FUNCTION save_masks(text, integer, text[], text[], text[], bytea[], integer[], bytea[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION save_masks(text, integer, text[], text[], text[], bytea[], integer[], bytea[])
    TO firstread_machine;
GRANT SELECT, INSERT ON mask, preview_overlay TO firstread_machine;
GRANT SELECT ON mask, preview_overlay TO firstread_signer, firstread_viewer;

RESET ROLE;
RESET search_path;
