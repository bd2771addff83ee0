"""fhirpy against a server: what a consumer does first, blocking and not. Writes one JSON.

python fhirpy_client.py BASE TOKEN CERTIFICATE REPORT, with fhirpy on the path.
"""

import asyncio
import json
import ssl
import sys

from fhirpy import AsyncFHIRClient, SyncFHIRClient

base, token, certificate, report = sys.argv[1:]
client = SyncFHIRClient(base, authorization=f"Bearer {token}", requests_config={"verify": certificate})
reports = client.resources("DiagnosticReport")
found = reports.limit(2).fetch_all()
first = reports.sort("-date").first()
assert first is not None
whole = reports.search(_id=report).include("DiagnosticReport", "result").fetch_raw()


async def every() -> list[str]:
    """Ids of all Observations, page by page."""
    config = {"ssl": ssl.create_default_context(cafile=certificate)}
    other = AsyncFHIRClient(base, authorization=f"Bearer {token}", aiohttp_config=config)
    return [one["id"] async for one in other.resources("Observation").limit(2)]


told = {
    "reports": [one["id"] for one in found],
    "partial": [one["id"] for one in found if one["status"] == "partial"],
    "counted": reports.search(status="partial").count(),
    "newest": first["id"],
    "included": [entry["resource"]["resourceType"] for entry in whole["entry"]],
    "subject": first["subject"].to_resource()["resourceType"],
    "observations": asyncio.run(every()),
}
sys.stdout.write(json.dumps(told))
