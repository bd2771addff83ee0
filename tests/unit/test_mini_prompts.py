"""Requests become the prompts of training or are refused; answers become labels and places in pixels, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.families.mini.prompts import known_questions, plain_text, prompt_for, read_answer, read_boxes
from models.family import Request, SeenImage, Task
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.report import Language, Region
from pipeline.study import InstanceRef

REF = InstanceRef("1.2.3", "1.2.3.4", "1.2.3.4.5")
IMAGE = SeenImage(REF, 0, rows=2000, columns=1000)
EN, ZH = Language.ENGLISH, Language.CHINESE

PROMPTS = [
    (Request(Task.REPORT, ZH), "<report><zh>"),
    (Request(Task.DETECT, target="the Pleural effusion"), "<detect><en> Where is the pleural effusion?"),
    (Request(Task.DETECT, target="pleural_effusion"), "<detect><en> Where is the pleural effusion?"),
    (Request(Task.DETECT, target="left pneumothorax"), "<detect><en> Where is the left pneumothorax?"),
    (Request(Task.DETECT, ZH, target="左侧气胸"), "<detect><zh>左侧气胸在哪里？"),
    (Request(Task.LANDMARK, target="carina"), "<landmark><en> Where is the carina?"),
    (Request(Task.LANDMARK, ZH, target="carina"), "<landmark><zh>气管隆突在哪里？"),
    (Request(Task.VQA, question="is there a nodule"), "<vqa><en> Is there a nodule?"),
    (
        Request(Task.CLASSIFY, labels=("Nodule", "胸腔积液", "normal")),
        "<classify><en> Which of these: nodule, pleural effusion, normal?",
    ),
    (
        Request(Task.SUMMARIZE, text="FINDINGS: The lungs are\nclear.\nImpression: Nothing."),
        "<summarize><en> Findings: The lungs are clear.",
    ),
    (
        Request(Task.IDENTIFY, region=Region(REF, 0, 100, 400, 1000, 2000)),
        "<identify><en> What is in {<10><20><100><100>}?",
    ),
]


@pytest.mark.parametrize(("request_", "prompt"), PROMPTS, ids=[prompt for _, prompt in PROMPTS])
def test_requests_become_the_prompts_of_training(request_: Request, prompt: str) -> None:
    assert prompt_for(request_, IMAGE) == prompt


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Request(Task.DETECT, target="fracture"), "unknown-target"),
        (Request(Task.DETECT, ZH, target="nodules everywhere"), "unknown-target"),
        (Request(Task.VQA, question="Is it cancer?"), "unknown-question"),
        (Request(Task.CLASSIFY, labels=("nodule", "fracture")), "unknown-label"),
        (Request(Task.CLASSIFY), "no-labels"),
    ],
)
def test_what_the_model_was_not_trained_on_is_refused(request_: Request, code: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        prompt_for(request_, IMAGE)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("region", "code"),
    [
        (None, "region-elsewhere"),
        (Region(InstanceRef("1", "2", "3"), 0, 1, 1, 2, 2), "region-elsewhere"),
        (Region(REF, 1, 1, 1, 2, 2), "region-elsewhere"),
        (Region(REF, 0, 1, 1, 1001, 2), "region-outside"),
        (Region(REF, 0, 5, 1, 5, 2), "region-outside"),
    ],
)
def test_a_region_that_is_not_on_the_film_is_refused(region: Region | None, code: str) -> None:
    with pytest.raises(FailStudy) as caught:
        prompt_for(Request(Task.IDENTIFY, region=region), IMAGE)
    assert caught.value.code == code


def test_an_empty_text_cannot_be_summarised() -> None:
    for text in ("", "Findings: ", "印象：正常。"):
        with pytest.raises(FailStudy):
            prompt_for(Request(Task.SUMMARIZE, text=text), IMAGE)


def test_boxes_leave_in_pixels_of_the_original() -> None:
    _, places = read_answer(
        Request(Task.DETECT, target="nodule"), "{<10><20><30><40>}{<50><0><100><100>}", IMAGE
    )
    assert [place.region for place in places] == [
        Region(REF, 0, 100, 400, 300, 800),
        Region(REF, 0, 500, 0, 1000, 2000),
    ]
    _, (point,) = read_answer(Request(Task.LANDMARK, target="carina"), "{<50><25>}", IMAGE)
    assert point.point is not None
    assert (point.point.x, point.point.y) == (500, 500)


def test_absence_is_an_answer_and_nonsense_is_none() -> None:
    asked = Request(Task.DETECT, target="nodule")
    _, (absent,) = read_answer(asked, "No nodule.", IMAGE)
    assert (absent.name, absent.region) == ("nodule", None)
    _, (absent_zh,) = read_answer(Request(Task.DETECT, ZH, target="结节"), "未见结节。", IMAGE)
    assert absent_zh.region is None
    for text in ("", "{<1><2>}", "{<30><20><10><40>}", "{<1><2><3><101>}", "Yes."):
        assert read_answer(asked, text, IMAGE) == ((), ()), text
        assert read_answer(Request(Task.LANDMARK, target="carina"), f"{text} ?", IMAGE) == ((), ()), text


def test_grounded_reports_give_sentence_and_region() -> None:
    text = "Findings: There is a mass in the left upper zone {<60><10><80><30>}. No consolidation is seen."
    _, (place,) = read_answer(Request(Task.GROUNDED_REPORT), text, IMAGE)
    assert (place.name, place.region) == ("nodule", Region(REF, 0, 600, 200, 800, 600))
    assert plain_text(text).startswith("Findings: There is a mass in the left upper zone. No")
    assert place.text.endswith("There is a mass in the left upper zone.")
    _, (chinese,) = read_answer(
        Request(Task.GROUNDED_REPORT, ZH),
        "检查所见：左肺上野见肿块影{<60><10><80><30>}。双肺未见实变影。",
        IMAGE,
    )
    assert (chinese.name, chinese.region) == ("nodule", place.region)


def test_labels_are_the_sites_own_words() -> None:
    asked = Request(Task.CLASSIFY, labels=("Effusion seen? ", "nodule"))
    with pytest.raises(ConfigurationError):
        read_answer(asked, "Nodule.", IMAGE)
    asked = Request(Task.CLASSIFY, labels=("Pleural_Effusion", "nodule", "normal"))
    labels, _ = read_answer(asked, "Pleural effusion, nodule.", IMAGE)
    assert [(label.name, label.chosen) for label in labels] == [
        ("Pleural_Effusion", True),
        ("nodule", True),
        ("normal", False),
    ]
    assert [label.chosen for label in read_answer(asked, "None.", IMAGE)[0]] == [False] * 3
    for unreadable in ("Cardiomegaly.", "", "Yes."):
        assert read_answer(asked, unreadable, IMAGE)[0] == ()
    chinese = Request(Task.CLASSIFY, ZH, labels=("结节", "气胸"))
    assert [label.chosen for label in read_answer(chinese, "气胸。", IMAGE)[0]] == [False, True]
    assert [label.chosen for label in read_answer(chinese, "均无。", IMAGE)[0]] == [False, False]


def test_a_closed_question_with_options_chooses_one() -> None:
    asked = Request(Task.VQA, question="Is there a nodule?", options=("yes", "no"))
    assert [label.chosen for label in read_answer(asked, "Yes.", IMAGE)[0]] == [True, False]
    assert read_answer(asked, "Right.", IMAGE)[0] == ()


def test_every_known_question_can_be_asked() -> None:
    for language in (EN, ZH):
        for question in known_questions(language.value):
            assert prompt_for(Request(Task.VQA, language, question=question)).endswith(question)


@given(st.text(alphabet="{}<>0123456789 ,.Noule", max_size=60))
def test_any_answer_is_read_or_not(text: str) -> None:
    for task in (Task.DETECT, Task.LANDMARK, Task.GROUNDED_REPORT, Task.IDENTIFY):
        _, places = read_answer(Request(task, target="nodule"), text, IMAGE)
        for place in places:
            if place.region is not None:
                assert 0 <= place.region.x0 < place.region.x1 <= 1000
                assert 0 <= place.region.y0 < place.region.y1 <= 2000
    assert all(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in read_boxes(text))
