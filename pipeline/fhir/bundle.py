"""A drafted study as the FHIR R4 resources that the store keeps; resources as a transaction Bundle."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from pipeline.errors import FailStudy
from pipeline.fhir.answers import answer_observations
from pipeline.fhir.device import device, device_reference
from pipeline.fhir.elements import Body, dated, instant, reference
from pipeline.fhir.imaging_study import imaging_study
from pipeline.fhir.narrative import notes
from pipeline.fhir.observations import Run, observations
from pipeline.fhir.patient import organization, patient, patient_reference
from pipeline.fhir.provenance import provenance
from pipeline.fhir.report import diagnostic_report
from pipeline.fhir.site import Site
from pipeline.ledger import Completeness, Resource
from pipeline.report import CheckOutcome, DraftReport, Verdict
from pipeline.study import ImageSet
from pipeline.study_context import InstanceDescription, StudyContext


def build_resources(
    draft: DraftReport,
    context: StudyContext,
    image_set: ImageSet,
    checks: Sequence[CheckOutcome],
    completeness: Completeness,
    site: Site,
    issued: datetime,
) -> tuple[Resource, ...]:
    """Organization, Patient, Device, ImagingStudy, Observations, DiagnosticReport, Provenance, in this order.

    Every resource comes after those it refers to. Ids are deterministic (``ids``). ``issued`` must be aware.
    What is machine-written (Observations, report, Provenance) is labelled AIAST; Patient and ImagingStudy
    repeat the headers. Raises FailStudy for a draft that a hard check failed or that cannot be told in FHIR.
    The result is not yet validated: ``validation.validate`` stands before the store.
    """
    _refuse_unfit(draft, context, checks)
    performer = organization(site)
    subject = patient(context, site)
    performed_by = reference("Organization", performer["id"]) | {"display": performer["name"]}
    made_by = device(draft.provenance, performed_by)
    subject_reference = patient_reference(context, site)
    study = imaging_study(context, completeness, site, subject_reference, _masks(draft))
    run = Run(
        archive=site.archive,
        manifest_digest=completeness.manifest_digest,
        subject=subject_reference,
        imaging_study=reference("ImagingStudy", study["id"]) | {"identifier": study["identifier"][0]},
        device=device_reference(made_by),
        organization=performed_by,
        effective=dated("effectiveDateTime", context.started, site.time_zone),
        issued=instant(issued),
    )
    found = (*observations(draft, run), *answer_observations(draft, run))
    results = [reference("Observation", one["id"]) | {"display": one["code"]["text"]} for one in found]
    lines = notes(draft, image_set.left_out, checks, completeness)
    report = diagnostic_report(draft, context, image_set, completeness, site, run, results, lines)
    targets = [reference(one["resourceType"], one["id"]) for one in (report, *found)]
    made = provenance(draft, run, targets)
    return tuple(_resource(body) for body in (performer, subject, made_by, study, *found, report, made))


def _masks(draft: DraftReport) -> list[InstanceDescription]:
    """The segmentations of the draft, as instances of series of our own."""
    refs = {answer.mask_ref: None for answer in draft.answers if answer.mask_ref is not None}
    return [
        InstanceDescription(
            one.ref, one.sop_class_uid, "SEG", series_description="Machine-made segmentation, not verified"
        )
        for one in refs
    ]


def transaction_bundle(
    resources: Sequence[Resource], base: str, if_match: Mapping[str, int] | None = None
) -> Body:
    """A transaction Bundle of PUTs for a FHIR server at ``base`` (R4 http, transaction).

    ``if_match`` maps "Type/id" to the version that the server must still hold.
    """
    versions = if_match or {}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [_entry(resource, base.rstrip("/"), versions) for resource in resources],
    }


def _entry(resource: Resource, base: str, versions: Mapping[str, int]) -> Body:
    url = f"{resource.resource_type}/{resource.resource_id}"
    request: Body = {"method": "PUT", "url": url}
    if url in versions:
        request["ifMatch"] = f'W/"{versions[url]}"'
    return {"fullUrl": f"{base}/{url}", "resource": resource.body, "request": request}


def _resource(body: Body) -> Resource:
    return Resource(body["resourceType"], body["id"], body)


def _refuse_unfit(draft: DraftReport, context: StudyContext, checks: Sequence[CheckOutcome]) -> None:
    failed = sorted({outcome.check for outcome in checks if outcome.verdict is Verdict.FAILED})
    if failed:
        raise FailStudy("check-failed", f"the draft failed {', '.join(failed)} and is not stored as a report")
    if draft.study_instance_uid != context.study_instance_uid:
        raise FailStudy("draft-mismatch", "the draft belongs to another study than the headers")
