"""The words of the report page's table in the language of a draft."""

from collections.abc import Callable, Mapping

from pipeline.report import Finding, Language

Names = Callable[[str, Language], str]
"""What a kind of finding is called in a language."""
HEADINGS: Mapping[Language, tuple[str, str, str, str, str]] = {
    Language.ENGLISH: ("Region", "Finding", "Where", "Severity", "Confidence"),
    Language.CHINESE: ("区域", "所见", "位置", "程度", "置信度"),
}
_CHINESE: Mapping[str, str] = {
    "left": "左侧", "right": "右侧", "both": "双侧", "bilateral": "双侧", "midline": "中线",
    "upper": "上", "mid": "中", "middle": "中", "lower": "下", "small": "少量", "mild": "轻度", "moderate": "中等",
    "large": "大量", "severe": "重度",
}  # fmt: skip


def key_as_words(kind: str, _: Language = Language.ENGLISH) -> str:
    """A key of the vocabulary as words."""
    return kind.replace("_", " ")


def place_of(finding: Finding, language: Language) -> str:
    """Side and zone of a finding, "" where it has none."""
    side = finding.side.value if finding.side else ""
    if language is Language.CHINESE:
        zone = f"{_CHINESE.get(finding.zone, finding.zone)}肺野" if finding.zone else ""
        return _CHINESE.get(side, side) + zone
    return " ".join(part for part in (side, f"{finding.zone} zone" if finding.zone else "") if part)


def severity_of(finding: Finding, language: Language) -> str:
    """How severe a finding is said to be, "" where nothing is said."""
    said = finding.severity
    return _CHINESE.get(said, said) if language is Language.CHINESE else said
