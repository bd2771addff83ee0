"""``firstread rules test`` says what a run then does: the same study explained, and swept."""

import json
from pathlib import Path

import pydicom
from pydicom.uid import UID

from models.simulation.film import render
from tests.sites import firstread, rows, summary, write_site
from tests.synthetic import radiograph_header, write_chest

RULES = """
[[archives.main.rules]]
when = { StudyDescription = "*thx*", Modality = "OT" }
then = { modality = "DX", body_part = "CHEST", view = "PA" }
"""


def test_a_study_is_explained_and_then_drafted_with_the_rule_on_it(database_url: str, tmp_path: Path) -> None:
    header = radiograph_header("explained")
    path = write_chest(tmp_path / "files" / "1.dcm", header, pixels=render(7, held_out=True).pixels)
    dataset = pydicom.dcmread(path)
    for keyword in ("BodyPartExamined", "ViewPosition", "SeriesDescription", "ProtocolName"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.Modality, dataset.ConversionType, dataset.StudyDescription = "OT", "WSD", "RIS import THX"
    dataset.save_as(path)
    archive = {"main": {"kind": "folder", "path": str(tmp_path / "files")}}
    config = write_site(tmp_path, database_url, archive)

    def explained() -> tuple[int, dict[str, object]]:
        study = str(dataset.StudyInstanceUID)
        done = firstread("rules", "test", "--study", study, "--json", "--config", str(config), cwd=tmp_path)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    code, told = explained()
    assert (code, told["code"]) == (1, "not-radiograph")
    assert "firstread-mini reads frontal chest films" in str(told["outcome"])
    config.write_text(config.read_text() + RULES)
    code, told = explained()
    assert code == 0, told
    assert told["instances"] == [
        {
            "series": 1, "instances": 1, "what": "a radiograph of the chest as a secondary capture",
            "by": ("kind: rule 1; modality: rule 1; body part: rule 1; side: ImageLaterality; view: rule 1; "
            "intent: PresentationIntentType"),
            "rule": "rule 1: modality DX, body part CHEST, view PA",
        }
    ]  # fmt: skip
    done = firstread("run", "--json", "--config", str(config), cwd=tmp_path)
    assert summary(done)["reported"] == 1, done.stderr
    ((body,),) = rows(
        database_url, "SELECT body FROM firstread.resource WHERE resource_type = 'DiagnosticReport'"
    )
    assert "rule 1: modality DX, body part CHEST, view PA" in json.dumps(body)
