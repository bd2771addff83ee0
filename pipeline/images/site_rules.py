"""A site's rules for one archive: what an instance is whose header says it wrongly or not at all; what is left out.

The first rule whose comparisons all hold decides, and no other. A rule says what an image is; it never makes an input
of a result, a raw detector image, a label or an overview.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from pydicom.datadict import dictionary_VR, tag_for_keyword

from pipeline.accepts import MODALITIES, Kind
from pipeline.errors import ConfigurationError
from pipeline.images.body_parts import part_called, terms
from pipeline.images.choose import refuse_unpresentable
from pipeline.images.headers import Elements, FrameElements, Header, RuledElements, text, texts
from pipeline.images.kinds import SECONDARY_CAPTURE, kind_of
from pipeline.study import LeftOutReason, Remark

_BESIDE_A_SLIDE = frozenset({"LABEL", "OVERVIEW"})
"""Image Type values of pictures that may show a patient's label."""
_DIGITISED_FILM = "DF"
_NO_TEXT = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW", "US or OW", "NONE"})
_LONGEST = 1024
_MOST_VALUES = 64
"""Of one attribute; a header of a mebibyte may hold half a million."""


@dataclass(frozen=True, slots=True)
class SiteRule:
    """``when`` holds keywords and what their value must be (``*`` and ``?`` stand for any letters; "" for absent).

    ``says`` holds what the instance is instead of what its header says: "modality", "body_part", "view", "laterality";
    a rule without any leaves it out.
    """

    number: int
    when: tuple[tuple[str, str], ...]
    says: tuple[tuple[str, str], ...] = ()

    def holds(self, said: Callable[[str], Sequence[str]]) -> bool:
        """Whether all comparisons hold; ``said`` gives the values of a keyword, of which one is enough."""
        return all(
            any(
                _pattern(wanted).fullmatch(value[:_LONGEST])
                for value in said(keyword)[:_MOST_VALUES] or ("",)
            )
            for keyword, wanted in self.when
        )

    def __str__(self) -> str:
        """For people, free of what the header holds: "rule 2: body_part CHEST"."""
        told = ", ".join(f"{what.replace('_', ' ')} {value}" for what, value in self.says)
        return f"rule {self.number}: {told or 'left out'}"


def site_rule(number: int, when: Mapping[str, str], says: Mapping[str, str]) -> SiteRule:
    """A rule of the configuration, checked. Raises ConfigurationError for an attribute, a modality or a body part that
    DICOM does not know, for a sequence or bytes to compare with, and for a modality of results.
    """
    if unknown := [keyword for keyword in when if tag_for_keyword(keyword) is None]:
        raise ConfigurationError(
            "unknown-in-rule", f"rule {number}: {unknown[0]} is no attribute's keyword (PS3.6)"
        )
    if nested := [keyword for keyword in when if dictionary_VR(keyword) in _NO_TEXT]:
        raise ConfigurationError(
            "unknown-in-rule", f"rule {number}: {nested[0]} holds no text to compare with"
        )
    modality = MODALITIES.get(says.get("modality", "CR"))
    if modality is None or Kind.RESULT in modality.kinds:
        raise ConfigurationError(
            "unknown-in-rule", f"rule {number}: {says['modality']} is no modality of images"
        )
    if "body_part" in says and part_called(says["body_part"]) is None:
        raise ConfigurationError(
            "unknown-in-rule",
            f"rule {number}: {says['body_part']} is none of the body parts {', '.join(terms())}",
        )
    return SiteRule(number, tuple(when.items()), tuple(says.items()))


def ruled(header: Header, rules: Sequence[SiteRule]) -> tuple[Header, SiteRule | None]:
    """The header as the first rule that holds puts it, and that rule; one without ``says`` leaves the instance out."""
    dataset = header.dataset
    if not rules or not _may_be_input(dataset):
        return header, None
    said = cache(partial(texts, dataset))
    rule = next((one for one in rules if one.holds(said)), None)
    if rule is None or isinstance(dataset, RuledElements | FrameElements):
        return header, rule
    puts = _puts(dataset, dict(rule.says))
    return (replace(header, dataset=RuledElements(dataset, puts, str(rule))) if puts else header), rule


def rule_remarks(headers: Sequence[Header]) -> tuple[Remark, ...]:
    """What is written on a report of which a rule decided something."""
    rules = sorted({one.dataset.rule for one in headers if isinstance(one.dataset, RuledElements)})
    return tuple(
        Remark(LeftOutReason.SITE_RULE, f"not by the header, by this site's {rule}") for rule in rules
    )


def _may_be_input(dataset: Elements) -> bool:
    beside = {kind.upper() for kind in texts(dataset, "ImageType")} & _BESIDE_A_SLIDE
    picture = kind_of(dataset) not in (Kind.RESULT, Kind.UNKNOWN) and refuse_unpresentable(dataset) is None
    return picture and not beside


def _puts(dataset: Elements, says: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What stands instead of the header's attributes. Modality says what a secondary capture is, or a header without
    one; every other class says it itself.
    """
    puts: dict[str, tuple[str, ...]] = {}
    secondary = f"{text(dataset, 'SOPClassUID')}.".startswith(f"{SECONDARY_CAPTURE}.")
    if "modality" in says and (secondary or not text(dataset, "Modality")):
        puts["Modality"] = (says["modality"],)
        if secondary and Kind.FILM in MODALITIES[says["modality"]].kinds:
            puts["ConversionType"] = (_DIGITISED_FILM,)
    if "body_part" in says:
        puts |= {"BodyPartExamined": (says["body_part"],), "AnatomicRegionSequence": ()}
    if "view" in says:
        puts |= {"ViewPosition": (says["view"],), "ViewCodeSequence": ()}
    if "laterality" in says:
        puts["ImageLaterality"] = (says["laterality"],)
    return puts


@cache
def _pattern(wanted: str) -> re.Pattern[str]:
    """Each piece is taken where it stands first and kept there (atomic groups): no header makes it try all places."""
    first, *further = wanted.split("*")
    *between, last = further or [""]
    kept = "".join(f"(?>.*?{_letters(piece)})" for piece in between)
    end = f".*{_letters(last)}" if further else ""
    return re.compile(f"{_letters(first)}{kept}{end}", re.IGNORECASE | re.DOTALL)


def _letters(piece: str) -> str:
    return ".".join(re.escape(one) for one in piece.split("?"))
