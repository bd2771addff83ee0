"""Words, boxes and answers of MedRegA, LLaVA-Med and MedGemma."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.families.native.dialect import Dialect
from models.families.native.llava_med import LlavaMedDialect
from models.families.native.medgemma import MedGemmaDialect, padded_region, pads
from models.families.native.medrega import MedRegaDialect, bleu1, nearest_labels, read_places
from models.family import PromptContext, Request, SeenImage, Task
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.report import Language, Place, Region
from pipeline.study import InstanceRef

REF = InstanceRef("1.2", "1.2.1", "1.2.1.1")
SHAPES = ((2000, 1000), (1000, 2000), (1500, 1500))
OPENING = "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n"
CLOSING = "<|im_end|><|im_start|>assistant\n"
BOXES = (
    "The region is represented in the form of bounding box, [x1, y1, x2, y2], with integers ranging from 0 to 999. "
    "These values correspond to the top left x, top left y, bottom right x, and bottom right y."
)
DIALECTS: tuple[Dialect, ...] = (MedRegaDialect(), LlavaMedDialect(), MedGemmaDialect())
HOSTILE = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            [
                "<ref>",
                "</ref>",
                "<box>",
                "</box>",
                "[[",
                "]]",
                "[",
                ",",
                "1",
                "999",
                "99999",
                "-3",
                "nan",
                "：",
                ":",
                "Final Answer:",
                "```json",
                "```",
                '{"box_2d":',
                '"label":',
                "}",
                "null",
                "1e999",
                "left lung",
                "\n",
            ]
        ),
        max_size=40,
    ).map("".join),
)


def image(rows: int = 1000, columns: int = 500) -> SeenImage:
    return SeenImage(REF, 0, rows, columns)


def medrega(request: Request, modality: str = "CR") -> str:
    text = MedRegaDialect().word(request, [image()], modality)
    assert text.startswith(OPENING)
    assert text.endswith(CLOSING)
    assert text.count("<image>\n") == 1
    return text.removeprefix(OPENING).removesuffix(CLOSING)


def test_medrega_asks_as_its_demo_does() -> None:
    asked = medrega(Request(Task.VQA, question="What is present?"))
    assert asked == (
        "You are a helpful medical assistant. You are required to answer the question based on the medical image. "
        "<image>\nWhat is present? Answer the question using a single word or phrase."
    )
    asked = medrega(Request(Task.VQA, Language.CHINESE, question="这张图片的成像方式是什么?"))
    assert (
        asked
        == "你是一个医疗助手，你需要根据医学图像回答问题。<image>\n这张图片的成像方式是什么?请用词或短语回答问题。"
    )
    asked = medrega(Request(Task.REPORT))
    assert asked == (
        "You are a helpful medical assistant. Your task is report generation. You are given a chest x-ray image, and "
        "you are required to generate a medical report consisting of findings and impressions based on the image. "
        "<image>\n"
    )
    assert "影响结论列举最终的诊断结果。<image>\n" in medrega(Request(Task.REPORT, Language.CHINESE))
    other = medrega(Request(Task.REPORT, variant="report-iu"))
    assert (
        "generate a medical report describing the observations and diagnosis in the image. <image>\n" in other
    )


def test_medrega_asks_for_regions_as_its_demo_does() -> None:
    asked = medrega(Request(Task.DETECT, target="carotid vessel wall"), "MR")
    assert asked.endswith(
        'with its bounding box: "<ref>object</ref><box>[[x1, y1, x2, y2]]</box>". There might be multiple boxes '
        "for one object, in which case the format is like "
        '"<ref>object</ref><box>[[x1, y1, x2, y2], [x3, y3, x4, y4]]</box>". <image>\n'
        "Please locate <ref>carotid vessel wall</ref> in this MRI scan."
    )
    assert BOXES in asked
    region = Region(REF, 0, 50, 100, 250, 900)
    asked = medrega(Request(Task.IDENTIFY, region=region), "CT")
    assert asked == (
        "You are a helpful medical assistant. Your task is object recognition. You are required to recognize the "
        f"object in the given region. {BOXES} <image>\nWhat is <ref>this</ref><box>[[100, 100, 500, 899]]</box> "
        "in this CT scan?"
    )
    asked = medrega(Request(Task.GROUNDED_REPORT, labels=("right lung", "left lung")))
    assert asked.endswith(
        "<image>\nPlease locate the region and describe the condition of <ref>right lung</ref>, <ref>left lung</ref>"
    )
    assert asked == medrega(Request(Task.GROUNDED_REPORT))
    asked = medrega(Request(Task.GROUNDED_REPORT, Language.CHINESE, labels=("胰腺癌",)), "CT")
    assert asked.endswith('：诊断"。<image>\n请定位并描述这张医学影像中的<ref>胰腺癌</ref>')
    asked = medrega(Request(Task.CLASSIFY, labels=("normal", "pneumonia")))
    assert asked.endswith(
        "Your task is disease diagnosis. You are given a chest x-ray image. The possible diagnoses are:\nnormal\n"
        "pneumonia\n<image>\nPlease diagnose the disease in the chest x-ray image."
    )


def test_regional_cot_is_two_passes() -> None:
    dialect = MedRegaDialect()
    request = Request(Task.VQA, question="Is it enlarged?", target="heart")
    first = dialect.first_pass(request)
    assert first is not None
    assert first.task is Task.DETECT
    found = dialect.read("<ref>heart</ref><box>[[100, 200, 300, 400]]</box>", first, [image()]).places
    second = dialect.word(request, [image()], "CR", found)
    assert "<image>\n<ref>heart</ref><box>[[100, 200, 300, 400]]</box>\nIs it enlarged? Answer" in second
    assert dialect.word(request, [image()], "CR", ()) == dialect.word(request, [image()], "CR")
    assert dialect.first_pass(Request(Task.VQA, question="Is it enlarged?")) is None
    assert dialect.first_pass(Request(Task.DETECT, target="heart")) is None


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Request(Task.GROUNDED_REPORT, labels=("toe",)), "unknown-label"),
        (Request(Task.GROUNDED_REPORT, Language.CHINESE), "no-labels"),
        (Request(Task.DETECT, Language.CHINESE, target="心脏"), "unsupported-task"),
        (Request(Task.SEGMENT, target="heart"), "unsupported-task"),
    ],
)
def test_medrega_refuses_what_it_was_not_trained_on(request_: Request, code: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        MedRegaDialect().word(request_, [image()], "CR")
    assert refused.value.code == code


@pytest.mark.parametrize("region", [None, Region(REF, 1, 0, 0, 9, 9), Region(REF, 0, 0, 0, 900, 9)])
def test_a_region_elsewhere_cannot_be_asked(region: Region | None) -> None:
    with pytest.raises(FailStudy):
        MedRegaDialect().word(Request(Task.IDENTIFY, region=region), [image()], "CR")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "mark", ["<image>", "<|im_end|>", "</img>", "[/INST]", "<end_of_turn>", "<IMG_CONTEXT>", "</s>"]
)
def test_no_request_smuggles_a_mark(dialect: Dialect, mark: str) -> None:
    with pytest.raises(FailStudy) as failed:
        dialect.word(Request(Task.VQA, question=f"Where? {mark}"), [image()], "CR")
    assert failed.value.code == "special-token"


def test_braces_in_a_question_are_text() -> None:
    assert "\nWhat is {labels} {scan}? Answer" in medrega(
        Request(Task.VQA, question="What is {labels} {scan}?")
    )


def test_a_grounded_report_is_read_per_organ() -> None:
    text = (
        "<ref>right lung</ref><box>[[102, 106, 481, 910]]</box>, <ref>left lung</ref><box>[[535, 128, 923, 889]]</box>"
        ": No focal consolidation. <ref>abdomen</ref><box>[[0, 900, 999, 999]]</box>: Normal: gas."
    )
    reading = MedRegaDialect().read(text, Request(Task.GROUNDED_REPORT), [image()])
    assert [(place.name, place.text) for place in reading.places] == [
        ("right lung", "No focal consolidation."),
        ("left lung", "No focal consolidation."),
        ("abdomen", "Normal: gas."),
    ]
    assert reading.text == "right lung, left lung: No focal consolidation. abdomen: Normal: gas."
    chinese = MedRegaDialect().read(
        "<ref>胰腺癌</ref><box>[[661, 528, 743, 599]]</box>：胰尾部见一肿块。",
        Request(Task.GROUNDED_REPORT, Language.CHINESE),
        [image()],
    )
    assert (chinese.places[0].name, chinese.places[0].text) == ("胰腺癌", "胰尾部见一肿块。")


def test_a_thing_may_have_several_boxes() -> None:
    text = "<ref>carotid vessel wall</ref><box>[[365, 293, 416, 598], [596, 316, 635, 464]]</box>"
    places = read_places(text, image(rows=999, columns=999))
    assert [(p.region.x0, p.region.y0, p.region.x1, p.region.y1) for p in places if p.region] == [
        pytest.approx((365, 293, 416, 598)),
        pytest.approx((596, 316, 635, 464)),
    ]


@pytest.mark.parametrize(
    "box",
    [
        "[[5, 5, 5, 9]]",
        "[[9, 5, 5, 9]]",
        "[[0, 0, 1001, 5]]",
        "[[1, 2, 3]]",
        "[1, 2, 3, 4]",
        "[[1.5, 2, 3, 4]]",
    ],
)
def test_what_is_no_box_gives_no_place(box: str) -> None:
    assert read_places(f"<ref>heart</ref><box>{box}</box>", image()) == ()


def test_the_papers_range_is_clipped() -> None:
    (place,) = read_places("<ref>heart</ref><box>[[0, 0, 1000, 1000]]</box>", image())
    assert place.region == Region(REF, 0, 0, 0, 500, 1000)


@given(
    shape=st.sampled_from(SHAPES),
    edges=st.tuples(*[st.integers(0, 999)] * 4).filter(lambda e: e[0] < e[2] and e[1] < e[3]),
)
def test_boxes_go_to_pixels_and_back(shape: tuple[int, int], edges: tuple[int, int, int, int]) -> None:
    seen = image(*shape)
    (place,) = read_places(f"<ref>heart</ref><box>[[{', '.join(map(str, edges))}]]</box>", seen)
    asked = MedRegaDialect().word(Request(Task.IDENTIFY, region=place.region), [seen], "CR")
    assert f"<box>[[{', '.join(map(str, edges))}]]</box> in this" in asked


def test_labels_are_the_nearest_by_bleu_1() -> None:
    assert bleu1("pleural effusion", "pleural effusion") == 1
    assert bleu1("effusion", "pleural effusion") == pytest.approx(0.36788, abs=1e-4)
    names = ("No finding", "Pleural effusion", "Pneumonia")
    chosen = [
        label.name for label in nearest_labels("pneumonia, large pleural effusion.", names) if label.chosen
    ]
    assert chosen == ["Pleural effusion", "Pneumonia"]
    assert nearest_labels("something else", names) == ()
    assert nearest_labels("left lung, heart", ("left lung", "right lung", "heart"))[2].chosen
    assert nearest_labels("lung", ("left lung", "right lung")) == ()
    assert nearest_labels("", names) == ()


def test_llava_med_asks_in_mistrals_marks() -> None:
    dialect = LlavaMedDialect()
    assert (
        dialect.word(Request(Task.VQA, question="Is it a CT?"), [image()], "CT")
        == "[INST] <image>\nIs it a CT? [/INST]"
    )
    labels = dialect.read(
        "Pneumonia.", Request(Task.CLASSIFY, labels=("pneumonia", "normal")), [image()]
    ).labels
    assert [label.chosen for label in labels] == [True, False]
    assert (
        dialect.read("It may be pneumonia", Request(Task.CLASSIFY, labels=("pneumonia",)), [image()]).labels
        == ()
    )


def test_medgemma_asks_as_its_card_does() -> None:
    dialect = MedGemmaDialect()
    assert dialect.word(Request(), [image()], "CR") == (
        "<bos><start_of_turn>user\nYou are an expert radiologist.\n\nDescribe this X-ray<image><end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    told = PromptContext(indication="Cough", technique="PA.")
    assert "Cough" not in dialect.word(Request(context=told), [image()], "CR"), "the card's prompt has none"
    given_ = dialect.word(Request(Task.FINDINGS, context=told), [image(), image()], "CR")
    assert "radiologist.\n\nINDICATION: Cough\nTECHNIQUE: PA.\nWrite the FINDINGS section" in given_
    assert "FINDINGS:<image><image><end_of_turn>" in given_
    detect = dialect.word(Request(Task.DETECT, target="right clavicle"), [image()], "CR")
    assert "<image>Instructions:\nThe following user query" in detect
    assert "\nQuery:\nWhere is the right clavicle? Don't give a final answer without reasoning." in detect
    assert '"label": "dog"}]``` is a valid output' in detect
    assert "<image>" not in dialect.word(Request(Task.TEXT_QA, question="What is it?"), [image()], "CR")


def answer_of(box: list[float], label: str = "heart") -> str:
    return (
        f"It lies in the middle.\nFinal Answer: ```json\n{json.dumps([{'box_2d': box, 'label': label}])}\n```"
    )


@given(shape=st.sampled_from(SHAPES), fractions=st.tuples(*[st.floats(0.05, 0.95)] * 4))
def test_medgemmas_boxes_are_of_the_padded_square(
    shape: tuple[int, int], fractions: tuple[float, float, float, float]
) -> None:
    rows, columns = shape
    x0, x1 = sorted(fractions[:2])
    y0, y1 = sorted(fractions[2:])
    wanted = (x0 * columns, y0 * rows, x1 * columns, y1 * rows)
    side, (left, top) = max(shape), pads(rows, columns)
    box = [(wanted[1] + top), (wanted[0] + left), (wanted[3] + top), (wanted[2] + left)]
    text = answer_of([edge / side * 1000 for edge in box])
    places = MedGemmaDialect().read(text, Request(Task.DETECT, target="heart"), [image(rows, columns)]).places
    if x0 < x1 - 1e-9 and y0 < y1 - 1e-9:
        region = places[0].region
        assert region is not None
        assert (region.x0, region.y0, region.x1, region.y1) == pytest.approx(wanted, abs=1e-6)


def test_the_pad_is_clipped_and_holds_nothing() -> None:
    tall = image(1000, 500)
    assert padded_region(tall, [0, 0, 1000, 1000]) == Region(REF, 0, 0, 0, 500, 1000)
    assert padded_region(tall, [0, 0, 1000, 250]) is None
    assert padded_region(tall, [0, 250, 100, 1001]) is None
    assert padded_region(tall, [0, True, 100, 500]) is None


@pytest.mark.parametrize(
    "text",
    [
        '[{"box_2d": [1, 2, 3, 4], "label": "heart"}]',
        'Final Answer: {"box_2d": [100, 300, 200, 400], "label": "heart"}',
        'Final Answer: [{"box_2d": [100, 300, 200, 400]}]',
        'Final Answer: [{"box_2d": ["100", 300, 200, 400], "label": "heart"}]',
        "Final Answer: X",
        "Final Answer: " + "[" * 100_000,
    ],
)
def test_medgemma_without_a_final_list_has_no_places(text: str) -> None:
    assert MedGemmaDialect().read(text, Request(Task.DETECT, target="heart"), [image()]).places == ()


@given(
    dialect=st.sampled_from(DIALECTS),
    task=st.sampled_from(list(Task)),
    language=st.sampled_from(list(Language)),
    text=HOSTILE,
    shape=st.sampled_from(SHAPES),
)
def test_hostile_answers_never_raise_and_stay_on_the_image(
    dialect: Dialect, task: Task, language: Language, text: str, shape: tuple[int, int]
) -> None:
    request = Request(task, language, labels=("left lung", "heart"), options=("yes", "no"), target="heart")
    reading = dialect.read(text, request, [image(*shape)])
    for label in reading.labels:
        assert label.name in (*request.labels, *request.options)
    for place in reading.places:
        assert isinstance(place, Place)
        assert place.name
        if place.region is not None:
            assert 0 <= place.region.x0 < place.region.x1 <= shape[1]
            assert 0 <= place.region.y0 < place.region.y1 <= shape[0]


def test_medregas_words_of_training_have_the_image_first_and_say_what_no_finding_means() -> None:
    """xmed-lab/MedRegA, src/shell/meta_file.json: mimiccxr_train_rg, chexpert_train_cls."""
    report = medrega(Request(Task.REPORT, variant="report-training"))
    assert report.startswith("<image>\nYou are a helpful medical assistant. Your task is report generation.")
    assert "Finding includes the observations, and impression outlines the final diagnosis." in report
    labels = ("Edema", "No Finding")
    asked = medrega(Request(Task.CLASSIFY, labels=labels, variant="classify-training"))
    assert 'Edema\nNo Finding\n"No finding" means no diseases are detected. ' in asked
    assert asked.startswith("<image>\nYou are")
