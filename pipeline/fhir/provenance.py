"""Provenance: which model, recipe and input made the report (HL7 AI Transparency on FHIR)."""

from collections.abc import Sequence

from pipeline.fhir.device import ARTIFICIAL_INTELLIGENCE
from pipeline.fhir.elements import AI_ASSERTED, Body, clean, coding, concept, date_time
from pipeline.fhir.ids import run_id
from pipeline.fhir.observations import Run
from pipeline.fhir.site import uid_identifier
from pipeline.report import DraftReport, ImpressionSource, PriorStudy

_CREATE = coding("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "CREATE", "create")
_AUTHOR = coding("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "author", "Author")


def provenance(draft: DraftReport, run: Run, targets: Sequence[Body]) -> Body:
    """The Provenance of one run; recipe, model card and input manifest are named by identifier."""
    made_by = draft.provenance
    earlier = [_earlier(draft.prior)] if draft.prior is not None else []
    card = f"{made_by.model_id} {made_by.model_version}".strip()
    return {
        "resourceType": "Provenance",
        "id": run_id(
            "provenance", run.archive, draft.study_instance_uid, made_by.recipe, run.manifest_digest
        ),
        "meta": {"security": [AI_ASSERTED]},
        "target": list(targets),
        "occurredPeriod": {"start": date_time(made_by.started), "end": date_time(made_by.finished)},
        "recorded": run.issued,
        "reason": [concept(AI_ASSERTED)],
        "activity": concept(_CREATE, text=clean(_activity(draft, card))),
        "agent": [
            {
                "type": concept(_AUTHOR),
                "role": [concept(ARTIFICIAL_INTELLIGENCE)],
                "who": run.device,
                "onBehalfOf": run.organization,
            }
        ],
        "entity": [
            _entity("derivation", "urn:firstread:recipe", made_by.recipe, "recipe"),
            _entity("derivation", "urn:firstread:model-card", card, "model card"),
            _entity("source", "urn:firstread:input-manifest", run.manifest_digest, "input manifest"),
            {"role": "source", "what": run.imaging_study},
            *earlier,
        ],
    }


def _activity(draft: DraftReport, card: str) -> str:
    said = f"draft written by {card}, image encoder run by {draft.provenance.runner}"
    if draft.impression_source is ImpressionSource.SUMMARY:
        said += f", impression written from its findings by {draft.impression_model or 'itself'}"
    elif draft.impression_source is ImpressionSource.UNWRITTEN:
        said += ", no impression written"
    return said


def _earlier(prior: PriorStudy) -> Body:
    """The earlier study, by identifier: its ImagingStudy is stored only where it was drafted itself."""
    what = {
        "type": "ImagingStudy",
        "identifier": uid_identifier(prior.study_instance_uid),
        "display": "earlier study",
    }
    return {"role": "source", "what": what}


def _entity(role: str, system: str, value: str, display: str) -> Body:
    return {
        "role": role,
        "what": {"identifier": {"system": system, "value": clean(value)}, "display": display},
    }
