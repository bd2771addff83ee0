"""The web: FHIR R4 REST over what is stored, and a plain review page; nothing here writes a report.

``create_app`` builds the application, ``serve`` runs it. A token is demanded off loopback and wherever one is
configured; every read and search is audited before it is answered.
"""

from pipeline.web.addresses import Addresses
from pipeline.web.app import create_app
from pipeline.web.reader import Access, Audit, Clock, DoorEvent, Interaction, Reader
from pipeline.web.serving import serve, serving

__all__ = [
    "Access",
    "Addresses",
    "Audit",
    "Clock",
    "DoorEvent",
    "Interaction",
    "Reader",
    "create_app",
    "serve",
    "serving",
]
