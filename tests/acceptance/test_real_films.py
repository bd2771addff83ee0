"""The shipped drafter on twelve public films of patients held back from its training: taken, read, and of one mind.

Twelve films measure nothing; ``models.training.evaluate_real`` does. They show that the numbers of real films reach
every place that a person reads.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from models.drafter import Drafter, open_drafter
from models.drafting.tasks import SiteTask
from models.families.mini.certainty import RealReader
from models.families.mini.films import ABNORMAL, RULED, Certainty
from models.family import Request, Task
from models.model_choice import ModelChoice
from models.training.evaluate import WEIGHTS
from models.vocabulary.english import KINDS, NO_ABNORMALITY
from models.vocabulary.task_words import NAMES, NORMAL
from pipeline.errors import SkipStudy
from pipeline.images import prepare
from pipeline.images.trust import SiteTrust
from pipeline.report import DraftReport, Language
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.engines import ENGINES
from tests.synthetic import fetched, radiograph_header, write_chest

FOLDER = Path(__file__).parents[1] / "data" / "real_films"
LABELS = tuple(NAMES["en"][kind] for kind in (*KINDS, NORMAL))
TASKS = (
    SiteTask(Request(Task.CLASSIFY, labels=LABELS)),
    SiteTask(Request(Task.VQA, question="Is there a pleural effusion?")),
)


def read_films() -> list[tuple[ImageSet, set[str]]]:
    """Each film as a study, with its published labels."""
    with (FOLDER / "labels.csv").open(newline="") as table:
        labelled = list(csv.DictReader(table))
    films = []
    for number, row in enumerate(labelled):
        with Image.open(FOLDER / row["file"]) as picture:
            pixels = (np.asarray(picture) / 255).astype(np.float32)
        ref = InstanceRef(f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1")
        rows, columns = pixels.shape
        image = StudyImage(ref, 0, pixels, rows, columns, None, "DX", "CHEST", "PA", "MONOCHROME2")
        films.append((ImageSet(ref.study_instance_uid, (image,)), set(row["labels"].split("|"))))
    return films


FILMS = read_films()


def open_shipped(language: Language, precision: str = "auto") -> Drafter:
    """The drafter as a site opens it."""
    tasks = TASKS if language is Language.ENGLISH else ()
    choice = ModelChoice("firstread-mini", require_runner="onnxruntime-cpu", precision=precision)
    return open_drafter(choice, cache_dir=ENGINES, language=language, tasks=tasks)


@pytest.fixture(scope="module")
def drafts() -> Iterator[list[DraftReport]]:
    with open_shipped(Language.ENGLISH) as drafter:
        written = drafter.write(drafter.encode([study for study, _ in FILMS]))
        yield [draft for draft in written if isinstance(draft, DraftReport)]


def test_every_film_is_taken_and_drafted(drafts: list[DraftReport]) -> None:
    assert len(drafts) == len(FILMS) == 12


def test_what_a_site_says_of_its_films_does_not_open_the_eyes_of_the_model(tmp_path: Path) -> None:
    """A header without part and view, which the site fills, over pixels that are no film: declined by their looks."""
    noise = np.random.default_rng(0).integers(0, 4096, (300, 256)).astype(np.uint16)
    path = write_chest(tmp_path / "1.dcm", radiograph_header("trust"), pixels=noise)
    dataset = dcmread(path)
    for keyword in (
        "BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "PatientOrientation", "StudyDescription",
        "SeriesDescription",
    ):  # fmt: skip
        delattr(dataset, keyword)
    dataset.save_as(path)
    _, trusted = prepare(
        fetched(tmp_path, [path], "trust"), trust=SiteTrust(missing_body_part="chest", missing_view="PA")
    )
    assert [remark.code for remark in trusted.remarks] == ["site-trust"]
    with open_shipped(Language.ENGLISH) as drafter, pytest.raises(SkipStudy) as declined:
        drafter.encode([trusted])
    assert declined.value.code == "unlike-training"


def test_a_film_that_is_declined_costs_the_others_of_its_batch_nothing(
    drafts: list[DraftReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = FILMS[0]
    (image,) = study.images
    loud = np.random.default_rng(0).random(image.pixels.shape).astype(np.float32)
    noise = replace(study, study_instance_uid="1.2.3", images=(replace(image, pixels=loud),))
    with open_shipped(Language.ENGLISH) as drafter:
        encoder = drafter._family._encoder  # type: ignore[attr-defined]
        films: list[int] = []
        run = encoder.encode

        def counted(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
            films.append(len(arrays["pixels"]))
            told: dict[str, NDArray[np.float32]] = run(arrays)
            return told

        monkeypatch.setattr(encoder, "encode", counted)
        encoded = drafter.encode([study, noise, FILMS[1][0]])
        told = [draft for draft in drafter.write(encoded) if isinstance(draft, DraftReport)]
    assert films == [3], "encoded once, and together"
    assert {row: one.code for row, one in encoded.refused.items()} == {1: "unlike-training"}
    assert [draft.findings_text for draft in told] == [draft.findings_text for draft in drafts[:2]]


def test_in_8_bits_the_shipped_weights_open_and_tell_what_they_told(drafts: list[DraftReport]) -> None:
    with open_shipped(Language.ENGLISH, "int8") as small:
        written = small.write(small.encode([study for study, _ in FILMS]))
    told = [draft for draft in written if isinstance(draft, DraftReport)]
    assert len(told) == len(FILMS)
    same = sum(_present(one) == _present(other) for one, other in zip(told, drafts, strict=True))
    assert same >= len(FILMS) - 2, "8 bits turn what lies at a level, not what is clear"


def _present(draft: DraftReport) -> set[str]:
    return {finding.kind for finding in draft.findings if finding.present}


def test_text_observations_and_answers_rest_on_one_number(drafts: list[DraftReport]) -> None:
    rule = RealReader.of(WEIGHTS).rule
    assert rule is not None
    levels = dict(zip(RULED, rule.levels, strict=True))
    seen = set()
    for draft in drafts:
        present = {finding.kind: finding for finding in draft.findings if finding.present}
        (labels,) = [
            {one.name: one for one in answer.labels} for answer in draft.answers if answer.task == "classify"
        ]
        (asked,) = [answer.text for answer in draft.answers if answer.task == "vqa"]
        for kind in (kind for kind in RULED if kind != ABNORMAL):
            chance = draft.probabilities[kind]
            certainty = Certainty(int((chance >= levels[kind]).sum()))
            seen.add(certainty)
            assert (kind in present) == (certainty >= Certainty.POSSIBLE)
            if kind in present:
                assert ("may be" in present[kind].sentence) == (certainty is Certainty.POSSIBLE)
                confidence = present[kind].confidence
                assert confidence is not None
                assert confidence <= chance + 1e-6
            label = labels[NAMES["en"][kind]]
            assert label.chosen == (kind in present)
            assert label.probability == chance
        assert asked == ("Yes." if "pleural_effusion" in present else "No.")
        assert labels[NORMAL].chosen == (draft.impression_text == NO_ABNORMALITY)
    assert len(seen) >= 3, "the films should show more than one way of speaking"


def test_both_languages_speak_of_the_same_findings(drafts: list[DraftReport]) -> None:
    with open_shipped(Language.CHINESE) as drafter:
        chinese = drafter.write(drafter.encode([study for study, _ in FILMS]))
    for english, other in zip(drafts, chinese, strict=True):
        assert isinstance(other, DraftReport)
        ruled = [
            {one.kind: one.present for one in draft.findings if one.kind in RULED}
            for draft in (english, other)
        ]
        assert ruled[0] == ruled[1]


def test_an_effusion_is_likelier_where_it_is_labelled(drafts: list[DraftReport]) -> None:
    chances = {True: [0.0], False: [0.0]}
    for draft, (_, labels) in zip(drafts, FILMS, strict=True):
        chances["Effusion" in labels].append(draft.probabilities["pleural_effusion"])
    assert np.mean(chances[True]) > np.mean(chances[False])
