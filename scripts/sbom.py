"""A bill of materials of both locks on standard output, as CycloneDX 1.6 in JSON: ``python -m scripts.sbom``.

Components that ship are "required", those that only the tests use "excluded"; licences are what the installed packages
say. Packages that this Python does not need have none here. The same locks give the same bytes.
"""

import json
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from scripts.locked import read_hashes, read_rows, version_of

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"requirements.lock": "required", "requirements-dev.lock": "excluded"}


def licence_of(name: str) -> str:
    """What an installed package says of its licence: an SPDX expression, its classifiers, or its own words."""
    try:
        known = metadata(name)
    except PackageNotFoundError:
        return ""
    kinds = [one for one in known.get_all("Classifier", []) if one.startswith("License :: ")]
    expression, words = (str(known[key] or "").strip() for key in ("License-Expression", "License"))
    told = words if words and len(words) < 64 and "\n" not in words else ""
    return expression or " OR ".join(one.rpartition(" :: ")[2] for one in kinds) or told


def components() -> Iterator[dict[str, Any]]:
    """Each row of the locks, in their order."""
    hashes = read_hashes(ROOT / "requirements.sha256")
    for lock, scope in LOCKS.items():
        for row in read_rows(ROOT / lock):
            version, licence = version_of(row), licence_of(row.name)
            purl = f"pkg:pypi/{row.name}@{version}"
            component: dict[str, Any] = {
                "type": "library",
                "bom-ref": purl,
                "name": row.name,
                "version": version,
                "scope": scope,
                "purl": purl,
                "externalReferences": [
                    {
                        "type": "distribution",
                        "url": f"https://pypi.org/project/{row.name}/{version}/",
                        "hashes": [
                            {"alg": "SHA-256", "content": one} for one in hashes[f"{row.name}=={version}"]
                        ],
                    }
                ],
            }
            if licence:
                component["licenses"] = [{"license": {"name": licence}}]
            yield component


def bill() -> dict[str, Any]:
    """The whole document."""
    listed = list(components())
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(listed, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "firstread",
                "name": "firstread",
                "version": metadata("firstread")["Version"],
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": listed,
        "dependencies": [
            {
                "ref": "firstread",
                "dependsOn": [one["bom-ref"] for one in listed if one["scope"] == "required"],
            }
        ],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
