"""What a model is told of a study beside its images: from its headers, the policy, and a signed earlier report.

Nothing that names a person passes (``pipeline.identifiers``): which of it a model is really told is in the catalogue.
"""

import json

from flows.workplace import Workplace
from models.families import Context
from pipeline.fhir.ids import report_id
from pipeline.identifiers import without_identifiers
from pipeline.study import ImageSet, StudyContext, StudyImage

SIGNED = frozenset({"final", "amended", "corrected", "appended"})
"""Statuses of a report that a radiologist has read. A machine's draft is never given as an earlier report."""
_NAMES = {"CR": "radiograph", "DX": "radiograph", "MG": "mammography", "CT": "CT", "MR": "MRI"}
_VIEWS = {"PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral"}


def given_context(context: StudyContext, image_set: ImageSet, prior_report: str = "") -> Context:
    """The context of one study. ``prior_report`` comes from ``signed_report``."""
    return Context(
        indication=without_identifiers(context.indication, context),
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


def signed_report(place: Workplace, archive: str, earlier: StudyContext) -> str:
    """The conclusion of the earlier study's report where a radiologist has signed it, else ""."""
    stored = place.store.read("DiagnosticReport", report_id(archive, earlier.study_instance_uid))
    body = json.loads(stored.body) if stored is not None else {}
    if body.get("status") not in SIGNED:
        return ""
    conclusion = str(body.get("conclusion", "")).strip()
    return without_identifiers(f"IMPRESSION: {conclusion}", earlier) if conclusion else ""


def _exam(image: StudyImage) -> str:
    part = image.body_part.strip().lower() if image.body_part.strip().upper() in ("CHEST", "THORAX") else ""
    return " ".join(word for word in (part and "chest", _NAMES.get(image.modality, "image")) if word)
