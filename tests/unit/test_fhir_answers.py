"""Answers to a site's tasks as Observations, and an earlier study that was compared with."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import FailStudy
from pipeline.fhir import validate
from pipeline.fhir.answers import EXTENT, PLANE, TASK_SYSTEM
from pipeline.report import Extent, Label, Language, Place, Point, Region, TaskAnswer
from tests.unit.fhir_samples import ANSWERED, ANSWERS, DRAFT, FRONTAL, body, built

ENGLISH = Language.ENGLISH


def answers(*told: TaskAnswer) -> list[dict[str, object]]:
    """The Observations of these answers, after both validations."""
    resources = built(draft=replace(DRAFT, answers=told))
    validate(resources)
    found = [one.body for one in resources if one.resource_type == "Observation"]
    return [dict(one) for one in found if one["code"].get("coding", [{}])[0].get("system") == TASK_SYSTEM]


def test_every_answer_is_listed_on_the_report_under_an_id_of_its_own() -> None:
    resources = built(draft=ANSWERED)
    validate(resources)
    report = body(resources, "DiagnosticReport")
    ids = [one.resource_id for one in resources if one.resource_type == "Observation"]
    assert len(ids) == len(set(ids)) == 2 + 3 + len(ANSWERS)
    assert [one["reference"] for one in report["result"]] == [f"Observation/{one}" for one in ids]
    assert body(resources, "Provenance")["target"][-1]["reference"] == f"Observation/{ids[-1]}"
    assert [one.resource_id for one in built(draft=ANSWERED)] == [one.resource_id for one in resources]
    fewer = built(draft=replace(ANSWERED, answers=ANSWERS[2:]))
    assert [one.resource_id for one in fewer if one.resource_type == "Observation"][-1] == ids[-1]


def test_every_answer_is_labelled_and_says_whence_it_is() -> None:
    for one in answers(*ANSWERS):
        assert one["meta"]["security"][0]["code"] == "AIAST"  # type: ignore[index]
        assert one["status"] == "preliminary"
        assert one["derivedFrom"][0]["reference"].startswith("ImagingStudy/")  # type: ignore[index]
        assert "Machine-made draft" in one["text"]["div"] or "机器生成" in one["text"]["div"]  # type: ignore[index]


def test_answers_stand_in_the_text_and_on_the_page() -> None:
    report = body(built(draft=ANSWERED), "DiagnosticReport")
    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    for shown in (report["text"]["div"], page):
        for text in (
            "Further answers",
            "Is there a &lt;tube&gt;?",
            "Yes &amp; no.",
            "没有。",
            "nodule: 400, 380 to 460, 444",
        ):
            assert text in shown
        assert "earlier study of this patient (2025-11-02)" in shown
    assert "Further answers" not in body(built(), "DiagnosticReport")["text"]["div"]


def test_an_earlier_study_is_announced() -> None:
    resources = built(draft=ANSWERED)
    for position in (0, 1):
        assert "2025-11-02" in body(resources, "Observation", position)["note"][0]["text"]
    source = body(resources, "Provenance")["entity"][-1]["what"]
    assert source["identifier"]["value"] == "urn:oid:2.25.90"
    assert "note" not in body(built(), "Observation")


def test_the_sections_say_what_each_sentence_rests_on() -> None:
    resources = built(draft=ANSWERED)
    validate(resources)
    findings, impression = (body(resources, "Observation", number)["extension"] for number in (0, 1))
    assert [
        [part["url"].rpartition(":")[2] for part in one["extension"]] for one in (*findings, *impression)
    ] == [
        ["sentence", "region"],
        ["sentence", "sopInstanceUid", "seriesInstanceUid"],
        ["sentence", "region"],
        ["sentence", "source"],
    ]
    assert impression[1]["extension"] == [
        {"url": "sentence", "valueString": "Mild cardiomegaly."},
        {"url": "source", "valueString": "findings"},
    ]


def test_nothing_chosen_is_told_by_the_text_and_the_components() -> None:
    (one,) = answers(
        TaskAnswer("classify", ENGLISH, "a; b", "neither", labels=(Label("a", False), Label("b", False)))
    )
    assert one["valueString"] == "neither"
    assert [part["valueBoolean"] for part in one["component"]] == [False, False]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "place",
    [
        Place("tube", None, Point(FRONTAL, 0, -1, 5)),
        Place("tube", None, Point(FRONTAL, 0, float("nan"), 5)),
        Place("tube", Region(FRONTAL, 0, 5, 5, 5, 9)),
        Place("tube", confidence=1.2),
        Place("mass", extent=Extent((), 1, 2, 3, 4)),
        Place("mass", extent=Extent(((FRONTAL, 0),), 3, 2, 1, 4)),
    ],
)
def test_a_place_outside_its_image_fails_the_study(place: Place) -> None:
    with pytest.raises(FailStudy, match="look at the model"):
        answers(TaskAnswer("detect", ENGLISH, "tube", "one", places=(place,)))


def test_a_box_through_planes_names_each_of_them() -> None:
    extent = Extent(((FRONTAL, 0), (FRONTAL, 4)), 10, 20.5, 30, 40)
    (one,) = answers(TaskAnswer("detect", ENGLISH, "mass", "one", places=(Place("mass", extent=extent),)))
    components: Any = one["component"]
    (component,) = components
    (told,) = component["extension"]
    planes = [part["extension"] for part in told["extension"] if part["url"] == PLANE]
    assert [{part["url"]: next(v for k, v in part.items() if k != "url") for part in plane} for plane in planes] == [
        {
            "sopInstanceUid": FRONTAL.sop_instance_uid, "seriesInstanceUid": FRONTAL.series_instance_uid,
            "frame": frame,
        }
        for frame in (1, 5)
    ]  # fmt: skip
    edges = {part["url"]: part["valueDecimal"] for part in told["extension"] if part["url"] != PLANE}
    assert (told["url"], edges) == (EXTENT, {"x0": 10, "y0": 20.5, "x1": 30, "y1": 40})
    assert component["valueBoolean"] is True
    assert "10, 20 to 30, 40, on 2 planes" in one["text"]["div"]  # type: ignore[index]


HOSTILE = "<script>alert(1)</script>\x00\x1b[31m \ud800 & \u202e \n\n"


def test_hostile_words_are_told_as_text() -> None:
    told = answers(
        TaskAnswer(HOSTILE, ENGLISH, HOSTILE, HOSTILE),
        TaskAnswer("classify", ENGLISH, HOSTILE, "", labels=(Label(HOSTILE, True), Label("\x00", False))),
        TaskAnswer("detect", ENGLISH, "\x00", HOSTILE, places=(Place("\x00", text=HOSTILE),)),
        TaskAnswer(
            "structured", ENGLISH, "", "", structured=HOSTILE, schema_digest="5" * 64, model_id=HOSTILE
        ),
        TaskAnswer("vqa", ENGLISH, "", "\x00"),
    )
    assert len(told) == 5
    assert "<script" not in str([one["text"] for one in told])
