"""ImagingStudy.series: body site and laterality are codings where every instance is certain, else the header has it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from pipeline.fhir.imaging_study import imaging_study
from pipeline.images.context import study_context
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits
from pipeline.study_context import InstanceDescription
from tests.synthetic import chest_pixels, radiograph_header, write_chest
from tests.unit.fhir_samples import COMPLETE, CONTEXT, SITE

SNOMED = "http://snomed.info/sct"


def described(folder: Path, **said: str) -> InstanceDescription:
    """A film as its own header describes it."""
    path = write_chest(folder / "1.dcm", radiograph_header("site"), pixels=chest_pixels(48, 40))
    dataset = pydicom.dcmread(path)
    for keyword in ("AnatomicRegionSequence", "BodyPartExamined", "ImageLaterality", "Laterality"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    context = study_context(str(dataset.StudyInstanceUID), [read_header(path, ImageLimits())])
    return context.instances[0]


def series(*instances: InstanceDescription) -> Any:
    context = replace(CONTEXT, instances=instances)
    return imaging_study(context, COMPLETE, SITE, {"reference": "Patient/1"})["series"][0]


@pytest.mark.parametrize(
    ("said", "site", "side"),
    [
        (
            {"BodyPartExamined": "HAND", "ImageLaterality": "L"},
            {"system": SNOMED, "code": "85562004", "display": "Hand structure"},
            {"system": SNOMED, "code": "7771000", "display": "Left"},
        ),
        ({"BodyPartExamined": "NOSUCHPART"}, {"display": "NOSUCHPART"}, None),
        ({"SeriesDescription": "hand"}, None, None),
        (
            {"BodyPartExamined": "CHEST", "Laterality": "B"},
            {"system": SNOMED, "code": "816094009", "display": "Thorax"},
            {"system": SNOMED, "code": "51440002", "display": "Bilateral"},
        ),
    ],
)
def test_what_is_certain_is_coded(said: dict[str, str], site: Any, side: Any, tmp_path: Path) -> None:
    found = series(described(tmp_path, **said))
    assert (found.get("bodySite"), found.get("laterality")) == (site, side)


def test_instances_that_differ_are_not_coded(tmp_path: Path) -> None:
    hand = described(tmp_path, BodyPartExamined="HAND", ImageLaterality="L")
    knee = described(tmp_path, BodyPartExamined="KNEE", ImageLaterality="R")
    found = series(hand, replace(knee, ref=replace(knee.ref, sop_instance_uid="2.25.9")))
    assert found["bodySite"] == {"display": "HAND"}
    assert "laterality" not in found
