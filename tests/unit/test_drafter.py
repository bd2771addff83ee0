"""The drafter: recipe, batches, regions in original pixels, and drafts that are refused."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

import models.prompts
from models.catalog import show
from models.drafter import Drafter, open_drafter
from models.drafting.regions import support
from models.drafting.tasks import NO_FEATURES
from models.families.mini.heat import find_region
from models.families.mini.joining import READ
from models.families.mini.mini_family import MiniFamily, ensure_mini_graphs, resize_film
from models.families.mini.prompts import known_questions
from models.family import Answer, Features, Request, SeenFinding, SeenImage, Task
from models.model_choice import ModelChoice
from models.runners.graph_cache import DECODER_FILE, Exported, GraphFolder, ensure_graphs
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy, StopRun
from pipeline.report import DraftReport, Finding, Language, Region, Side
from pipeline.study import ImageSet, InstanceRef
from tests.tiny_model import film_study, tiny_cache, tiny_weights

REF = InstanceRef("1.2", "1.2.3", "1.2.3.4")
IMAGE = SeenImage(REF, 0, rows=480, columns=240)


class WrittenFamily:
    """A family whose answers are given: what the drafter makes of them is under test."""

    model_id, model_version, runner = "written", "1", "onnxruntime-cpu"
    tasks, languages = frozenset({Task.REPORT}), frozenset({Language.ENGLISH})

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = list(answers)
        self.parts = {"weights": "w"}
        self.closed = False

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        return study.images[0].pixels

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        return [Features((IMAGE,), {}) for _ in studies]

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        assert all(request == Request(Task.REPORT, Language.ENGLISH) for request in requests)
        return self.answers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


def box(x0: float, y0: float, x1: float, y1: float) -> Region:
    return Region(REF, 0, x0, y0, x1, y1)


SEEN = (
    SeenFinding("pleural_effusion", Side.RIGHT, 0.9, box(0, 300, 80, 400)),
    SeenFinding("pleural_effusion", Side.LEFT, 0.4, box(150, 280, 240, 420)),
    SeenFinding("cardiomegaly", None, 0.7, box(60, 200, 200, 330)),
    SeenFinding("pacemaker", Side.LEFT, 0.8, None),
)


def test_findings_are_linked_to_region_and_probability() -> None:
    text = (
        "Findings: There is a small right pleural effusion. The cardiac silhouette is mildly enlarged. "
        "No pneumothorax. A left pacemaker is in place.\nImpression: Small right pleural effusion."
    )
    answer = Answer(text, truncated=False, seen=SEEN, probabilities={"pleural_effusion": 0.95})
    family = WrittenFamily([answer])
    with Drafter(family, Language.ENGLISH, "code") as drafter:
        (draft,) = drafter.write(drafter.encode([film_study(1)]))
    assert family.closed
    assert isinstance(draft, DraftReport)
    linked = {
        finding.kind: (finding.region, finding.confidence) for finding in draft.findings if finding.present
    }
    assert linked == {
        "pleural_effusion": (box(0, 300, 80, 400), 0.9),
        "cardiomegaly": (box(60, 200, 200, 330), 0.7),
        "pacemaker": (None, 0.8),
    }
    (absent,) = (finding for finding in draft.findings if not finding.present)
    assert (absent.kind, absent.region, absent.confidence) == ("pneumothorax", None, None)
    assert draft.impression_text == "Small right pleural effusion."
    assert draft.images == (REF,)
    assert draft.provenance.recipe == drafter.recipe
    assert draft.provenance.started <= draft.provenance.finished


def test_a_bilateral_finding_takes_the_box_around_both() -> None:
    both = support(Finding("pleural_effusion", present=True, side=Side.BILATERAL), SEEN)
    assert both.region == box(0, 280, 240, 420)
    assert both.confidence == 0.4
    unsided = support(Finding("pleural_effusion", present=True), SEEN)
    assert unsided.confidence == 0.9
    unknown = Finding("fracture", present=True)
    assert support(unknown, SEEN) == unknown


def test_a_draft_that_cannot_be_read_fails_alone() -> None:
    good = Answer("Findings: The lungs are clear.\nImpression: Normal.", truncated=False)
    answers = [good, Answer("nonsense", truncated=False), replace(good, truncated=True), good]
    drafter = Drafter(WrittenFamily(answers), Language.ENGLISH, "code")
    drafts = drafter.write(drafter.encode([film_study(number) for number in range(4)]))
    assert [type(draft) for draft in drafts] == [DraftReport, FailStudy, FailStudy, DraftReport]
    assert [draft.study_instance_uid for draft in drafts if isinstance(draft, DraftReport)] == [
        "1.2.0",
        "1.2.3",
    ]
    assert all(draft.code == "draft-unparsable" for draft in drafts if isinstance(draft, FailStudy))


def test_a_language_that_the_family_lacks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not answer in zh"):
        Drafter(WrittenFamily([]), Language.CHINESE, "code")


def test_the_recipe_changes_with_every_part() -> None:
    first = Drafter(WrittenFamily([]), Language.ENGLISH, "code")
    assert first.recipe == Drafter(WrittenFamily([]), Language.ENGLISH, "code").recipe
    assert first.recipe != Drafter(WrittenFamily([]), Language.ENGLISH, "other code").recipe
    other = WrittenFamily([])
    other.parts = {"weights": "x"}
    assert first.recipe != Drafter(other, Language.ENGLISH, "code").recipe


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily(show("firstread-mini"), tiny_weights(), tiny_cache(), threads=2)


def test_studies_may_be_given_with_an_earlier_film(family: MiniFamily) -> None:
    drafter = Drafter(family, Language.ENGLISH, "code", priors="last")
    assert drafter.parts["priors"] == "last"


def test_the_same_study_gives_the_same_answer_in_any_batch(family: MiniFamily) -> None:
    studies = [film_study(number) for number in range(16)]
    requests = [Request()] * 16
    together = family.answer(family.encode(studies), requests)
    assert len({answer.text for answer in together}) > 4, "texts must differ for this test to mean anything"
    alone = [family.answer(family.encode([study]), [Request()])[0] for study in studies]
    assert alone == together
    fives = [family.encode(studies[start : start + 5]) for start in range(0, 16, 5)]
    assert [answer for five in fives for answer in family.answer(five, requests[: len(five)])] == together


def test_a_text_without_its_film_is_refused(family: MiniFamily) -> None:
    with pytest.raises(FailStudy, match="no-film"):
        family.answer([NO_FEATURES], [Request(Task.SUMMARIZE, text="The lungs are clear.")])


def ask(task: Task, language: Language) -> Request:
    """A request of ``task`` with all that it needs, about ``film_study(3)``."""
    ref = film_study(3).images[0].ref
    return Request(
        task,
        language,
        question=known_questions(language.value)[0],
        region=Region(ref, 0, 30, 60, 120, 200),
        labels=("nodule", "cardiomegaly"),
        target="carina" if task is Task.LANDMARK else "heart",
        text="The lungs are clear." if language is Language.ENGLISH else "双肺未见实变影。",
    )


def test_what_cannot_be_asked_of_a_study_fails_it(family: MiniFamily) -> None:
    (features,) = family.encode([film_study(3)])
    identify = ask(Task.IDENTIFY, Language.ENGLISH)
    assert identify.region is not None
    outside = replace(identify, region=replace(identify.region, x1=500.0))
    with pytest.raises(FailStudy, match="does not lie on the film"):
        family.answer([features], [outside])
    for text, match in (
        ("Zebra sonogram.", "words that this model"),
        ("The lungs are clear. " * 40, "longer"),
    ):
        with pytest.raises(FailStudy, match=match):
            family.answer([features], [replace(ask(Task.SUMMARIZE, Language.ENGLISH), text=text)])


def test_a_lateral_and_a_prior_film_are_seen(family: MiniFamily) -> None:
    frontal, lateral, prior = film_study(2), film_study(1, view="LL"), film_study(4)
    both = ImageSet("1.2.9", frontal.images + lateral.images, priors=prior.images)
    assert family.prepare(both).shape == (3, 1, 64, 64)
    (alone,), (seen,) = family.encode([frontal]), family.encode([both])
    assert [image.ref for image in seen.images] == [frontal.images[0].ref, lateral.images[0].ref]
    for name, value in alone.arrays.items():
        if name not in ("side", "sided", "before", "compared"):
            np.testing.assert_array_equal(value, seen.arrays[name], err_msg=name)
    (before,) = family.encode([prior])
    np.testing.assert_array_equal(seen.arrays["before"], before.arrays["state"])
    flags = (alone.arrays["compared"], seen.arrays["compared"], seen.arrays["sided"])
    assert [one.item() for one in flags] == [0, 1, 1]
    mirrored = replace(lateral.images[0], view="RL", pixels=lateral.images[0].pixels[:, ::-1].copy())
    right = ImageSet("1.2.9", (*frontal.images, mirrored), priors=prior.images)
    np.testing.assert_allclose(family.prepare(right)[1], family.prepare(both)[1], atol=1e-5)


def test_features_hold_no_pixels(family: MiniFamily) -> None:
    (features,) = family.encode([film_study(3)])
    assert set(features.arrays) == {
        "heat",
        "pooled",
        "cells",
        "labelled",
        "thumbnail",
        "measures",
        *READ,
        "side",
        "sided",
        "before",
        "compared",
    }
    assert (features.images[0].rows, features.images[0].columns) == (300, 240)


def test_a_study_without_a_frontal_film_is_skipped(family: MiniFamily) -> None:
    with pytest.raises(SkipStudy, match="no frontal film"):
        family.encode([film_study(1), film_study(2, view="LL")])


def test_the_first_frontal_film_is_taken(family: MiniFamily) -> None:
    lateral, frontal = film_study(1, view="LL"), film_study(2)
    both = ImageSet("1.2.9", lateral.images + frontal.images)
    (features,) = family.encode([both])
    assert features.images[0].ref == frontal.images[0].ref


def test_films_are_resized_whole() -> None:
    image = film_study(5, rows=150, columns=120).images[0]
    resized = resize_film(image, 64)
    assert resized.shape == (64, 64)
    assert resized.dtype == np.float32
    assert abs(float(resized.mean()) - float(image.pixels.mean())) < 0.01
    ramp = replace(image, pixels=np.tile(np.arange(128, dtype=np.float32), (128, 1)))
    np.testing.assert_allclose(resize_film(ramp, 64)[0], np.arange(64) * 2 + 0.5)


def test_regions_are_in_pixels_of_the_original() -> None:
    heat = np.full((24, 24), -8.0, np.float32)
    heat[12:18, 2:5] = 4
    heat[3:5, 14:22] = 5
    assert find_region(heat, Side.RIGHT, IMAGE) == box(20, 240, 50, 360)
    assert find_region(heat, Side.LEFT, IMAGE) == box(140, 60, 220, 100)
    assert find_region(heat[:, ::-1], Side.LEFT, IMAGE) == box(190, 240, 220, 360)
    assert find_region(np.full((24, 24), -8.0, np.float32), Side.LEFT, IMAGE) is None


def test_a_finding_across_the_middle_belongs_to_the_side_of_its_weight() -> None:
    heat = np.full((24, 24), -8.0, np.float32)
    heat[5:9, 5:13] = 4
    assert find_region(heat, Side.RIGHT, IMAGE) == box(50, 100, 130, 180)
    assert find_region(heat, Side.LEFT, IMAGE) is None


def test_two_findings_that_touch_are_parted_in_the_middle() -> None:
    heat = np.full((24, 24), -8.0, np.float32)
    heat[18:22, 2:20] = 4
    assert find_region(heat, Side.RIGHT, IMAGE) == box(20, 360, 120, 440)
    assert find_region(heat, Side.LEFT, IMAGE) == box(120, 360, 200, 440)
    assert find_region(heat, None, IMAGE) == box(20, 360, 200, 440)


def test_an_answer_other_than_recorded_stops_the_run(tmp_path: Path) -> None:
    weights = Path(shutil.copytree(tiny_weights(), tmp_path / "weights"))
    check = (weights / "selfcheck.json").read_text()
    first = check.index('"presence": [') + len('"presence": [')
    (weights / "selfcheck.json").write_text(check[:first] + "9.5, " + check[check.index(",", first) + 1 :])
    with pytest.raises(StopRun, match="presence for the fixed input"):
        open_drafter(ModelChoice("firstread-mini", weights), cache_dir=tiny_cache())


def test_a_changed_graph_stops_the_run(tmp_path: Path) -> None:
    graphs = ensure_mini_graphs(show("firstread-mini"), tiny_weights(), tiny_cache())
    cache = tmp_path / "cache"
    shutil.copytree(graphs.folder, cache / graphs.folder.name)
    decoder = cache / graphs.folder.name / DECODER_FILE
    decoder.write_bytes(decoder.read_bytes()[:-1] + b"\0")
    with pytest.raises(StopRun, match="not what its manifest describes"):
        open_drafter(ModelChoice("firstread-mini", tiny_weights()), cache_dir=cache)


def test_other_prompts_than_trained_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(show("firstread-mini"), prompts="swapped.toml")
    shipped = (Path(models.prompts.__file__).parent / show("firstread-mini").prompts).read_text()
    (tmp_path / "swapped.toml").write_text(shipped.replace("<report><en>", "<findings><en>"))
    monkeypatch.setattr("models.prompts._FOLDER", tmp_path)
    with pytest.raises(StopRun, match="not the one that these weights were trained on"):
        MiniFamily(entry, tiny_weights(), tiny_cache())


WARM_START = """
import sys
from pathlib import Path
from models.drafter import open_drafter
from models.model_choice import ModelChoice
with open_drafter(ModelChoice("firstread-mini", Path(sys.argv[1])), cache_dir=Path(sys.argv[2])) as drafter:
    print(drafter.recipe, "torch" in sys.modules)
"""


def test_a_warm_start_needs_no_torch_and_has_the_same_recipe() -> None:
    with open_drafter(ModelChoice("firstread-mini", tiny_weights()), cache_dir=tiny_cache()) as drafter:
        recipe = drafter.recipe
    command = [sys.executable, "-c", WARM_START, str(tiny_weights()), str(tiny_cache())]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [recipe, "False"]


def test_two_starts_on_one_empty_cache_agree(tmp_path: Path) -> None:
    made = ensure_mini_graphs(show("firstread-mini"), tiny_weights(), tiny_cache())
    both_export = threading.Barrier(2, timeout=60)

    def export(folder: Path) -> Exported:
        for name in made.manifest.graphs:
            shutil.copy(made.folder / name, folder / name)
        both_export.wait()
        return made.manifest.exported

    def start(_: int) -> GraphFolder:
        return ensure_graphs(tmp_path / "cache", "m", made.manifest.weights, (), export)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, range(2))
    assert first == second
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.folder.name]


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def export(folder: Path) -> Exported:
        (folder / DECODER_FILE).write_bytes(b"half")
        raise StopRun("encoder-export", "no")

    with pytest.raises(StopRun, match="encoder-export"):
        ensure_graphs(tmp_path / "cache", "m", {}, (), export)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StopRun, match="cannot be written"):
        ensure_graphs(tmp_path / "cache", "m", {}, (), lambda folder: pytest.fail("nothing to export into"))
