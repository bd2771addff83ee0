"""Scores of structured answers."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.cases import Case, Reference, read_cases
from models.evaluation.documents import document_rows, read_values
from models.evaluation.predictions import Prediction
from models.evaluation.scores import score
from models.family import Task
from pipeline.errors import ConfigurationError
from pipeline.report import Language

TRUE = {
    "findings": [
        {"kind": "nodule", "side": "right", "zones": ["upper"]},
        {"kind": "effusion", "side": "left", "zones": []},
    ],
    "normal": False,
}
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def scores_of(*pairs: tuple[object, object]) -> dict[str, float | None]:
    """The value of each score by its name; a text is taken as it is, anything else as JSON."""
    texts = [[one if isinstance(one, str) else json.dumps(one) for one in pair] for pair in pairs]
    cases = [
        Case(str(n), str(n), (), (), Task.STRUCTURED, Language.ENGLISH, Reference(true), "test")
        for n, (_, true) in enumerate(texts)
    ]
    made = [Prediction(str(n), own) for n, (own, _) in enumerate(texts)]
    return {one.metric: one.value for one in score(cases, made, seed=0)}


@given(DOCUMENTS)
def test_a_document_is_equal_to_itself(document: object) -> None:
    whole = {"document": document}
    assert scores_of((whole, whole)) == {"JSON": 1, "document accuracy": 1, "value F1": 1}


def test_lists_are_in_any_order_and_case_is_ignored() -> None:
    turned = {"normal": False, "findings": [TRUE["findings"][1], {**TRUE["findings"][0], "kind": " Nodule"}]}  # type: ignore[index]
    assert scores_of((turned, TRUE))["document accuracy"] == 1


def test_values_count_one_by_one() -> None:
    """Of seven values one has another side, one is missing and one is new."""
    other = {
        "findings": [
            {"kind": "nodule", "side": "left", "zones": ["upper"]},
            {"kind": "effusion", "side": "left"},
        ]
    }
    assert scores_of(({**other, "normal": False, "size": 3}, TRUE)) == {
        "JSON": 1,
        "document accuracy": 0,
        "value F1": pytest.approx(2 * 5 / (7 + 7)),
    }


def test_a_number_is_not_its_text() -> None:
    assert scores_of(({"size": "3"}, {"size": 3}))["value F1"] == 0


@pytest.mark.parametrize("made", ["", "no JSON", '{"normal": fal', "[" * 100_000])
def test_an_answer_that_is_no_json_has_no_value(made: str) -> None:
    assert read_values(made) is None
    found = scores_of((made, TRUE), (TRUE, TRUE))
    assert found == {"JSON": 0.5, "document accuracy": 0.5, "value F1": pytest.approx(2 * 7 / (7 + 14))}


def test_each_row_is_of_one_case() -> None:
    assert len(document_rows("{}", "{}")) == 3


def test_a_reference_that_is_no_json_is_refused(tmp_path: Path) -> None:
    record = {"id": "1", "task": "structured", "text": "Clear.", "reference": "{"}
    (tmp_path / "data.jsonl").write_text(json.dumps(record))
    with pytest.raises(ConfigurationError, match="line 1: the reference of a structured answer is no JSON"):
        read_cases(tmp_path)
