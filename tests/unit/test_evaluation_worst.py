"""The page of the worst cases: which come first, and that nothing of a data set becomes markup."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from models.evaluation.cases import Case, Reference
from models.evaluation.predictions import Prediction
from models.evaluation.worst import WORST, rank, write_worst
from models.family import Task
from tests.unit.test_evaluation_areas import classify


def order(*pairs: tuple[Case, Prediction]) -> list[str]:
    return [case.id for case, _ in rank(pairs)]


def test_the_surest_mistake_comes_first_and_what_is_right_is_left_out() -> None:
    right = (classify(1, ("nodule",)), Prediction("1", labels=("nodule",), scores={"nodule": 0.9}))
    unsure = (classify(2, ("nodule",)), Prediction("2", labels=("normal",), scores={"nodule": 0.4}))
    sure = (classify(3, ("nodule",)), Prediction("3", labels=("normal",), scores={"nodule": 0.1}))
    assert order(right, unsure, sure) == ["3", "2"]


def test_a_report_that_misses_a_finding_comes_before_one_in_other_words() -> None:
    base = replace(classify(1, ()), task=Task.REPORT, labels=())
    words = replace(base, id="words", reference=Reference(text="There is a nodule in the right lung."))
    missed = replace(words, id="missed")
    assert order(
        (words, Prediction("words", text="A nodule is seen.")),
        (missed, Prediction("missed", text="There is no nodule in the right lung.")),
    ) == ["missed", "words"]


def test_landmarks_none_then_the_farther() -> None:
    base = replace(
        classify(1, ()), task=Task.LANDMARK, labels=(), reference=Reference(points=((10.0, 10.0),))
    )
    near, far, none = (replace(base, id=name) for name in ("near", "far", "none"))
    made = [
        Prediction("near", points=((10.0, 11.0),)),
        Prediction("far", points=((40.0, 50.0),)),
        Prediction("none"),
    ]
    assert order(*zip((near, far, none), made, strict=True)) == ["none", "far", "near"]


def test_the_page_escapes_and_draws_places_on_the_film(tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    Image.fromarray(np.full((60, 80), 90, np.uint8)).save(film)
    asked = replace(
        classify(1, ()), id="<b>1</b>", task=Task.DETECT, labels=(), images=(film,), views=("PA",),
        reference=Reference(boxes=((1.0, 2.0, 11.0, 22.0),)),
    )  # fmt: skip
    made = Prediction(asked.id, text="<script>alert(1)</script>", boxes=((50.0, 30.0, 60.0, 40.0),))
    page = write_worst([asked], [made], tmp_path).read_text("utf-8")
    assert "&lt;b&gt;1" in page
    assert "<script" not in page
    assert '<rect class="true" x="1.0" y="2.0" width="10.0" height="20.0"/>' in page
    assert '<rect class="made" x="50.0"' in page
    assert 'viewBox="0 0 80 60"' in page
    assert "machine-made" in page


def test_an_image_that_cannot_be_read_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"no image")
    asked = replace(classify(1, ("nodule",)), images=(tmp_path / "film.png",), views=("PA",))
    page = write_worst([asked], [Prediction("1", labels=("normal",))], tmp_path).read_text("utf-8")
    assert "cannot be read" in page


def test_one_label_each_gives_a_table_of_what_was_taken_for_what(tmp_path: Path) -> None:
    cases = [classify(n, ("nodule" if n % 3 else "normal",)) for n in range(30)]
    made = [Prediction(case.id, labels=("normal",)) for case in cases]
    page = write_worst(cases, made, tmp_path).read_text("utf-8")
    assert "<tr><th>nodule</th><td>20</td></tr><tr><th>normal</th><td>10</td></tr>" in page
    assert page.count("<article>") == WORST
