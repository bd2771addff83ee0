"""Sentences for what is possible, and for a film that is neither normal nor shows anything nameable.

They stand beside those of ``english`` and ``chinese``: the language model never writes them, its words do not hold
them. They are written where real labelled films say that a finding is possible (``models/families/mini/certainty.py``).
"""

from models.vocabulary.chinese import KIND_NAMES_ZH, SIDES_ZH, place_zh
from models.vocabulary.english import FindingFact
from models.vocabulary.task_words import NAMES

UNSURE_FINDINGS = {
    "en": "Nothing definite is seen, but the film is not clearly normal.",
    "zh": "未见明确征象，但不能确定胸片正常。",
}
UNSURE_IMPRESSION = {
    "en": "An abnormality cannot be excluded; a radiologist has to look.",
    "zh": "不能除外异常，须由放射科医师阅片。",
}


def possible_sentences(fact: FindingFact, language: str) -> tuple[str, str]:
    """What Findings and Impression say of a possible finding; no severity: that would be more than is known."""
    return _english(fact) if language == "en" else _chinese(fact)


def _english(fact: FindingFact) -> tuple[str, str]:
    name, both = NAMES["en"][fact.kind], fact.side == "bilateral"
    if fact.kind == "cardiomegaly":
        return "The cardiac silhouette may be enlarged.", "Possible cardiomegaly."
    if fact.kind in ("nodule", "consolidation"):
        article = "a " if fact.kind == "nodule" else ""
        place = "both lungs" if both else f"the {fact.side} {fact.zone} zone"
        return f"There may be {article}{name} in {place}.", f"Possible {name} in {place}."
    if both:
        plural = "pneumothoraces" if fact.kind == "pneumothorax" else f"{name}s"
        return f"There may be bilateral {plural}.", f"Possible bilateral {plural}."
    return f"There may be a {fact.side} {name}.", f"Possible {fact.side} {name}."


def _chinese(fact: FindingFact) -> tuple[str, str]:
    if fact.kind == "cardiomegaly":
        return "心影可能增大。", "心影可能增大。"
    if fact.kind in ("nodule", "consolidation"):
        said = f"{place_zh(fact.side, fact.zone)}可能有{KIND_NAMES_ZH[fact.kind]}"
        return f"{said}影。", f"{said}。"
    said = f"{SIDES_ZH[fact.side]}侧可能有{KIND_NAMES_ZH[fact.kind]}。"
    return said, said
