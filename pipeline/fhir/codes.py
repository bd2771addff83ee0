"""Codes: the order's own first, then a checked table, then the generic one; never a guess.

``loinc.toml`` and ``findings.toml`` beside this module hold the tables and say against what they were checked.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from pipeline.fhir.elements import DICOM, LOINC, SNOMED, Body, clean, coding, concept, single_spaced
from pipeline.fhir.site import Site
from pipeline.ledger import Completeness
from pipeline.report import Finding, Language
from pipeline.study import LATERAL_VIEWS, ImageSet
from pipeline.study_context import InstanceDescription, StudyContext

FINDING_SYSTEM = "urn:firstread:finding"
_SCHEMES = {
    "LN": LOINC,
    "SCT": SNOMED,
    "DCM": DICOM,
    "RADLEX": "http://radlex.org",
    "C4": "http://www.ama-assn.org/go/cpt",
}
_LOINC_FORM = re.compile(r"[1-9][0-9]{0,6}-[0-9]")
_RADIOGRAPHS = frozenset({"CR", "DX"})
_NOT_IMAGES = frozenset({"PR", "SR", "KO", "DOC", "REG", "SEG", "AU"})
_AS_FILM = {"DX": "CR", "DR": "CR", "RG": "CR"}
_CHEST = frozenset({"CHEST", "THORAX"})


def loinc(code: str) -> Body:
    """A Coding of the checked table; KeyError for a code that is not in it."""
    return coding(LOINC, code, _table("loinc.toml")["display"][code])


def section_code(section: str, language: Language) -> Body:
    """The CodeableConcept of a report section, "findings" or "impression"."""
    entry = _table("loinc.toml")["sections"][section]
    return concept(loinc(entry["code"]), text=entry[language.value])


def report_code(context: StudyContext, image_set: ImageSet, completeness: Completeness, site: Site) -> Body:
    """The CodeableConcept of the report: one LOINC coding, then the order's codes of other schemes."""
    own = [
        code
        for code in context.procedure_codes
        if code_system(code.scheme, site) == LOINC and is_loinc(code.value.strip())
    ]
    if own:
        first = coding(LOINC, own[0].value.strip(), clean(own[0].meaning))
    else:
        first = loinc(_exam_code(context, image_set, counted=not completeness.missing))
    others = [
        coding(code_system(code.scheme, site), single_spaced(code.value), clean(code.meaning))
        for code in context.procedure_codes
        if code_system(code.scheme, site) != LOINC and clean(code.value)
    ]
    return concept(first, *others, text=clean(context.description))


def code_system(scheme: str, site: Site) -> str:
    """The FHIR system of a DICOM coding scheme designator (PS3.16 section 8); local where not listed here."""
    designator = scheme.strip()
    if designator.startswith(("http://", "https://", "urn:")) and not re.search(r"\s", designator):
        return designator
    return _SCHEMES.get(designator.upper()) or site.system("code", clean(designator) or "unnamed")


def is_loinc(code: str) -> bool:
    """True for a LOINC number with a right check digit (mod 10, LOINC Users' Guide appendix)."""
    if not _LOINC_FORM.fullmatch(code):
        return False
    number, check = code.split("-")
    total = 0
    for position, digit in enumerate(reversed(number)):
        weighted = int(digit) * (2 if position % 2 == 0 else 1)
        total += weighted // 10 + weighted % 10
    return (10 - total % 10) % 10 == int(check)


def named_kind(finding: Finding, language: Language) -> str:
    """The kind as the sentence names it: a nodule of more than 3 cm is a mass, and text and code of a finding agree."""
    table = _table("findings.toml")
    for name, entry in table.items():
        if entry.get("of") == finding.kind and _names(
            finding.sentence, entry["named"][language.value], language
        ):
            own = _names(finding.sentence, table[finding.kind]["named"][language.value], language)
            return finding.kind if own and finding.severity != entry["severity"] else name
    return finding.kind


def _names(sentence: str, wanted: Sequence[str], language: Language) -> bool:
    if language is Language.CHINESE:
        return any(word in sentence for word in wanted)
    return not set(re.findall(r"[a-z]+", sentence.lower())).isdisjoint(wanted)


def finding_code(kind: str, language: Language) -> Body:
    """The CodeableConcept of a kind of finding: our own code, a checked SNOMED CT one, a name."""
    entry = _finding(kind)
    codings = [coding(FINDING_SYSTEM, kind, entry["en"])]
    if "snomed" in entry:
        codings.append(coding(SNOMED, entry["snomed"], entry["en"]))
    return concept(*codings, text=entry[language.value])


def finding_name(kind: str, language: Language) -> str:
    """What a kind of finding is called in a language; the key as words where the table has no name."""
    name: str = _finding(kind)[language.value]
    return name


def finding_site(kind: str, language: Language) -> tuple[str, str]:
    """Where a kind of finding lies: a name to read and a SNOMED CT code, either may be empty."""
    site = _finding(kind).get("site", {})
    return site.get(language.value, ""), site.get("snomed", "")


def _finding(kind: str) -> Mapping[str, Any]:
    name = kind.replace("_", " ").capitalize()
    entry: Mapping[str, Any] = _table("findings.toml").get(kind, {"en": name, "zh": name})
    return entry


def _exam_code(context: StudyContext, image_set: ImageSet, *, counted: bool) -> str:
    """The LOINC code of the study: films of the chest by their views, others by modality and body part.

    ``counted`` is False when instances are missing.
    """
    table = _table("loinc.toml")
    images = [one for one in context.instances if one.modality.upper() not in _NOT_IMAGES]
    if images and _chest_radiographs(images, image_set):
        code: str = table["report"][_chest_exam(images, image_set, counted=counted)]
        return code
    modalities = {_AS_FILM.get(one.modality.upper(), one.modality.upper()) for one in images}
    parts = {part for one in images if (part := one.part_term or one.body_part.strip().upper())}
    if image_set.chest or len(modalities) != 1:
        return str(table["report"]["generic"])
    known: Mapping[str, str] = table["exam"].get(next(iter(modalities)), {})
    part = next(iter(parts)) if len(parts) == 1 else ""
    return known.get(part) or known.get("") or str(table["report"]["generic"])


def _chest_exam(images: list[InstanceDescription], image_set: ImageSet, *, counted: bool) -> str:
    """Which entry of [report] describes the films of the chest."""
    views = _views(images, image_set)
    if not counted or len(set(views)) < len(views):
        return "chest"
    if len(views) == 1:
        return {"AP": "chest_ap", "LL": "chest_lateral", "RL": "chest_lateral"}.get(
            views[0], "chest_single_view"
        )
    if "" in views:
        return "chest"
    if len(views) == 2 and sum(view in LATERAL_VIEWS for view in views) == 1:
        return {"PA": "chest_pa_and_lateral", "AP": "chest_ap_and_lateral"}.get(
            next(view for view in views if view not in LATERAL_VIEWS), "chest_2_views"
        )
    return f"chest_{len(views)}_views" if len(views) <= 4 else "chest"


def _chest_radiographs(images: list[InstanceDescription], image_set: ImageSet) -> bool:
    seen = {image.body_part.upper() for image in image_set.images}
    used = {image.ref.sop_instance_uid for image in image_set.images}
    told = {one.body_part.strip().upper() for one in images if one.ref.sop_instance_uid not in used} - {""}
    return (
        all(one.modality.upper() in _RADIOGRAPHS for one in images) and bool(seen & _CHEST) and told <= _CHEST
    )


def _views(images: list[InstanceDescription], image_set: ImageSet) -> list[str]:
    """One view per instance: what the images room made of it, else the header's own word."""
    known = {image.ref.sop_instance_uid: image.view for image in image_set.images if image.view}
    return [known.get(one.ref.sop_instance_uid, one.view_position.strip().upper()) for one in images]


@cache
def _table(name: str) -> Mapping[str, Any]:
    return tomllib.loads(files("pipeline.fhir").joinpath(name).read_text("utf-8"))
