"""``firstread ask``, and studies compared with an earlier one: over real archives, database and files."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest

from flows import path, priors
from flows.commands import ask as asking
from flows.commands.ask import Inquiry, ask, read_region
from flows.environment.workplace import Workplace
from flows.path import RetrievedStudy
from models.family import Task, Traits
from models.model_choice import ModelChoice
from models.simulation.film import render
from pipeline import settings as configuration
from pipeline.errors import ConfigurationError, RetryLater
from pipeline.ledger import LedgerState, ReportOutcome
from pipeline.setting_lists import TaskSettings
from pipeline.settings import Settings
from pipeline.study import StudyQuery
from pipeline.study_context import PatientIdentity
from tests.answering_family import AnsweringFamily
from tests.servers import orthanc, store_over_rest
from tests.sites import firstread, rows, write_site
from tests.synthetic import chest_pixels, radiograph_header, write_chest
from tests.unit.fhir_samples import CONTEXT, IMAGES

TODAY = "today"
UID = radiograph_header(TODAY).study_instance_uid


@dataclass(frozen=True)
class Site:
    """A folder archive with one patient's studies over three years, and one of another issuer's namesake."""

    settings: Settings
    family: AnsweringFamily
    films: Path
    url: str

    def uid(self, study: str) -> str:
        return radiograph_header(study).study_instance_uid

    def ask(self, capsys: pytest.CaptureFixture[str], task: str, **more: Any) -> tuple[int, dict[str, Any]]:
        inquiry = Inquiry(**{"archive": "main", "study": UID, "task": task, **more})
        code = ask(self.settings, inquiry, as_json=True)
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def film(folder: Path, study: str, year: int, **header: Any) -> None:
    fields = {"patient_id": "TEST-ONE", "started": datetime(year, 5, 6, 7, 8), **header}  # noqa: DTZ001 - local
    seed = sum(study.encode())
    write_chest(
        folder / f"{study}.dcm", radiograph_header(study, **fields), pixels=chest_pixels(240, 200, seed=seed)
    )


@pytest.fixture
def site(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    films = tmp_path / "films"
    films.mkdir()
    film(films, TODAY, 2031)
    film(films, "oldest", 2028)
    film(films, "older", 2029)
    film(films, "hand", 2030, body_part="HAND", description="Hand")
    film(films, "later", 2032)
    film(films, "other", 2030, patient_id="TEST-TWO")
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(films)}})
    family = AnsweringFamily("firstread-mini")
    monkeypatch.setattr(asking, "open_model", lambda choice, cache: family)
    monkeypatch.setattr("models.drafter.open_model", lambda choice, cache: family)
    # It stands in for the family of that name, and answers other questions than its catalogue entry says.
    monkeypatch.setattr("flows.environment.workplace.check_site_tasks", lambda *_: None)
    return Site(configuration.load(config), family, films, database_url)


def test_a_region_of_the_original_is_asked_and_answered(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = site.ask(capsys, "identify", region="10,20,60.5,220")
    assert code == 0
    assert answer["text"] == "a box 50.5 pixels wide"
    assert answer["question"] == "10,20,60.5,220"
    assert answer["notice"].startswith("Machine-made")
    assert answer["model"] == "firstread-mini"
    code, answer = site.ask(capsys, "identify", region="10,20,201,220")
    assert (code, answer["error"]["code"]) == (1, "region-range")


def test_labels_and_places_are_told_in_pixels(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _, answer = site.ask(capsys, "classify", labels=("normal", "pneumonia"))
    assert answer["labels"][0] == {"name": "normal", "chosen": True, "probability": 0.9}
    _, answer = site.ask(capsys, "detect", target="heart", language="zh")
    assert answer["language"] == "zh"
    assert answer["places"][0]["box"] == pytest.approx([20, 48, 80, 120])
    assert answer["places"][0]["sop_instance_uid"] == radiograph_header(TODAY).sop_instance_uid
    _, answer = site.ask(capsys, "landmark", target="carina")
    assert answer["places"][0]["point"] == pytest.approx([100, 72])


def test_text_tasks_read_the_draft(site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, answer = site.ask(capsys, "text_qa", question="What is there?")
    assert answer["text"].endswith("There is a s")
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    _, answer = site.ask(capsys, "structured", schema=schema)
    assert answer["structured"] == {"length": 85}


def test_a_further_model_reads_the_draft_of_the_sites_own(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = AnsweringFamily("smollm2-135m", tasks=frozenset({Task.SUMMARIZE}))
    opened: list[str] = []

    def open_model(choice: ModelChoice, cache: Path) -> AnsweringFamily:
        opened.append(choice.id)
        return reader if choice.id == "smollm2-135m" else site.family

    monkeypatch.setattr(asking, "open_model", open_model)
    small = configuration.ModelSettings(id="smollm2-135m", weights=Path("/nowhere"))
    settings = site.settings.model_copy(update={"models": {"small": small}})
    inquiry = Inquiry("main", UID, "summarize", model="small")
    assert ask(settings, inquiry, as_json=True) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["text"], answer["model"]) == ("85 letters: There is a s", "smollm2-135m")
    assert opened == ["smollm2-135m", "firstread-mini"]
    assert reader.batches == [[Task.SUMMARIZE]]


def test_a_person_sees_a_table_and_the_banner(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(site.settings, Inquiry("main", UID, "vqa", question="Is there a tube?"), as_json=False) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("Is there a tube?", "yes", "Machine-made drafts. Not read by a radiologist"):
        assert text in shown
    assert ask(site.settings, Inquiry("main", UID, "detect", target="heart"), as_json=False) == 0
    assert "x 20-80, y 48-120 (0.70)" in capsys.readouterr().out
    assert ask(site.settings, Inquiry("main", "1.2.3.4.5.6.7", "vqa", question="q"), as_json=False) == 1
    assert "holds no file of the study" in capsys.readouterr().err


def test_nothing_is_kept_but_the_audit(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site.ask(capsys, "vqa", question="Is there a tube?")
    site.ask(capsys, "vqa", question="unanswerable")
    assert rows(site.url, "SELECT count(*) FROM firstread.ledger") == [(0,)]
    assert rows(site.url, "SELECT count(*) FROM firstread.resource") == [(0,)]
    events = [event for (event,) in rows(site.url, "SELECT event FROM firstread.audit_event ORDER BY seq")]
    codes = [one["type"]["code"] for one in events]
    assert codes == ["110100", "110107", "110103", "110100"] * 2
    asked = events[2]["entity"]
    assert asked[0]["what"]["identifier"]["value"] == f"urn:oid:{UID}"
    assert asked[0]["detail"][0] == {"type": "task", "valueString": "vqa"}
    assert asked[1]["what"]["reference"].startswith("Patient/")
    assert [path for path in (site.settings.data_dir / "work").rglob("*") if path.is_file()] == []
    for secret in (UID, "TEST-ONE", "Fictitious", "tube"):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("inquiry", "words"),
    [
        ({"task": "prophesy"}, "no task 'prophesy'"),
        ({"task": "segment", "target": "lung"}, "does not do segment; it does report"),
        ({"task": "identify"}, "identify needs region"),
        ({"task": "identify", "region": "5,5,4,9"}, "left, top, right, bottom"),
        ({"task": "vqa", "question": "q", "archive": "nowhere"}, r"no \[archives.nowhere\]"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_fetched(
    site: Site, inquiry: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ask(site.settings, Inquiry(**{"archive": "main", "study": UID, **inquiry}), as_json=True)
    assert rows(site.url, "SELECT count(*) FROM firstread.audit_event WHERE event::text LIKE '%110107%'") == [
        (0,)
    ]


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1,2,inf,9", "nan,2,3,4", "-1,2,3,4"])
def test_a_region_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--region is"):
        read_region(text)


def test_an_earlier_study_is_compared_with_only_where_it_is_the_patients(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = site.ask(capsys, "vqa", question="q", prior=site.uid("oldest"))
    assert (code, site.family.priors) == (0, 1)
    for study, why in (("other", "prior-patient"), ("later", "prior-date"), ("hand", "not-chest")):
        code, answer = site.ask(capsys, "vqa", question="q", prior=site.uid(study))
        assert (code, answer["error"]["code"]) == (1, why)
    assert site.family.priors == 1
    site.family.traits = Traits()
    with pytest.raises(ConfigurationError, match="does not compare with earlier studies"):
        site.ask(capsys, "vqa", question="q", prior=site.uid("oldest"))


def drafted(site: Site, policy: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    """Draft today's study; gives its stored draft."""
    updated = site.settings.policy.model_copy(update={"priors": policy})
    listed = tuple(TaskSettings(**one) for one in tasks)
    settings = site.settings.model_copy(update={"policy": updated, "tasks": listed})
    with Workplace(settings) as workplace:
        found = list(workplace.archive("main").find(StudyQuery(study_instance_uids=(UID,))))
        recipe = workplace.drafter.recipe
        workplace.store.record_found("main", recipe, found)
        (claim,) = workplace.store.claim(recipe, owner="tests", limit=9, lease_seconds=60)
        brought = path.bring(workplace, claim)
        assert isinstance(brought, RetrievedStudy)
        (draft,) = workplace.drafter.write(workplace.drafter.encode([brought.image_set]))
        workplace.store.advance([claim], LedgerState.DRAFTED)
        outcome = path.outcome_of(workplace, brought, draft)
        assert isinstance(outcome, ReportOutcome), outcome
        workplace.store.save(outcome)
    (stored,) = rows(site.url, "SELECT draft FROM firstread.report_version")[0]
    return dict(stored)


def reports(site: Site) -> list[dict[str, Any]]:
    return [one for (one,) in rows(site.url, "SELECT diagnostic_report FROM firstread.reports")]


def test_a_study_is_drafted_with_the_sites_tasks(site: Site) -> None:
    tasks = (
        {"task": "vqa", "questions": ["Is there a tube?", "unanswerable"]},
        {"task": "detect", "targets": ["heart"]},
    )
    draft = drafted(site, "off", *tasks)
    assert [one["text"] for one in draft["answers"]] == ["yes", "2 found"]
    assert draft["prior"] is None
    assert site.family.priors == 0
    (report,) = reports(site)
    assert [one["display"] for one in report["result"]][-2:] == [
        "Question on the images: Is there a tube?",
        "Detection: heart",
    ]
    assert "vqa unanswerable was not answered" in report["text"]["div"]
    stored = rows(
        site.url, "SELECT body FROM firstread.resource WHERE body::text LIKE '%urn:firstread:task%'"
    )
    assert len(stored) == 2


def test_a_history_that_reads_like_a_report_is_withheld_and_the_draft_says_so(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    file = site.films / f"{TODAY}.dcm"
    dataset = pydicom.dcmread(file)
    dataset.ReasonForStudy = "Cough. FINDINGS: Right effusion. IMPRESSION: Effusion."
    dataset.save_as(file)
    drafted(site, "off")
    shown = reports(site)[0]["text"]["div"]
    assert "indication holds or resembles a report: it was withheld" in shown
    assert "Right effusion" not in shown
    inquiry = Inquiry(archive="main", study=UID, task="findings")
    assert ask(site.settings, inquiry, as_json=True) == 0
    assert "withheld" in capsys.readouterr().err


def test_a_draft_is_compared_with_the_last_earlier_chest_film(site: Site) -> None:
    draft = drafted(site, "last")
    assert draft["prior"] == {"study_instance_uid": site.uid("older"), "study_date": "2029-05-06"}
    assert site.family.priors == 1
    assert "earlier study of this patient (2029-05-06)" in reports(site)[0]["text"]["div"]
    received = rows(
        site.url, "SELECT event FROM firstread.audit_event WHERE event->'type'->>'code' = '110107'"
    )
    assert len(received) == 2, "the audit names both studies"


def test_a_search_that_fails_costs_the_comparison_and_not_the_draft(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*asked: object) -> Iterator[str]:
        if not asked:  # makes it a generator: it fails when it is read, as a search does
            yield ""
        raise RetryLater("archive-busy", "busy")

    monkeypatch.setattr(priors, "_earlier_studies", away)
    draft = drafted(site, "last")
    assert draft["prior"] is None
    assert [one["check"] for one in draft["remarks"]] == ["prior"]
    assert "nothing was compared with it" in reports(site)[0]["text"]["div"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        *((number, True) for number in ("100,200", "10*", "1?", "A\\B", "Ü1")),
        *((number, False) for number in ("", "????", "UNKNOWN")),
    ],
)
def test_a_number_that_a_search_cannot_ask_for_is_not_searched(number: str, *, said: bool) -> None:
    """Orthanc takes a comma for OR, PS3.4 C.2.2.2 the others for wild cards and several values: strangers' films."""
    nowhere = cast("Workplace", None)  # asked for an archive it would fail
    context = replace(CONTEXT, patient=PatientIdentity(number, "INVENTED"))
    compared = priors.with_last_prior(nowhere, "main", context, IMAGES)
    assert IMAGES.chest
    assert compared.image_set is IMAGES
    assert [one.check for one in compared.remarks] == (["prior"] if said else [])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("1", "A"), ("1", "A"), True),
        (("1", ""), ("1", ""), True),
        (("1", "A"), ("1", ""), False),
        (("1", "A"), ("1", "B"), False),
        (("1", "A"), ("2", "A"), False),
        (("", "A"), ("", "A"), False),
        (("", ""), ("", ""), False),
        (("UNKNOWN", ""), ("UNKNOWN", ""), False),
        (("0000", "A"), ("0000", "A"), False),
    ],
)
def test_who_is_the_same_patient(one: tuple[str, str], other: tuple[str, str], same: bool) -> None:
    assert priors.same_patient(PatientIdentity(*one), PatientIdentity(*other)) is same


def test_the_command_over_orthanc(database_url: str, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    header = radiograph_header(TODAY, patient_id="TEST-ONE", started=datetime(2031, 5, 6, 7, 8))  # noqa: DTZ001 - local
    write_chest(films / f"{TODAY}.dcm", header, pixels=render(3, size=384).pixels)
    with orthanc(tmp_path / "orthanc") as peer:
        store_over_rest(peer, films / f"{TODAY}.dcm")
        write_site(tmp_path, database_url, {"main": {"kind": "dicomweb", "url": peer.dicomweb}})
        done = firstread("ask", "--study", UID, "--task", "findings", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        assert (answer["task"], answer["model"]) == ("findings", "firstread-mini")
        assert answer["text"]
        assert UID not in done.stderr
        refused = firstread("ask", "--study", UID, "--task", "segment", "--target", "lung", cwd=tmp_path)
        assert refused.returncode == 2
        assert "it does report, findings" in refused.stderr
        gone = firstread("ask", "--study", "1.2.3.4.5.6.7", "--task", "findings", "--json", cwd=tmp_path)
        assert gone.returncode == 1
        assert "error" in json.loads(gone.stdout.splitlines()[-1])
        assert Task.FINDINGS in Task
