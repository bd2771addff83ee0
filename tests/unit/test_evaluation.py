"""Evaluation: data sets read strictly, scores that agree with others' definitions, no reference in a prompt."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sacrebleu.metrics.bleu import BLEU
from typer.testing import CliRunner

from flows.cli import app
from models.evaluation.answering import refuse_leak, study_of
from models.evaluation.cases import Case, Reference, read_cases
from models.evaluation.intervals import Score
from models.evaluation.places import iou
from models.evaluation.predictions import Prediction
from models.evaluation.scores import score, unscored
from models.evaluation.text_scores import bleu, bleu_counts, overlap, rouge_l, tokens
from models.family import PromptContext, Task
from pipeline.errors import ConfigurationError
from pipeline.report import Language

REPORT = "FINDINGS: There is a small left pleural effusion.\nIMPRESSION: Small left pleural effusion today."
TEXTS = [
    (
        "The lungs are clear without a pleural effusion.",
        "The lungs are clear. No pleural effusion is seen today.",
    ),
    ("There is a small nodule in the right upper zone.", "A small nodule lies in the right upper zone."),
]


def case(number: int = 0, **changes: object) -> Case:
    """A report case without images."""
    held = {"reference": Reference(REPORT), "task": Task.REPORT, "language": Language.ENGLISH, **changes}
    return Case(id=str(number), study=str(number), images=(), views=(), split="test", **held)  # type: ignore[arg-type]


def by_name(scores: tuple[Score, ...], metric: str) -> list[Score]:
    return [one for one in scores if one.metric == metric]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(np.full((30, 40), 128, np.uint8)).save(tmp_path / "a.png")
    return tmp_path


def write(folder: Path, *records: object) -> Path:
    file = folder / "data.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in records))
    return file


def test_corpus_bleu_is_that_of_sacrebleu() -> None:
    made = [tokens(a, Language.ENGLISH) for a, _ in TEXTS]
    true = [tokens(b, Language.ENGLISH) for _, b in TEXTS]
    counts = sum((bleu_counts(a, b) for a, b in zip(made, true, strict=True)), np.zeros(10))
    for order in range(1, 5):
        other = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order)
        value = other.corpus_score([" ".join(a) for a in made], [[" ".join(b) for b in true]]).score / 100
        assert bleu(counts, order) == pytest.approx(value, abs=1e-9)
        assert value > 0.1


def test_rouge_l_and_overlap_by_hand() -> None:
    assert rouge_l(["a", "b", "c", "d"], ["a", "x", "c", "d", "e"]) == pytest.approx(2 * 3 / 9)
    assert rouge_l([], ["a"]) == 0
    assert overlap(["a", "a", "b"], ["a", "b", "c", "d"]) == pytest.approx((4 / 7, 0.5))


def test_chinese_is_cut_into_words() -> None:
    assert tokens("未见胸腔积液。", Language.CHINESE)[-1] in ("胸腔积液", "积液")
    assert len(tokens("双肺纹理清晰", Language.CHINESE)) < 6


def test_iou_with_and_without_the_pixel_of_uni_med() -> None:
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 9, 9), (5, 0, 14, 9), extra=1) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def test_a_perfect_and_an_empty_answer() -> None:
    cases = [case(n) for n in range(4)]
    full = score(cases, [Prediction(c.id, REPORT) for c in cases], 0)
    assert {one.value for one in full} == {1.0}
    assert {one.n for one in full} == {4}
    none = score(cases, [Prediction(c.id) for c in cases], 0)
    assert {one.value for one in none} == {0.0}


def test_a_score_of_nothing_is_no_number() -> None:
    normal = [case(n, reference=Reference("The lungs are clear.")) for n in range(3)]
    (macro,) = by_name(
        score(normal, [Prediction(c.id, "The heart is normal.") for c in normal], 0), "label F1 macro"
    )
    assert (macro.value, macro.low, macro.high) == (None, None, None)
    assert "nothing was predicted" in macro.note


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (Prediction("0", "Left pleural effusion."), 1.0),
        (Prediction("0", labels=("left pleural effusion",)), 1.0),
        (Prediction("0", "Right pleural effusion."), 0.0),
        (Prediction("0"), 0.0),
    ],
)
def test_what_a_region_is_called_is_read_from_labels_or_text(made: Prediction, value: float) -> None:
    for reference in (Reference("Left pleural effusion"), Reference(labels=("left pleural effusion",))):
        (told,) = score([case(task=Task.IDENTIFY, reference=reference)], [made], 0)
        assert (told.metric, told.value) == ("accuracy", value)


def test_cases_with_nothing_to_score_are_named() -> None:
    located = case(1, task=Task.DETECT, reference=Reference(boxes=()))
    unlocated = case(2, task=Task.DETECT, reference=Reference("There is one."))
    assert unscored([case(0), located, unlocated]) == ["2"]


def test_intervals_are_seeded_and_hold_the_value() -> None:
    cases = [case(n) for n in range(12)]
    made = [
        Prediction(c.id, REPORT if n % 3 else "There is a left pneumothorax.") for n, c in enumerate(cases)
    ]
    first = score(cases, made, 5)
    assert first == score(cases, made, 5)
    assert first != score(cases, made, 6)
    (micro,) = by_name(first, "label F1 micro")
    assert micro.value == pytest.approx(8 / 12)
    assert micro.value is not None
    assert micro.low is not None
    assert micro.high is not None
    assert micro.low < micro.value < micro.high


def test_resamples_are_of_studies_not_of_cases() -> None:
    cases = [case(n, task=Task.VQA, reference=Reference("yes"), question="Is it?") for n in range(20)]
    made = [Prediction(c.id, "yes" if n < 10 else "no") for n, c in enumerate(cases)]
    apart = by_name(score(cases, made, 0), "closed accuracy")[0]
    joined = [
        Case(**{name: getattr(c, name) for name in Case.__slots__} | {"study": "ab"[n // 10]})
        for n, c in enumerate(cases)
    ]
    together = by_name(score(joined, made, 0), "closed accuracy")[0]
    assert (together.low, together.high, together.studies) == (0.0, 1.0, 2)
    assert apart.low is not None
    assert apart.high is not None
    assert 0.2 < apart.low < apart.high < 0.8


@pytest.mark.parametrize("field", ["indication", "technique", "comparison", "prior_report"])
def test_a_planted_leak_is_refused(field: str) -> None:
    hidden = "Cough. THERE IS A SMALL LEFT  pleural effusion"
    with pytest.raises(ConfigurationError) as caught:
        refuse_leak(case(context=PromptContext(**{field: hidden})))
    assert caught.value.code == "reference-leak"
    refuse_leak(case(context=PromptContext(**{field: "Cough, left pleural effusion?"})))


def test_a_leak_in_the_text_to_summarise_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        refuse_leak(case(task=Task.SUMMARIZE, text=f"Summarise: {REPORT}"))


def test_images_keep_their_size(folder: Path) -> None:
    (read,) = read_cases(write(folder, {"id": "1", "images": ["a.png"], "reference": REPORT}))
    (image,) = study_of(read).images
    assert (image.original_rows, image.original_columns) == (30, 40)
    assert image.pixels.dtype == np.float32
    assert image.pixels.max() == pytest.approx(128 / 255)


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "2", "images": ["../a.png"], "reference": "x"},
        {"id": "2", "images": ["/etc/passwd"], "reference": "x"},
        {"id": "2", "images": ["C:\\a.png"], "reference": "x"},
        {"id": "2", "images": ["missing.png"], "reference": "x"},
        {"id": "2", "images": ["a.png"]},
        {"id": "2", "images": ["a.png"], "reference": "x", "task": "guess"},
        {"id": "2", "images": ["a.png"], "reference": {"boxes": [[5, 5, 1, 9]]}},
        {"id": "2", "images": ["a.png"], "reference": "x", "surprise": 1},
        {"id": "", "images": ["a.png"], "reference": "x"},
        ["no object"],
    ],
)
def test_a_broken_line_is_named(folder: Path, broken: object) -> None:
    good = {"id": "1", "images": ["a.png"], "reference": "x"}
    with pytest.raises(ConfigurationError, match="line 2"):
        read_cases(write(folder, good, broken))


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "b.png"
    outside.write_bytes((folder / "a.png").read_bytes())
    (folder / "b.png").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="outside"):
        read_cases(write(folder, {"id": "1", "images": ["b.png"], "reference": "x"}))


def test_r2gen_and_rexrank_are_read(folder: Path) -> None:
    r2gen = folder / "annotation.json"
    r2gen.write_text(
        json.dumps({"test": [{"id": "1", "image_path": ["a.png"], "report": "Clear."}], "val": []})
    )
    (read,) = read_cases(folder)
    assert (read.split, read.reference.text) == ("test", "Clear.")
    rexrank = folder / "rexrank.json"
    record = {
        "section_findings": "Clear.",
        "section_impression": "Normal.",
        "context": "Cough",
        "image_path": ["a.png"],
        "key_image_path": "a.png",
        "tags": {"a.png": "frontal"},
    }
    rexrank.write_text(json.dumps({"s1": record}))
    (read,) = read_cases(rexrank)
    assert (read.views, read.context.indication) == (("PA",), "Cough")
    assert read.reference.text == "FINDINGS: Clear.\nIMPRESSION: Normal."


def test_the_command_scores_a_file_of_predictions(folder: Path) -> None:
    data = write(
        folder,
        {"id": "1", "images": ["a.png"], "reference": REPORT, "split": "test"},
        {
            "id": "2",
            "images": ["a.png"],
            "task": "detect",
            "target": "x",
            "reference": {"boxes": [[0, 0, 10, 10]]},
        },
    )
    made = folder / "made.jsonl.txt"
    made.write_text('{"id": "1", "text": "Small effusion."}\n{"id": "2", "boxes": [[0, 0, 10, 8]]}\n')
    out = folder / "out"
    result = CliRunner().invoke(
        app, ["models", "evaluate", str(data), "--predictions", str(made), "--out", str(out), "--json"]
    )
    assert result.exit_code == 0, result.output
    held = json.loads((out / "results.json").read_text())
    plain = next(
        one for one in held["scores"] if one["metric"] == "IoU" and one["variant"].startswith("plain")
    )
    assert plain["value"] == pytest.approx(0.8)
    assert {"variant", "split", "context_fields", "views", "n", "scorer", "model", "decoding"} <= set(plain)
    assert (out / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "detect.png").is_file()
    made.write_text('{"id": "1", "text": "Small effusion."}\n')
    result = CliRunner().invoke(app, ["models", "evaluate", str(data), "--predictions", str(made)])
    assert isinstance(result.exception, ConfigurationError)
