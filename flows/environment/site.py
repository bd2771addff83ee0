"""What a site's settings say of the FHIR resources of an archive's studies."""

from pipeline.fhir.site import Site
from pipeline.settings import Settings


def site_of(settings: Settings, archive: str) -> Site:
    """Whose reports they are; an archive that is configured no more is dated in UTC."""
    policy = settings.policy
    known = settings.archives.get(archive)
    zone = known.time_zone if known else "UTC"
    return Site(
        archive=archive,
        organization=policy.organization,
        identifier_system=policy.identifier_system,
        draft_status=policy.draft_status,
        time_zone="" if zone == "UTC" else zone,
    )
