"""What a family declares beside films of the chest reaches its network: every kind, with small random weights.

A declaration without a way through would let studies be retrieved and fail; the pictures that are encoded are counted.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from models.catalog import list_models, show
from models.families.registry import ADAPTERS
from models.family import Family, Request, Task
from pipeline.accepts import Accepts, Kind
from pipeline.images import prepare_for, read_headers
from pipeline.report import Language
from pipeline.study import FetchedStudy, HeldInstance, ImageSet, InstanceRef
from tests.ct_series import stack, write_series
from tests.kind_samples import write_picture
from tests.tiny_families import TINY, tiny_family

FAMILIES = sorted(
    entry.id for entry in list_models() if entry.accepts and entry.adapter in ADAPTERS and entry.id in TINY
)
SUFFIXES = {
    Kind.FILM: ("1.1", "DX"), Kind.MAMMOGRAM: ("1.2", "MG"), Kind.PHOTOGRAPH: ("77.1.4", "XC"),
    Kind.OPHTHALMIC: ("77.1.5.1", "OP"), Kind.ULTRASOUND: ("6.1", "US"), Kind.OCT: ("77.1.5.4", "OPT"),
    Kind.CINE: ("3.1", "US"), Kind.NUCLEAR: ("20", "NM"), Kind.TOMOSYNTHESIS: ("13.1.3", "MG"),
}  # fmt: skip
IN_COLOURS = (Kind.PHOTOGRAPH, Kind.OPHTHALMIC)
PLANES = 3


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Family]]:
    with ExitStack() as stack_:
        opened: Any = tiny_family(request.param, tmp_path_factory.mktemp("weights")).open()
        if hasattr(opened, "__exit__"):
            stack_.enter_context(opened)
        yield request.param, opened


def study_of(folder: Path, accepted: Accepts) -> FetchedStudy:
    """Instances of the kind, of the first modality that is named."""
    if accepted.kind is Kind.SLICES:
        paths = write_series(
            folder, stack(PLANES, rows=64, columns=64), modality=(*accepted.modalities, "CT")[0]
        )
    else:
        suffix, modality = SUFFIXES[accepted.kind]
        modality = (
            modality if not accepted.modalities or modality in accepted.modalities else accepted.modalities[0]
        )
        grey = np.tile(np.linspace(0, 250, 80, dtype=np.uint8), (72, 1))
        pixels = np.stack([grey, grey // 2, 255 - grey], axis=-1) if accepted.kind in IN_COLOURS else grey
        paths = [write_picture(folder / "1.dcm", suffix, modality, pixels, f"kind {accepted.kind}")]
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    uid = str(headers[0].StudyInstanceUID)
    held = tuple(
        HeldInstance(
            InstanceRef(uid, str(one.SeriesInstanceUID), str(one.SOPInstanceUID)), path, "", 0, "", ""
        )
        for one, path in zip(headers, paths, strict=True)
    )
    return FetchedStudy(uid, (), held, (), folder)


def prepared(folder: Path, model_id: str, accepted: Accepts) -> ImageSet:
    study = study_of(folder, accepted)
    return prepare_for(study, read_headers(study), show(model_id).reader)[1]


def test_every_kind_reaches_the_network(family: tuple[str, Family], tmp_path: Path) -> None:
    model_id, opened = family
    read = [one for one in show(model_id).accepts if one.kind is not Kind.VIDEO]  # tests/unit/test_video.py
    for number, accepted in enumerate(read):
        image_set = prepared(tmp_path / str(number), model_id, accepted)
        wanted = min(PLANES, accepted.most) if accepted.kind is Kind.SLICES else 1
        assert len(image_set.images) == wanted, accepted
        assert not image_set.chest
        (features,) = opened.encode([image_set])
        assert len(features.images) == wanted, accepted
        assert {one.ref for one in features.images} == {one.ref for one in image_set.images}
        task = Task.CLASSIFY if Task.CLASSIFY in opened.tasks else Task.REPORT
        request = Request(task, Language.ENGLISH, labels=("normal", "abnormal"))
        (answer,) = opened.answer([features], [request])
        assert isinstance(answer.text, str)


def test_what_is_seen_depends_on_the_colours(family: tuple[str, Family], tmp_path: Path) -> None:
    """A picture whose colours are changed gives other features: it was not made grey on the way."""
    model_id, opened = family
    accepted = next((one for one in show(model_id).accepts if one.kind in IN_COLOURS), None)
    if accepted is None:
        pytest.skip("reads no colours")
    image_set = prepared(tmp_path, model_id, accepted)
    (image,) = image_set.images
    assert image.pixels.shape[-1] == 3
    other = replace(image, pixels=image.pixels[..., ::-1].copy())
    turned = replace(image_set, images=(other,))
    (first,), (second,) = opened.encode([image_set]), opened.encode([turned])
    key = next(name for name, values in first.arrays.items() if values.dtype.kind == "f")
    assert not np.allclose(first.arrays[key], second.arrays[key])


def test_a_family_that_declares_kinds_is_proved_here() -> None:
    """Families reached through a server are proved by tests/integration/test_kinds_on_the_page.py, those that are given
    whole volumes by tests/unit/test_segmenter.py.
    """
    declared = {
        entry.adapter
        for entry in list_models()
        if any(not one.whole for one in entry.accepts) and entry.adapter != "openai-endpoint"
    }
    assert declared == {show(one).adapter for one in FAMILIES}
