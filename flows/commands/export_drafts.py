"""``firstread export``: the reports in force as a table, with or without what leads to a person.

Without identifiers a study is its ledger id, which the ledger alone can resolve; dates are years, and texts have gone
through the removal of identifiers. A name that stands in no field and follows no title cannot be told from other words.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TextIO

from flows.commands.json_text import json_text
from flows.environment.person import login_name
from pipeline.errors import ConfigurationError
from pipeline.fhir import audit_events
from pipeline.folders import open_private
from pipeline.identifier_removal import without_identifiers
from pipeline.settings import Settings, archive_named
from pipeline.store.opening import open_store
from pipeline.store.store import Store
from pipeline.store.values import StoredDraft
from pipeline.study_context import PatientIdentity, StudyContext

FORMATS = ("jsonl", "csv")
MACHINE = "machine-made draft, not read by a radiologist"
PERSON = "signed by a person"
PAGE = 200
LONGEST_EXPORTED = 100_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that a spreadsheet would compute."""


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What is wanted, by archive ("" for all) and StudyDates, both inclusive; ``out`` None is standard output."""

    archive: str = ""
    since: date | None = None
    until: date | None = None
    format: str = "jsonl"
    identifiers: bool = False
    out: Path | None = None
    segmentations: Path | None = None
    """A folder for the masks of these reports as DICOM files; they name the patient."""


def export_drafts(settings: Settings, order: ExportOrder, *, as_json: bool) -> None:
    """Write the reports; the audit says that it was done, and by whom.

    Raises ConfigurationError for an unknown archive or format, or a file that exists or cannot be written.
    """
    if order.archive:
        archive_named(settings, order.archive)
    if order.format not in FORMATS:
        raise ConfigurationError("export", f"--format must be {' or '.join(FORMATS)}, not {order.format!r}")
    if as_json and order.out is None:
        raise ConfigurationError("export", "--json needs --out: standard output would hold both")
    if order.segmentations is not None and not order.identifiers:
        raise ConfigurationError(
            "export", "segmentations name their patient: add --identifiers to --segmentations"
        )
    with _opened(order.out) as file, open_store(settings) as store:
        event = audit_events.drafts_exported(
            settings.policy.organization, login_name(), _asked(order), datetime.now(UTC)
        )
        store.append_audit([event])
        drafts = (_with_masks(store, order.segmentations, one) for one in _drafts(store, order))
        written = _write(file, order.format, map(_row_of(order), drafts))
    if as_json:
        sys.stdout.write(json.dumps({"exported": written, "identifiers": order.identifiers}) + "\n")
    else:
        sys.stderr.write(f"{written} reports{'' if order.identifiers else ', without identifiers'}\n")


def _asked(order: ExportOrder) -> str:
    """What was asked, for the audit."""
    parts = {"archive": order.archive, "since": order.since, "until": order.until, "format": order.format}
    told = [f"{name}={value}" for name, value in parts.items() if value]
    return "&".join((*told, f"identifiers={str(order.identifiers).lower()}"))


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    try:
        file = open(out, "x", encoding="utf-8", newline="", opener=open_private)  # noqa: SIM115 - see below
    except FileExistsError:
        raise ConfigurationError("export", f"{out} exists; name another file") from None
    except OSError as error:
        raise ConfigurationError("export", f"{out} cannot be written ({error.strerror})") from None
    with file:  # closed here; Path.open takes no opener
        yield file


def _drafts(store: Store, order: ExportOrder) -> Iterator[StoredDraft]:
    after = ""
    while page := store.drafts_page(
        order.archive or None, since=order.since, until=order.until, after=after, limit=PAGE
    ):
        yield from page
        after = page[-1].report_id


def _with_masks(store: Store, folder: Path | None, draft: StoredDraft) -> StoredDraft:
    """``draft``, its segmentations written into ``folder``, each under its SOP Instance UID."""
    if folder is None:
        return draft
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for uid, content in store.masks_of(draft.report_id, draft.version):
            with open(folder / f"{uid}.dcm", "wb", opener=open_private) as file:
                file.write(content)
    except OSError as error:
        raise ConfigurationError("export", f"{folder} cannot be written ({error.strerror})") from None
    return draft


def _row_of(order: ExportOrder) -> Callable[[StoredDraft], dict[str, Any]]:
    return identified_row if order.identifiers else plain_row


def plain_row(draft: StoredDraft) -> dict[str, Any]:
    """One report without what leads to a person."""
    context = _context(draft)
    hidden = ("sop_instance_uid",)
    found = [
        {
            name: _plain(value, context) if name == "sentence" and value else value
            for name, value in one.items()
            if name not in hidden
        }
        for one in draft.found
    ]
    return {
        "study": draft.ledger_id,
        "archive": draft.archive,
        "study_year": draft.study_date.year if draft.study_date else None,
        **_common(draft),
        "findings_text": _plain(draft.findings, context),
        "impression_text": _plain(draft.impression, context),
        "findings": found,
    }


def _plain(text: str, context: StudyContext) -> str:
    """A whole text without identifiers; of what we write nothing is so long that it would be cut."""
    return without_identifiers(text, context, longest=LONGEST_EXPORTED)


def identified_row(draft: StoredDraft) -> dict[str, Any]:
    """One report with all that names study and patient."""
    identity = _context(draft).patient
    return {
        "study": draft.ledger_id,
        "archive": draft.archive,
        "study_instance_uid": draft.study_instance_uid,
        "accession_number": draft.accession_number,
        "patient_id": identity.patient_id,
        "patient_name": " ".join(identity.name_groups),
        "study_date": draft.study_date.isoformat() if draft.study_date else None,
        "report_id": draft.report_id,
        "created_at": draft.created_at.isoformat(),
        **_common(draft),
        "findings_text": draft.findings,
        "impression_text": draft.impression,
        "findings": list(draft.found),
    }


def _common(draft: StoredDraft) -> dict[str, Any]:
    return {
        "notice": MACHINE if draft.written_by == "machine" else PERSON,
        "status": draft.status,
        "version": draft.version,
        "modalities": list(draft.modalities),
        "language": draft.language,
        "model_id": draft.model_id,
        "recipe": draft.recipe,
    }


def _context(draft: StoredDraft) -> StudyContext:
    """What is stored of study and patient, as the removal of identifiers takes it."""
    body = draft.patient
    names = [one for one in body.get("name", ()) if isinstance(one, dict)]
    numbers = [str(one.get("value", "")) for one in body.get("identifier", ())]
    words = [
        " ".join((str(one.get("family", "")), *map(str, one.get("given", ()))))
        for one in names
        if one.get("family") or one.get("given")
    ]
    texts = [str(one["text"]) for one in names if one.get("text")]
    return StudyContext(
        draft.study_instance_uid,
        PatientIdentity(numbers[0] if numbers else "", name_groups=tuple(texts or words)),
        accession_number=draft.accession_number,
        persons=tuple(words if texts else ()),
        identifiers=tuple(numbers[1:]),
    )


def _write(file: TextIO, form: str, rows: Iterator[Mapping[str, Any]]) -> int:
    written = 0
    table: csv.DictWriter[str] | None = None
    for row in rows:
        if form == "jsonl":
            file.write(json_text(row) + "\n")
        else:
            if table is None:
                table = csv.DictWriter(file, list(row))
                table.writeheader()
            table.writerow({name: _cell(value) for name, value in row.items()})
        written += 1
    return written


def _cell(value: Any) -> Any:
    """A value as a cell: lists as JSON; text that a spreadsheet would compute behind an apostrophe."""
    if isinstance(value, list):
        return json_text(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
