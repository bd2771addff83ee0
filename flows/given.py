"""What a model is told of a study beside its images: from its headers, the policy, and a signed earlier report.

Nothing that names a person passes (``pipeline.identifier_removal``). The catalogue says which parts each model is told.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flows.environment.workplace import Workplace
from models.family import PromptContext
from pipeline.fhir.ids import report_id
from pipeline.identifier_removal import LONGEST_TEXT, shortened, without_identifiers
from pipeline.reference_leakage import gives_away, poses_as_report
from pipeline.report import CheckOutcome, Verdict
from pipeline.study import ImageSet, StudyImage
from pipeline.study_context import StudyContext

SIGNED = frozenset({"final", "amended", "corrected", "appended"})
"""Statuses of a report that a radiologist has read. A machine's draft is never given as an earlier report."""
_CUT = CheckOutcome(
    "indication",
    Verdict.WARNED,
    f"the reason for the examination was cut to {LONGEST_TEXT} characters for the model",
)
_NAMES = {"CR": "radiograph", "DX": "radiograph", "MG": "mammography", "CT": "CT", "MR": "MRI"}
_VIEWS = {"PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral"}


@dataclass(frozen=True, slots=True)
class Given:
    """What a model may be told of one study; ``unseen`` is what it may not, ``remarks`` what was withheld for that."""

    context: PromptContext
    unseen: tuple[str, ...]
    remarks: tuple[CheckOutcome, ...]


def gather(
    workplace: Workplace,
    archive: str,
    context: StudyContext,
    image_set: ImageSet,
    earlier: StudyContext | None,
) -> Given:
    """What is told of a study that was compared with the ``earlier`` one, if there is one."""
    told = signed_report(workplace, archive, earlier) if earlier else ""
    unseen = own_report(workplace, archive, context)
    known, remarks = without_reports(given_context(context, image_set, told), unseen)
    if len(context.indication) > LONGEST_TEXT:
        remarks += (_CUT,)
    return Given(known, unseen, remarks)


def given_context(context: StudyContext, image_set: ImageSet, prior_report: str = "") -> PromptContext:
    """The context of one study. ``prior_report`` comes from ``signed_report``."""
    return PromptContext(
        indication=without_identifiers(shortened(context.indication), context),
        technique=technique(image_set.images),
        comparison=f"Prior {_exam(image_set.priors[0])}." if image_set.priors else "",
        prior_report=prior_report,
    )


def technique(images: tuple[StudyImage, ...]) -> str:
    """The examination and its views in words, from the images that are given: "Chest radiograph, PA and lateral."."""
    if not images:
        return ""
    views = list(dict.fromkeys(_VIEWS[image.view] for image in images if image.view in _VIEWS))
    exam = _exam(images[0])
    return f"{exam[0].upper()}{exam[1:]}{', ' if views else ''}{' and '.join(views)}."


def signed_report(workplace: Workplace, archive: str, earlier: StudyContext) -> str:
    """The conclusion of the earlier study's report where a radiologist has signed it, else ""."""
    conclusion = shortened(_conclusion(_signed(workplace, archive, earlier)))
    return without_identifiers(f"IMPRESSION: {conclusion}", earlier) if conclusion else ""


def own_report(workplace: Workplace, archive: str, context: StudyContext) -> tuple[str, ...]:
    """What a radiologist has signed of this very study, which no model may see: its conclusion, and its whole text."""
    body = _signed(workplace, archive, context)
    return tuple(filter(None, (_conclusion(body), *_plain_forms(body))))


def without_reports(
    given: PromptContext, unseen: Sequence[str]
) -> tuple[PromptContext, tuple[CheckOutcome, ...]]:
    """``given`` without the parts that hold, or read like, a report of this study (``unseen``); a remark for each.

    A history field into which a report was copied would have the model copy it again.
    """
    withheld = [
        name
        for name, text in asdict(given).items()
        if gives_away(name, text, unseen) or poses_as_report(name, text)
    ]
    remarks = tuple(
        CheckOutcome(
            "reference-text",
            Verdict.WARNED,
            f"the {name.replace('_', ' ')} holds or resembles a report: it was withheld from the model",
        )
        for name in withheld
    )
    return replace(given, **dict.fromkeys(withheld, "")), remarks


def _signed(workplace: Workplace, archive: str, context: StudyContext) -> dict[str, Any]:
    """The study's DiagnosticReport where a radiologist has signed it, else an empty one."""
    stored = workplace.store.read("DiagnosticReport", report_id(archive, context.study_instance_uid))
    body: dict[str, Any] = json.loads(stored.body) if stored is not None else {}
    return body if body.get("status") in SIGNED else {}


def _conclusion(body: dict[str, Any]) -> str:
    return str(body.get("conclusion", "")).strip()


def _plain_forms(body: dict[str, Any]) -> Iterator[str]:
    """The plain text of ``presentedForm`` where there is any."""
    for form in body.get("presentedForm", ()):
        if str(form.get("contentType", "")).startswith("text/plain") and form.get("data"):
            yield base64.b64decode(form["data"]).decode("utf-8", "replace")


def _exam(image: StudyImage) -> str:
    part = image.body_part.strip().lower() if image.body_part.strip().upper() in ("CHEST", "THORAX") else ""
    return " ".join(word for word in (part and "chest", _NAMES.get(image.modality, "image")) if word)
