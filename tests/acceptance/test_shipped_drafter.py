"""The shipped weights through the runners that a site has: readable drafts, the tokens that transformers writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from models.catalog import show
from models.drafter import Drafter, open_drafter
from models.families.mini.export import load_network
from models.families.mini.mini_family import MiniFamily
from models.family import Request, Task
from models.model_choice import ModelChoice
from models.networks.mini import EOS_ID, load_tokenizer, prompt_ids
from models.runners.language import TransformersLanguageModel
from models.simulation.film import MAX_VALUE, SimulatedFilm, render
from pipeline.report import DraftReport
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.engines import ENGINES

WEIGHTS = show("firstread-mini").weights_folder
FILMS = 12
ROWS, COLUMNS = 1760, 1408

pytestmark = pytest.mark.skipif(
    WEIGHTS is None or not (WEIGHTS / "selfcheck.json").is_file(),
    reason="the weights of firstread-mini are not here",
)


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def films() -> list[SimulatedFilm]:
    return [render(4_000_000 + seed, size=384, held_out=True) for seed in range(FILMS)]


@pytest.fixture(scope="module")
def studies(films: list[SimulatedFilm]) -> list[ImageSet]:
    return [study_of(number, film) for number, film in enumerate(films)]


@pytest.fixture(scope="module")
def drafter() -> Iterator[Drafter]:
    with open_drafter(
        ModelChoice("firstread-mini", require_runner="onnxruntime-cpu"), cache_dir=ENGINES
    ) as opened:
        yield opened


def study_of(number: int, film: SimulatedFilm) -> ImageSet:
    ref = InstanceRef(f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1")
    pixels = (film.pixels / MAX_VALUE).astype(np.float32)
    image = StudyImage(ref, 0, pixels, ROWS, COLUMNS, None, "DX", "CHEST", "PA", "MONOCHROME2")
    return ImageSet(ref.study_instance_uid, (image,))


def test_every_draft_reads_and_points_at_its_film(drafter: Drafter, studies: list[ImageSet]) -> None:
    drafts = drafter.write(drafter.encode(studies))
    assert all(isinstance(draft, DraftReport) for draft in drafts)
    shown = [
        finding
        for draft in drafts
        if isinstance(draft, DraftReport)
        for finding in draft.findings
        if finding.present
    ]
    regions = [finding.region for finding in shown if finding.region is not None]
    assert len(regions) > FILMS // 3
    for region in regions:
        assert 0 <= region.x0 < region.x1 <= COLUMNS
        assert 0 <= region.y0 < region.y1 <= ROWS


def test_regions_lie_on_what_was_simulated(
    drafter: Drafter, studies: list[ImageSet], films: list[SimulatedFilm]
) -> None:
    overlaps = []
    for draft, film in zip(drafter.write(drafter.encode(studies)), films, strict=True):
        assert isinstance(draft, DraftReport)
        true = {(finding.kind, finding.side): finding.box for finding in film.findings}
        for finding in draft.findings:
            box = true.get((finding.kind, str(finding.side or "")))
            if finding.present and finding.region is not None and box is not None:
                across, down = COLUMNS / film.pixels.shape[1], ROWS / film.pixels.shape[0]
                middle_x = (finding.region.x0 + finding.region.x1) / 2 / across
                middle_y = (finding.region.y0 + finding.region.y1) / 2 / down
                overlaps.append(box[0] <= middle_x <= box[2] and box[1] <= middle_y <= box[3])
    assert len(overlaps) >= 4
    assert np.mean(overlaps) >= 0.7


def test_the_text_is_what_transformers_writes(studies: list[ImageSet]) -> None:
    assert WEIGHTS is not None
    network, tokenizer = load_network(WEIGHTS), load_tokenizer(Path(WEIGHTS))
    asked = Request(Task.CLASSIFY, labels=("normal", "pneumothorax"))
    with MiniFamily(show("firstread-mini"), WEIGHTS, ENGINES) as family:
        features = family.encode(studies)
        for answer in family.answer(features, [asked] * FILMS):
            normal, _ = answer.labels
            assert normal.probability == 1 - max(answer.probabilities.values())
        texts = [answer.text for answer in family.answer(features, [Request()] * FILMS)]
        films = [family.embeddings([one], [Request()])[0] for one in features]
    table = cast(Any, network.language).get_input_embeddings().weight.detach().numpy()
    prompts = [np.concatenate([film, table[list(prompt_ids())]]) for film in films]
    written = TransformersLanguageModel(network.language, EOS_ID).write(
        prompts, network.config.max_new_tokens
    )
    assert texts == [tokenizer.decode(list(text.ids)) for text in written]


def test_one_by_one_is_the_same_as_together(drafter: Drafter, studies: list[ImageSet]) -> None:
    together = drafter.write(drafter.encode(studies))
    for study, expected in zip(studies, together, strict=True):
        (alone,) = drafter.write(drafter.encode([study]))
        assert isinstance(alone, DraftReport)
        assert isinstance(expected, DraftReport)
        assert (alone.findings_text, alone.impression_text) == (
            expected.findings_text,
            expected.impression_text,
        )
        assert alone.findings == expected.findings
        assert alone.probabilities == expected.probabilities
