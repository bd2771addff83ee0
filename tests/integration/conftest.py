"""Fixtures of the tests on real servers alone: the others need not import what they are made of."""

from tests.fhir_site import rest_site

__all__ = ["rest_site"]
