"""Device: the software and model that wrote the draft (HL7 AI Transparency on FHIR, AI Device)."""

from pipeline.fhir.elements import AI_DEVICE_TYPES, AI_KIND, Body, clean, coding, concept, reference
from pipeline.fhir.ids import resource_id
from pipeline.report import Provenance

_KINDS = (
    ("Vision-Language-Models", "Vision-Language Models"),
    ("Medical-Image-Analysis", "Medical Image Analysis"),
)
ARTIFICIAL_INTELLIGENCE = coding(
    AI_DEVICE_TYPES, "Artificial-Intelligence", "All kinds of Artificial Intelligence"
)
SAFETY = "Machine-made drafts for a radiologist to read. Not a medical device; not for clinical use."


def device(made_by: Provenance, owner: Body) -> Body:
    """The Device of one recipe: another recipe is another Device, and so is each model that a site routes studies to.

    ``made_by.parts`` become its properties.
    """
    routed = (made_by.parts["route"],) if "route" in made_by.parts else ()
    body: Body = {
        "resourceType": "Device",
        "id": resource_id("device", made_by.recipe, *routed),
        "extension": [
            {"url": AI_KIND, "valueCodeableConcept": concept(coding(AI_DEVICE_TYPES, *kind))}
            for kind in _KINDS
        ],
        "identifier": [{"system": "urn:firstread:recipe", "value": clean(made_by.recipe)}],
        "status": "active",
        "manufacturer": "Firstread",
        "deviceName": [{"name": clean(made_by.model_id), "type": "model-name"}],
        "modelNumber": clean(made_by.model_id),
        "type": concept(ARTIFICIAL_INTELLIGENCE),
        "owner": owner,
        "safety": [concept(text=SAFETY)],
    }
    if version := clean(made_by.model_version):
        body["version"] = [{"value": version}]
    properties = [(clean(name), clean(value)) for name, value in sorted(made_by.parts.items())]
    if shown := [pair for pair in properties if all(pair)]:
        body["property"] = [
            {"type": concept(text=name), "valueCode": [concept(text=value)]} for name, value in shown
        ]
    return body


def device_reference(body: Body) -> Body:
    """A Reference to a Device, with the model's name for display."""
    return reference("Device", body["id"]) | {"display": body["modelNumber"]}
