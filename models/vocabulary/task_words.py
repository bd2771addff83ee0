"""The names, questions and answers of the tasks beside reports, in English and Chinese.

What a prompt may ask and an answer may say is finite, so that a tokenizer can cover it and a site can be told at once
when it asks something else.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from models.vocabulary.chinese import KIND_NAMES_ZH, place_zh
from models.vocabulary.english import KINDS, SEVERITIES, SIDES, ZONES

TASKS = (
    "report",
    "findings",
    "impression",
    "grounded_report",
    "detect",
    "identify",
    "vqa",
    "classify",
    "landmark",
    "summarize",
)
"""Every task of firstread-mini, in the order of its tokens."""
LANGUAGES = ("en", "zh")
GRID = 100
"""Boxes and points are whole numbers from 0 to this over the width and the height of the film, as in Uni-Med."""
NUMBERS = tuple(f"<{number}>" for number in range(GRID + 1))
ORGANS = ("right_lung", "left_lung", "heart")
LANDMARKS = (
    "right_apex",
    "left_apex",
    "right_costophrenic_angle",
    "left_costophrenic_angle",
    "right_hemidiaphragm",
    "left_hemidiaphragm",
    "cardiac_apex",
    "carina",
)
NORMAL = "normal"
_LANDMARKS_ZH = ("右肺尖", "左肺尖", "右侧肋膈角", "左侧肋膈角", "右侧膈顶", "左侧膈顶", "心尖", "气管隆突")
_ORGANS_ZH = ("右肺", "左肺", "心脏")
NAMES = {
    "en": {key: key.replace("_", " ") for key in (*KINDS, *ORGANS, *LANDMARKS, NORMAL)},
    "zh": KIND_NAMES_ZH
    | dict(zip(ORGANS, _ORGANS_ZH, strict=True))
    | dict(zip(LANDMARKS, _LANDMARKS_ZH, strict=True))
    | {NORMAL: "正常"},
}
"""Per language, the name of every finding, organ, landmark and of the normal film."""
FULL_STOP = {"en": ".", "zh": "。"}
LIST_MARK = {"en": ", ", "zh": "、"}
NO_LABEL = {"en": "none", "zh": "均无"}
"""The answer to a classification none of whose labels fits."""
YES_NO = {"en": {True: "Yes.", False: "No."}, "zh": {True: "是。", False: "否。"}}
SIDE_ANSWERS = {
    "en": {"right": "Right.", "left": "Left.", "bilateral": "Both."},
    "zh": {"right": "右侧。", "left": "左侧。", "bilateral": "双侧。"},
}
SIZE_ANSWERS = {
    "en": {level: f"{level.capitalize()}." for levels in SEVERITIES.values() for level in levels if level},
    "zh": {
        "small": "小。",
        "medium": "中。",
        "moderate": "中等。",
        "large": "大。",
        "mild": "轻度。",
        "marked": "明显。",
    },
}
_HEART_SIZES_ZH = {"mild": "轻度。", "moderate": "中度。", "marked": "明显。"}
CHANGE_ANSWERS = {
    "en": {"new": "New.", "unchanged": "Unchanged.", "increased": "Larger.", "decreased": "Smaller."},
    "zh": {"new": "新增。", "unchanged": "相仿。", "increased": "增大。", "decreased": "缩小。"},
}
DEPTH_ANSWERS = {
    "en": {"anterior": "Anterior.", "posterior": "Posterior."},
    "zh": {"anterior": "前部。", "posterior": "后部。"},
}
_ARTICLES = dict.fromkeys(KINDS, "a ") | {"consolidation": "", "cardiomegaly": ""}
SIDED = tuple(kind for kind in KINDS if kind != "cardiomegaly")
ZONED = ("nodule", "consolidation")
GRADED = tuple(kind for kind in KINDS if len(SEVERITIES[kind]) > 1)


@dataclass(frozen=True, slots=True)
class Question:
    """A question of VQA. ``form`` is normal, presence, side_presence (closed: yes or no), side, size, zone, change or
    depth (open); ``kind``, ``side`` and ``zone`` are what it asks of, or "".
    """

    form: str
    kind: str = ""
    side: str = ""
    zone: str = ""

    @property
    def closed(self) -> bool:
        """Whether the answer is yes or no."""
        return self.form in ("normal", "presence", "side_presence")


def sided_name(kind: str, side: str, language: str) -> str:
    """A finding with its side, if it has one: "left pleural effusion", 左侧胸腔积液."""
    name = NAMES[language][kind]
    if not side:
        return name
    return f"{side} {name}" if language == "en" else f"{'右' if side == 'right' else '左'}侧{name}"


def size_answer(kind: str, severity: str, language: str) -> str:
    """How large a finding is said to be."""
    if language == "zh" and kind == "cardiomegaly":
        return _HEART_SIZES_ZH[severity]
    return SIZE_ANSWERS[language][severity]


def question_text(question: Question, language: str) -> str:
    """The words of a question."""
    return _english(question) if language == "en" else _chinese(question)


def _english(question: Question) -> str:
    kind, side = question.kind, question.side
    name = NAMES["en"].get(kind, "")
    verb = "How severe is" if kind == "cardiomegaly" else "How large is"
    return {
        "normal": "Is the film normal?",
        "presence": f"Is there {_ARTICLES.get(kind, '')}{name}?",
        "side_presence": f"Is there {_ARTICLES.get(kind, '')}{name} on the {side}?",
        "side": f"Which side is the {name} on?",
        "size": f"{verb} the {name}?",
        "zone": f"What is in the {side} {question.zone} zone?",
        "change": f"How has the {name} changed since the prior film?",
        "depth": f"Is the {name} anterior or posterior?",
    }[question.form]


def _chinese(question: Question) -> str:
    kind, side = question.kind, question.side
    name = NAMES["zh"].get(kind, "")
    where = f"{'右' if side == 'right' else '左'}侧"
    return {
        "normal": "胸片是否正常？",
        "presence": f"是否有{name}？",
        "side_presence": f"{where}是否有{name}？",
        "side": f"{name}在哪一侧？",
        "size": f"{name}有多大？",
        "zone": f"{place_zh(side, question.zone) if side else ''}有什么？",
        "change": f"{name}较前片有何变化？",
        "depth": f"{name}位于前部还是后部？",
    }[question.form]


def every_question() -> Iterator[Question]:
    """Every question that can be asked."""
    yield Question("normal")
    for kind in KINDS:
        yield Question("presence", kind)
        yield Question("change", kind)
        if kind in SIDED:
            yield Question("side", kind)
            yield from (Question("side_presence", kind, side) for side in SIDES)
        if kind in GRADED:
            yield Question("size", kind)
        if kind in ZONED:
            yield Question("depth", kind)
    yield from (Question("zone", side=side, zone=zone) for side in SIDES for zone in ZONES)


def every_target(language: str) -> Iterator[tuple[str, str, str]]:
    """Every thing that can be asked for by ``detect``: its words, its key, and its side or ""."""
    for key in (*KINDS, *ORGANS):
        yield NAMES[language][key], key, ""
        if key in SIDED:
            for side in SIDES:
                yield sided_name(key, side, language), key, side


def box_text(box: tuple[int, int, int, int]) -> str:
    """A box as Uni-Med writes it."""
    return "{" + "".join(f"<{edge}>" for edge in box) + "}"


def point_text(point: tuple[int, int]) -> str:
    """A point in the manner of a box."""
    return "{" + "".join(f"<{place}>" for place in point) + "}"
