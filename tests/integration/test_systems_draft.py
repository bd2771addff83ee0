"""A site picks a model by name and its drafts arrive as FHIR: systems of different shapes over one archive.

CheXOne writes Findings and summarises them itself, while Lingshu points and MedRegA writes a grounded report; MAIRA-2,
behind a server, drafts grounded sentences with a signed earlier report, and a second model concludes; LLaVA-Rad has no
Impression at all. The networks are small and taught (``tests.taught``), the servers real.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pydicom
import pytest

from models.family import Request, Task
from pipeline.fhir.ids import report_id
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from pipeline.web import create_app, serving
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.memberships import let_act_as
from tests.sites import firstread, rows, summary, troubles, write_site
from tests.synthetic import chest_pixels, radiograph_header, write_chest
from tests.taught import write_taught_medrega, write_taught_qwen
from tests.tiny_model import film_study

TODAY, EARLIER = "today", "earlier"
UID = radiograph_header(TODAY).study_instance_uid
FINDINGS = "There is a small left pleural effusion. The heart is normal in size."
IMPRESSION = "Small left pleural effusion."
GROUNDED = f"<ref>left lung</ref><box>[[500, 100, 950, 900]]</box>: {IMPRESSION}"
MAIRA = (
    "<obj>There is a small left pleural effusion. <box><x60><y70><x80><y90></box></obj> The heart is normal."
)
REASON = "Cough. Fictitious Test, TEST-ONE, 3.5.31, Dr. Other, O. Erfunde"


@dataclass
class Site:
    folder: Path
    url: str
    films: Path
    server: FaultyEndpoint
    numbers: list[int] = field(default_factory=list)

    def run(self, *studies: str, priors: str = "off", tasks: str = "", **models: Any) -> dict[str, Any]:
        """Draft; gives the resources of today's study by type, Observations in a list."""
        self.numbers.append(len(self.numbers))
        folder = self.folder / f"site-{len(self.numbers)}"
        tables = {name.replace("__", "."): table for name, table in models.items()}
        config = write_site(
            folder,
            self.url,
            {"main": {"kind": "folder", "path": str(self.films)}},
            policy={"priors": priors},
            **tables,
        )
        config.write_text(config.read_text() + tasks)
        named = [
            part for study in studies for part in ("--study", radiograph_header(study).study_instance_uid)
        ]
        done = firstread("run", "--json", "--config", str(config), *named, cwd=folder)
        assert done.returncode == 0, f"{done.stderr}\n{troubles(self.url)}"
        assert summary(done)["reported"] == len(studies)
        query = f"SELECT body FROM firstread.resource WHERE study_instance_uid = '{UID}'"
        held = {f"{one['resourceType']}/{one['id']}": one for (one,) in rows(self.url, query)}
        (report,) = (one for one in held.values() if one["resourceType"] == "DiagnosticReport")
        return {"report": report, "observations": [held[one["reference"]] for one in report["result"]]}


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    films = tmp_path / "films"
    films.mkdir()
    for study, year in ((EARLIER, 2030), (TODAY, 2031)):
        header = radiograph_header(study, patient_id="TEST-ONE", started=datetime(year, 5, 6, 7, 8))  # noqa: DTZ001
        path = write_chest(films / f"{study}.dcm", header, pixels=chest_pixels(240, 200))
        dataset = pydicom.dcmread(path)
        dataset.ReasonForStudy = REASON
        dataset.ReferringPhysicianName = "Erfunde^Otto"
        dataset.save_as(path)
    with faulty_endpoint() as server:
        server.reply = reply
        yield Site(tmp_path, database_url, films, server)


def reply(body: dict[str, Any]) -> str:
    if "Write the impression" in texts(body):
        return IMPRESSION
    return FINDINGS if "in the radiology image given" in texts(body) else MAIRA


def texts(body: dict[str, Any]) -> str:
    """The words of a chat, without its pictures."""
    said = [turn["content"] for turn in body["messages"]]
    parts = [one if isinstance(one, list) else [{"text": one}] for one in said]
    return "".join(part.get("text", "") for turn in parts for part in turn)


def sections(observations: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["code"]["coding"][0]["code"]: one for one in observations}


def labelled(drafted: dict[str, Any]) -> None:
    """Every machine-written resource says so, and so does the page."""
    report = drafted["report"]
    assert report["status"] == "partial"
    for one in (report, *drafted["observations"]):
        assert "AIAST" in [label["code"] for label in one["meta"]["security"]]
        assert "Machine-made draft, not read by a radiologist" in one["text"]["div"]
    assert "Machine-made draft" in base64.b64decode(report["presentedForm"][0]["data"]).decode()


def regions(observation: dict[str, Any]) -> list[list[float]]:
    found = []
    for extension in observation.get("extension", []):
        parts = {part["url"]: part for part in extension.get("extension", [])}
        if "x0" in parts:
            found.append([float(parts[edge]["valueDecimal"]) for edge in ("x0", "y0", "x1", "y1")])
    return found


def test_systems_of_different_shapes_draft_the_same_archive(site: Site, tmp_path: Path) -> None:
    study = film_study(1, rows=240, columns=200)
    chexone = write_taught_qwen(
        tmp_path / "chexone",
        "chexone",
        study,
        {
            Request(Task.FINDINGS): rf"I look. \boxed{{{FINDINGS}}}",
            Request(Task.SUMMARIZE, text=FINDINGS): rf"\boxed{{{IMPRESSION}}}",
        },
    )
    boxes = '[{"bbox_2d": [49, 63, 147, 189], "label": "heart"}]'
    lingshu = write_taught_qwen(
        tmp_path / "lingshu", "lingshu-7b", study, {Request(Task.DETECT, target="heart"): boxes}
    )
    medrega = write_taught_medrega(tmp_path / "medrega", study, {Request(Task.GROUNDED_REPORT): GROUNDED})
    drafted = site.run(
        EARLIER, TODAY,
        model={"id": "chexone", "weights": str(chexone), "accept_use_limits": True, "threads": 1},
        models__pointing={"id": "lingshu-7b", "weights": str(lingshu), "threads": 1},
        models__grounding={"id": "medrega", "weights": str(medrega), "accept_use_limits": True, "threads": 1},
        tasks='[[tasks]]\ntask = "detect"\ntargets = ["heart"]\nmodel = "pointing"\n'
        '[[tasks]]\ntask = "grounded_report"\nmodel = "grounding"\n',
    )  # fmt: skip
    labelled(drafted)
    assert drafted["report"]["conclusion"] == IMPRESSION
    held = sections(drafted["observations"])
    assert held["59776-5"]["valueString"] == FINDINGS
    assert "written by chexone from the text of the findings" in held["19005-8"]["note"][0]["text"]
    (found,) = (one for one in drafted["observations"] if "Detection: heart" in one["code"]["text"])
    (component,) = found["component"]
    assert regions(component) == [[50.0, 60.0, 150.0, 180.0]], "of 200 x 240 pixels, shown as 196 x 252"
    (told_of,) = (one for one in drafted["observations"] if "Grounded report" in one["code"]["text"])
    (lung,) = told_of["component"]
    assert regions(lung) == [[100.1, 24.02, 190.19, 216.22]], "0-999 of the whole film"
    sign(site)

    endpoint = {"url": site.server.url, "model": "served"}
    served = {"accept_use_limits": True}
    drafted = site.run(
        TODAY,
        priors="last",
        model={"id": "maira-2", "report": "grounded_report", "impression": "small", **served},
        model__endpoint=endpoint,
        models__small={"id": "openai-endpoint", **served},
        models__small__endpoint=endpoint,
    )
    labelled(drafted)
    assert drafted["report"]["conclusion"] == IMPRESSION
    assert "written by openai-endpoint" in json.dumps(sections(drafted["observations"])["19005-8"]["note"])
    (effusion,) = (one for one in drafted["observations"] if "effusion" in one["code"]["text"].lower())
    assert regions(effusion) == [[121.0, 161.0, 161.0, 201.0]]
    asked = site.server.bodies[0]
    words = texts(asked)
    assert "PRIOR_REPORT: IMPRESSION: Old scar." in words
    assert "in comparison to the prior frontal image" in words
    assert "INDICATION: Cough. ___" in words
    assert "TECHNIQUE: Chest radiograph, PA. COMPARISON: Prior chest radiograph." in words
    sent = json.dumps([texts(body) for body in site.server.bodies])
    assert not [
        name for name in ("Fictitious", "TEST-ONE", "3.5.31", "Dr. Other", "Erfunde", UID) if name in sent
    ]

    drafted = site.run(TODAY, model={"id": "llava-rad", **served}, model__endpoint=endpoint)
    labelled(drafted)
    assert "conclusion" not in drafted["report"]
    assert drafted["report"]["_conclusion"]["extension"][0]["valueCode"] == "not-performed"
    assert "indication: Cough. ___" in texts(site.server.bodies[-1])
    impression = sections(drafted["observations"])["19005-8"]
    assert impression["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert "no impression was written" in drafted["report"]["text"]["div"]
    view = (
        "SELECT model_id, findings, impression, status FROM firstread.reports WHERE study_instance_uid = %s"
    )
    with psycopg.connect(libpq_url(site.url)) as connection:
        row = connection.execute(view, [UID]).fetchone()
    assert row is not None
    assert (row[0], row[2], row[3]) == ("llava-rad", "", "partial")
    with Store(site.url) as store:
        app = create_app(store, token="", audit=lambda _: None, clock=lambda: datetime.now(UTC))
        with serving(app) as url:
            page = httpx.get(f"{url.rstrip('/')}/reports/{drafted['report']['id']}").text
            named = report_id("main", radiograph_header(EARLIER).study_instance_uid)
            other = httpx.get(f"{url.rstrip('/')}/reports/{named}").text
    assert "Written by chexone from the text of the findings; it saw no image for it." in other
    assert "Not written: the model that drafted this writes findings only." in page
    assert "Machine-made draft" in page


def sign(site: Site) -> None:
    """A radiologist signs the earlier study's report, with words of their own."""
    with psycopg.connect(libpq_url(site.url)) as connection:
        let_act_as(connection, "firstread_signer")
        connection.execute("SET ROLE firstread_signer")
        connection.execute(
            """UPDATE firstread.resource SET body = body || '{"status": "final", "conclusion": "Old scar."}'
               WHERE resource_type = 'DiagnosticReport' AND study_instance_uid = %s""",
            [radiograph_header(EARLIER).study_instance_uid],
        )
