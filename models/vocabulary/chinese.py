"""The sentences of a report in Chinese, in the register of chest-film reports.

A report is ``检查所见：<sentences>`` and ``印象：<sentences>`` on two lines. Of the usual pairs of headings this one is
taken because a draft gives an impression and makes no diagnosis (诊断). Everything else is as in ``phrases``: the same
findings in the same order, a sentence ends with a full stop (。) and holds no other one.
"""

import random
from collections.abc import Sequence

from models.vocabulary.english import FindingFact, choose_sentences, collect_sentences

FINDINGS_HEADING_ZH, IMPRESSION_HEADING_ZH = "检查所见：", "印象："
NO_ABNORMALITY_ZH = "心肺未见明显异常。"
KIND_NAMES_ZH = {
    "nodule": "结节",
    "consolidation": "实变",
    "pleural_effusion": "胸腔积液",
    "pneumothorax": "气胸",
    "cardiomegaly": "心影增大",
    "pacemaker": "心脏起搏器",
    "central_venous_catheter": "中心静脉导管",
}
KIND_PATTERNS_ZH = {
    "nodule": r"结节|肿块",
    "consolidation": r"实变",
    "pleural_effusion": r"积液",
    "pneumothorax": r"气胸",
    "cardiomegaly": r"(?:心影|心脏)[^，。]*(?:增大|正常|不大)",
    "pacemaker": r"起搏器",
    "central_venous_catheter": r"导管",
}
"""A lead over the heart (投影于心影) does not speak of the heart's size."""
NEGATION_WORDS_ZH = ("未见", "无", "清晰", "正常", "不大")
SIDES_ZH = {"right": "右", "left": "左", "bilateral": "双"}
ZONES_ZH = {"upper": "上野", "mid": "中野", "lower": "下野"}
SEVERITY_WORDS_ZH = {
    "nodule": {"小结节": "small", "肿块": "large", "结节": "medium"},
    "consolidation": {"斑片状": "small", "大片状": "large", "实变": "medium"},
    "pleural_effusion": {"少量": "small", "中等量": "moderate", "大量": "large"},
    "pneumothorax": {"少量": "small", "中等量": "moderate", "大量": "large"},
    "cardiomegaly": {"轻度": "mild", "中度": "moderate", "明显": "marked"},
}
"""Per kind, the words that tell the severity, the most telling first."""
CHANGE_WORDS_ZH = {
    "新增": "new",
    "相仿": "unchanged",
    "增大": "increased",
    "增多": "increased",
    "缩小": "decreased",
    "减少": "decreased",
}
_VOLUMES = ("pleural_effusion", "pneumothorax", "consolidation")
ABSENCES_ZH: dict[tuple[str, ...], tuple[str, ...]] = {
    ("nodule", "consolidation"): ("双肺野清晰。", "双肺未见实变影及结节影。"),
    ("nodule",): ("双肺未见结节影。",),
    ("consolidation",): ("双肺未见实变影。",),
    ("pleural_effusion", "pneumothorax"): ("未见胸腔积液及气胸。",),
    ("pleural_effusion",): ("未见胸腔积液。",),
    ("pneumothorax",): ("未见气胸。",),
    ("cardiomegaly",): ("心影大小正常。", "心影未见增大。"),
}


def place_zh(side: str, zone: str = "") -> str:
    """A lung, or a zone of it."""
    return f"{SIDES_ZH[side]}肺{ZONES_ZH.get(zone, '')}"


def _word(fact: FindingFact) -> str:
    """The word for the severity; nodules and consolidations keep only what qualifies them."""
    words = {level: word for word, level in SEVERITY_WORDS_ZH[fact.kind].items()}
    return "" if words[fact.severity] in ("结节", "实变") else words[fact.severity]


def _lung(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if fact.kind == "nodule":
        name = {"small": "小结节", "medium": "结节", "large": "肿块"}[fact.severity]
    else:
        name = f"{_word(fact)}实变"
    place = place_zh(fact.side, fact.zone)
    return (f"{place}见{name}影", f"{place}可见{name}影"), (f"{place}{name}",)


def _pleura(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    side = f"{SIDES_ZH[fact.side]}侧"
    amount = "" if fact.side == "bilateral" else _word(fact)
    if fact.kind == "pneumothorax":
        return (f"{side}见{amount}气胸", f"{side}可见{amount}气胸"), (f"{side}{amount}气胸",)
    return (f"{side}胸腔见{amount}积液", f"{side}可见{amount}胸腔积液"), (f"{side}{amount}胸腔积液",)


def _heart(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (f"心影{_word(fact)}增大", f"心脏{_word(fact)}增大"), (f"心影{_word(fact)}增大",)


def _device(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    name = f"{SIDES_ZH[fact.side]}侧{KIND_NAMES_ZH[fact.kind]}"
    where = "导线投影于心影" if fact.kind == "pacemaker" else "投影于上腔静脉"
    return (f"{name}在位", f"{name}影，{where}"), (f"{name}在位",)


_WORDING = {
    "nodule": _lung,
    "consolidation": _lung,
    "pleural_effusion": _pleura,
    "pneumothorax": _pleura,
    "cardiomegaly": _heart,
    "pacemaker": _device,
    "central_venous_catheter": _device,
}


def _change(fact: FindingFact) -> str:
    more, less = ("增多", "减少") if fact.kind in _VOLUMES else ("增大", "缩小")
    return {"": "", "new": "新增", "unchanged": "相仿", "increased": more, "decreased": less}[fact.change]


def chinese_sentences(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Equal wordings of one finding: for 检查所见， and for 印象."""
    long, short = _WORDING[fact.kind](fact)
    depth = {"": "", "anterior": "，侧位片示位于前部", "posterior": "，侧位片示位于后部"}[fact.depth]
    since = f"，较前片{_change(fact)}" if fact.change else ""
    since_short = f"，较前{_change(fact)}" if fact.change else ""
    return (
        tuple(f"{text}{depth}{since}。" for text in long),
        tuple(f"{text}{since_short}。" for text in short),
    )


def write_sections_zh(facts: Sequence[FindingFact], chooser: random.Random) -> tuple[str, str]:
    """检查所见 and 印象 without their headings; ``chooser`` picks among equal wordings."""
    findings, impression = choose_sentences(facts, chooser, chinese_sentences, ABSENCES_ZH)
    return "".join(text for text, _ in findings), "".join(impression or [NO_ABNORMALITY_ZH])


def every_sentence_zh() -> tuple[str, ...]:
    """Every Chinese sentence a report can hold, sorted."""
    return collect_sentences(chinese_sentences, ABSENCES_ZH, NO_ABNORMALITY_ZH)
