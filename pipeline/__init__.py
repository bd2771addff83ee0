"""The path of a study, in plain Python.

archive   finds studies, lists their instances and fetches them to disk, counting every one
study     the values that travel: references, held instances, the study, its image set
images    chooses the reportable instances and decodes them to grey values
report    the draft: findings, impression, regions, provenance
checks    what a draft must pass before anyone sees it
fhir      the draft as FHIR R4 resources and audit events
store     Postgres: the ledger, the resources, the audit chain
web       what consumers read: FHIR REST and the review page
knowledge a site's own files as passages that answer questions

Stages do not know each other; ``flows`` joins them.
"""
