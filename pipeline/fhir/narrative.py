"""The text people read: the banner, the sections and what to know about the draft, as XHTML and as a page.

The words are in ``words.toml`` and ``tasks.toml``. Every text that came from outside is cleaned and escaped here.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from html import escape
from importlib.resources import files

from pipeline.fhir.elements import Body, clean
from pipeline.ledger import Completeness
from pipeline.report import (
    CheckOutcome,
    DraftReport,
    ImpressionSource,
    Language,
    Place,
    PriorStudy,
    TaskAnswer,
    Verdict,
)
from pipeline.study import LeftOut

_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
)
"""Whoever opens the page in an origin of its own gets a page that can load and run nothing."""
_STYLE = (
    "body{font:1rem/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
    "p.banner{border:2px solid #b00020;padding:.5rem 1rem;font-weight:bold}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}dd{margin:0}"
)


@dataclass(frozen=True, slots=True)
class Heading:
    """Who and what the page is about; shown above the text. Empty values are left out."""

    patient: str = ""
    patient_id: str = ""
    birth_date: str = ""
    accession: str = ""
    study_date: str = ""
    exam: str = ""


def words(language: Language) -> Mapping[str, str]:
    """The words around a draft in one language: "banner", "title", "findings", ..."""
    return _table("words.toml")[language.value]


def notes(
    draft: DraftReport,
    left_out: Sequence[LeftOut],
    checks: Sequence[CheckOutcome],
    completeness: Completeness,
) -> tuple[str, ...]:
    """What a reader must know beside the text: gaps, instances not used, warnings, and what wrote it."""
    said = words(draft.language)
    lines = []
    if completeness.missing:
        counts = {"missing": len(completeness.missing), "announced": completeness.announced}
        lines.append(said["missing"].format(**counts))
    lines += _counted(said["damaged"], (one.message or one.code for one in completeness.damaged))
    lines += _counted(said["left_out"], (one.message or one.code for one in left_out))
    lines += [
        said["warning"].format(check=outcome.check, message=outcome.message or outcome.verdict.value)
        for outcome in checks
        if outcome.verdict is not Verdict.PASSED
    ]
    if draft.prior is not None:
        lines.append(prior_note(draft.prior, draft.language))
    if draft.impression_source is ImpressionSource.SUMMARY:
        lines.append(summary_note(draft))
    if draft.truncated:
        lines.append(said["truncated"])
    made_by = f"{draft.provenance.model_id} {draft.provenance.model_version}".strip()
    lines.append(said["made_by"].format(model=made_by))
    return tuple(clean(line) for line in lines)


def prior_note(prior: PriorStudy, language: Language) -> str:
    """That an earlier study was compared with, and its date."""
    said = words(language)
    day = prior.study_date.isoformat() if prior.study_date else said["no_date"]
    return said["prior"].format(date=day)


def summary_note(draft: DraftReport) -> str:
    """That the Impression was written from the text of the Findings, and by what."""
    model = draft.impression_model or draft.provenance.model_id
    return words(draft.language)["summary"].format(model=clean(model))


def task_name(task: str, language: Language) -> str:
    """What a task is called in a language."""
    entry = _table("tasks.toml").get(task)
    return entry[language.value] if entry else clean(task.replace("_", " ").capitalize())


def task_title(answer: TaskAnswer) -> str:
    """The task and what was asked."""
    name, question = task_name(answer.task, answer.language), clean(answer.question)
    separator = "：" if answer.language is Language.CHINESE else ": "
    return f"{name}{separator}{question}" if question else name


def answer_lines(answer: TaskAnswer) -> tuple[str, ...]:
    """An answer to read: the classes chosen or the text, then each place in pixels."""
    chosen = "; ".join(label.name for label in answer.labels if label.chosen)
    lines = [
        chosen or answer.structured or answer.text,
        *(_place(one, answer.language) for one in answer.places),
    ]
    return tuple(line for line in map(clean, lines) if line)


def _place(place: Place, language: Language) -> str:
    where = words(language)["absent"]
    if (box := place.region) is not None:
        where = f"{box.x0:.0f}, {box.y0:.0f} to {box.x1:.0f}, {box.y1:.0f}"
    elif (point := place.point) is not None:
        where = f"{point.x:.0f}, {point.y:.0f}"
    elif (extent := place.extent) is not None:
        sides = f"{extent.x0:.0f}, {extent.y0:.0f} to {extent.x1:.0f}, {extent.y1:.0f}"
        where = words(language)["planes"].format(box=sides, count=len(extent.planes))
    elif place.text:
        where = ""
    return ": ".join(part for part in (place.name, place.text, where) if part)


def report_narrative(draft: DraftReport, lines: Sequence[str]) -> Body:
    """The Narrative of the DiagnosticReport; "additional", since the notes are nowhere else in it."""
    return _narrative("additional", draft.language, _sections(draft, lines))


def observation_narrative(language: Language, text: str) -> Body:
    """The Narrative of one Observation: the banner and its text."""
    return _narrative("generated", language, _banner(language) + _paragraphs(text))


def page(draft: DraftReport, lines: Sequence[str], heading: Heading) -> str:
    """The whole report as an HTML page of its own: banner first, then whose it is, then the text."""
    said = words(draft.language)
    rows = "".join(
        f"<dt>{said[field.name]}</dt><dd>{_text(value)}</dd>"
        for field in fields(heading)
        if (value := clean(getattr(heading, field.name)))
    )
    top = f"<h1>{said['title']}</h1>"
    body = _sections(draft, lines, f"<dl>{rows}</dl>" if rows else "")
    head = f'<meta charset="utf-8"/>{_POLICY}<title>{said["title"]}</title><style>{_STYLE}</style>'
    language = draft.language.value
    return f'<!DOCTYPE html>\n<html lang="{language}"><head>{head}</head><body>{top}{body}</body></html>\n'


def _counted(template: str, reasons: Iterable[str]) -> list[str]:
    return [template.format(count=count, reason=reason) for reason, count in Counter(reasons).items()]


def _sections(draft: DraftReport, lines: Sequence[str], heading: str = "") -> str:
    said = words(draft.language)
    unwritten = draft.impression_source is ImpressionSource.UNWRITTEN
    impression = said["unwritten"] if unwritten else draft.impression_text
    listed = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return (
        f"{_banner(draft.language)}{heading}"
        f"<h2>{said['findings']}</h2>{_paragraphs(draft.findings_text)}"
        f"<h2>{said['impression']}</h2>{_paragraphs(impression)}"
        f"{_answers(draft)}"
        f"<h2>{said['notes']}</h2><ul>{listed}</ul>"
    )


def _answers(draft: DraftReport) -> str:
    if not draft.answers:
        return ""
    told = "".join(
        f"<dt>{_text(task_title(answer))}</dt><dd>{_paragraphs(chr(10).join(answer_lines(answer)))}</dd>"
        for answer in draft.answers
    )
    return f"<h2>{words(draft.language)['answers']}</h2><dl>{told}</dl>"


def _narrative(status: str, language: Language, inside: str) -> Body:
    tongue = language.value
    tag = f'<div xmlns="http://www.w3.org/1999/xhtml" lang="{tongue}" xml:lang="{tongue}">'
    return {"status": status, "div": f"{tag}{inside}</div>"}


def _banner(language: Language) -> str:
    return f'<p class="banner"><b>{words(language)["banner"]}</b></p>'


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in clean(text).splitlines() if line.strip())


def _text(text: str) -> str:
    return escape(clean(text), quote=True)


@cache
def _table(name: str) -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(files("pipeline.fhir").joinpath(name).read_text("utf-8"))
