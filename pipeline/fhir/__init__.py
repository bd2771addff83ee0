"""FHIR R4: a drafted study as resources, validated twice, and the audit events of what was done.

``build_resources`` tells one study, ``validate`` stands before the store, ``transaction_bundle`` is for
delivery, ``audit_events`` tells what happened.
"""

from pipeline.fhir.bundle import build_resources, transaction_bundle
from pipeline.fhir.site import Site
from pipeline.fhir.validation import validate, validate_body

__all__ = ["Site", "build_resources", "transaction_bundle", "validate", "validate_body"]
