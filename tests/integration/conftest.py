"""Fixtures of the tests on real servers alone: the others need not import what they are made of."""

from tests.fhir_site import rest_site
from tests.memberships import database

__all__ = ["database", "rest_site"]
