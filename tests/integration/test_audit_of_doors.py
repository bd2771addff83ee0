"""What the audit knows of who came in, who was sent away, and of what was read out; and how guessing is slowed."""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import RetryLater
from pipeline.fhir import validate_body
from pipeline.fhir.door_events import audit_read, configuration_changed, door, study_tried
from pipeline.web import DoorEvent, create_app, doors, serving
from pipeline.web.doors import Doors
from pipeline.web.reader import DoorKind
from tests.invented_outcomes import invented_outcome
from tests.memory_reader import MemoryReader
from tests.sites import environment, firstread, rows, running, until, write_site
from tests.synthetic import write_chest
from tests.unit.fhir_samples import ISSUED, SITE, STUDY

TOKEN = "a-token-of-this-site"
LISTENER = {"condition": "well", "listener": "FIRSTREAD on 10.0.0.1:11112", "associations": 3}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODES = (
    "SELECT event #>> '{type,code}', event #>> '{subtype,0,code}', event #>> '{agent,0,name}' "
    "FROM firstread.audit_event ORDER BY seq"
)


@contextmanager
def site(told: list[Any]) -> Iterator[httpx.Client]:
    reader = MemoryReader()
    reader.save_all([invented_outcome(0)])
    app = create_app(
        reader, token=TOKEN, audit=told.extend, clock=lambda: datetime.now(UTC), listener=lambda: LISTENER
    )
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def doors_of(told: list[Any]) -> list[tuple[str, str, int]]:
    return [(one.kind, one.agent, one.count) for one in told if isinstance(one, DoorEvent)]


def test_sign_ins_and_outs_are_told_and_a_signed_out_session_is_over() -> None:
    told: list[Any] = []
    with site(told) as client:
        client.post("/sign-in", data={"token": TOKEN})
        assert "Sign out" in client.get("/").text
        cookie = client.cookies["firstread-session"]
        out = client.post("/sign-out", headers={"origin": str(client.base_url).rstrip("/")})
        assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
        assert "firstread-session" not in client.cookies
        again = client.get("/", headers={"cookie": f"firstread-session={cookie}"})
        assert again.status_code == 303  # the cookie that somebody kept opens nothing
    assert doors_of(told) == [("signed-in", "127.0.0.1", 1), ("signed-out", "127.0.0.1", 1)]


def test_a_stranger_is_told_that_the_listener_is_well_and_not_where_it_is() -> None:
    told: list[Any] = []
    with site(told) as client:
        assert client.get("/health?listener").json() == {"condition": "well"}
        known = client.get("/health?listener", headers={"authorization": f"Bearer {TOKEN}"})
        assert (known.status_code, known.json()) == (200, LISTENER)


def test_a_session_that_a_stranger_has_chosen_opens_nothing_after_a_sign_in_either() -> None:
    told: list[Any] = []
    chosen = "firstread-session=9999999999-0000000000000000.00"
    with site(told) as client:
        answer = client.post("/sign-in", data={"token": TOKEN}, headers={"cookie": chosen})
        assert chosen not in answer.headers["set-cookie"]
        client.cookies.clear()
        assert client.get("/", headers={"cookie": chosen}).status_code == 303


def test_another_site_cannot_sign_a_person_out() -> None:
    told: list[Any] = []
    with site(told) as client:
        client.post("/sign-in", data={"token": TOKEN})
        client.post("/sign-out", headers={"origin": "http://evil.example"})
        assert client.get("/").status_code == 200


def test_wrong_tokens_are_counted_and_answered_later_and_later_and_the_right_one_at_once() -> None:
    told: list[Any] = []
    with site(told) as client, ThreadPoolExecutor(8) as pool:
        begun = time.perf_counter()
        for _ in range(3):
            assert client.get("/fhir/Patient", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert time.perf_counter() - begun < doors.FIRST_DELAY * 3
        took = []
        for _ in range(3):
            begun = time.perf_counter()
            assert client.post("/sign-in", data={"token": "wrong"}).status_code == 403
            took.append(time.perf_counter() - begun)
        assert all(least <= one < least + 5 for one, least in zip(took, (0.25, 0.5, 1.0), strict=True)), took
        wrong = {"authorization": "Bearer wrong"}
        waiting = [
            pool.submit(httpx.get, f"{client.base_url}fhir/Patient", headers=wrong, timeout=60)
            for _ in range(8)
        ]
        time.sleep(0.2)
        assert client.get("/fhir/Patient", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert not all(one.done() for one in waiting)
        assert all(one.result().status_code == 401 for one in waiting)
    # the first of each kind at once, the others counted
    assert doors_of(told) == [("wrong-bearer", "127.0.0.1", 1), ("wrong-token", "127.0.0.1", 1)]


def test_who_comes_without_a_token_is_no_guesser() -> None:
    told: list[Any] = []
    with site(told) as client:
        for _ in range(8):
            assert client.get("/fhir/Patient").status_code == 401
    assert doors_of(told) == []


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(subject: Doors, address: str, kind: DoorKind, times: int = 1) -> None:
    import asyncio

    async def many() -> None:
        for _ in range(times):
            await subject.refuse(address, kind)

    asyncio.run(many())


def test_refusals_are_told_once_a_minute_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "FIRST_DELAY", 0.0)
    told: list[Any] = []
    clock = Clock()
    subject = Doors(told.extend, lambda: NOW, clock)
    refused(subject, "10.0.0.1", DoorKind.WRONG_TOKEN, 50)
    refused(subject, "10.0.0.1", DoorKind.FOREIGN_PEER, 2)
    clock.now = 61.0
    refused(subject, "10.0.0.1", DoorKind.WRONG_TOKEN)
    subject.flush()
    subject.flush()
    assert doors_of(told) == [
        ("wrong-token", "10.0.0.1", 1),
        ("foreign-peer", "10.0.0.1", 1),
        ("wrong-token", "10.0.0.1", 50),
        ("foreign-peer", "10.0.0.1", 1),
    ]


def test_a_stranger_with_many_addresses_fills_neither_memory_nor_audit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doors, "MOST_ADDRESSES", 10)
    told: list[Any] = []
    subject = Doors(told.extend, lambda: NOW, Clock())
    for number in range(300):  # one network of 64 bits: one caller
        refused(subject, f"2001:db8::{number:x}", DoorKind.FOREIGN_PEER)
    assert doors_of(told) == [("foreign-peer", "2001:db8::/64", 1)]
    for number in range(30):
        refused(subject, f"10.0.0.{number}", DoorKind.FOREIGN_PEER, 2)
    assert len(subject._callers) == 10
    subject.flush()
    assert sum(count for _, _, count in doors_of(told)) == 360


def test_a_refusal_that_the_audit_does_not_take_is_told_later() -> None:
    told: list[Any] = []
    away = [True]

    def audit(events: Any) -> None:
        if away[0]:
            raise RetryLater("database-away", "away")
        told.extend(events)

    subject = Doors(audit, lambda: NOW, Clock())
    refused(subject, "10.0.0.1", DoorKind.WRONG_TOKEN, 2)
    away[0] = False
    subject.flush()
    assert doors_of(told) == [("wrong-token", "10.0.0.1", 2)]


def test_a_sign_in_that_cannot_be_audited_is_not_given() -> None:
    def audit(events: Any) -> None:
        raise RetryLater("database-away", "away")

    app = create_app(MemoryReader(), token=TOKEN, audit=audit, clock=lambda: datetime.now(UTC))
    with serving(app) as url:
        answer = httpx.post(f"{url}sign-in", data={"token": TOKEN})
    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


def test_the_events_are_valid_and_have_the_codes_of_the_standard() -> None:
    """PS3.16 CID 400 and 401, PS3.15 table A.5.3.11-1 (User Authentication) and A.5.3.2-1 (Audit Log Used)."""
    kinds = {
        DoorKind.SIGNED_IN: ("110114", "110122"),
        DoorKind.SIGNED_OUT: ("110114", "110123"),
        DoorKind.WRONG_TOKEN: ("110114", "110122"),
        DoorKind.WRONG_BEARER: ("110114", "110122"),
        DoorKind.FOREIGN_PEER: ("110113", "110126"),
    }
    for kind, (code, subtype) in kinds.items():
        event = door(DoorEvent(kind, "10.0.0.1", 7, NOW))
        validate_body(event)
        assert (event["type"]["code"], event["subtype"][0]["code"]) == (code, subtype)
        assert event["agent"][0]["network"]["address"] == "10.0.0.1"
        assert ("7 times" in event.get("outcomeDesc", "")) == (event["outcome"] != "0")
    for event in (
        audit_read("Hospital", "anna", ISSUED),
        configuration_changed("Hospital", "anna", ["archives.main.url", "serve.token"], ISSUED),
        study_tried(SITE, STUDY, "anna", 2, ISSUED, command="doctor", succeeded=True, imported=False),
        study_tried(SITE, STUDY, "anna", 0, ISSUED, command="rules test", succeeded=False, imported=True),
    ):
        validate_body(event)


def test_commands_tell_what_they_read_out_and_that_settings_changed(
    database_url: str, tmp_path: Path
) -> None:
    write_chest(tmp_path / "films" / "1.dcm")
    archives = {"main": {"kind": "folder", "path": str(tmp_path / "films")}}
    config = write_site(tmp_path, database_url, archives, serve={"token": TOKEN})
    doctor = firstread("doctor", "--json", "--config", str(config), cwd=tmp_path)
    assert "1 of 1 announced instances" in doctor.stdout
    out = tmp_path / "audit.ndjson"
    assert (
        firstread("audit", "export", "--out", str(out), "--config", str(config), cwd=tmp_path).returncode == 0
    )
    assert [(kind, sub) for kind, sub, _ in rows(database_url, CODES)] == [("110107", None), ("110101", None)]
    assert all(name for _, _, name in rows(database_url, CODES))
    assert out.stat().st_mode & 0o777 == 0o600
    listed = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["event"]["type"]["code"] for one in listed][-1] == "110101"  # itself too


def test_a_changed_setting_is_told_by_name_and_never_by_value(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    archives = {"main": {"kind": "folder", "path": str(tmp_path / "films")}}
    for token, wanted in (("first-secret-token", 0), ("first-secret-token", 0), ("other-secret-token", 1)):
        config = write_site(tmp_path, database_url, archives, serve={"token": token})
        assert firstread("run", "--config", str(config), cwd=tmp_path).returncode == 0
        said = rows(
            database_url,
            "SELECT event ->> 'outcomeDesc' FROM firstread.audit_event "
            "WHERE event #>> '{subtype,0,code}' = '110131'",
        )
        assert said == [("settings changed: serve.token",)] * wanted
    config = write_site(tmp_path, database_url, archives, serve={"token": "third-secret-token", "port": 0})
    command = [str(Path(sys.executable).with_name("firstread")), "serve", "--config", str(config)]
    with running(command, tmp_path / "serve.log", cwd=tmp_path, env=environment()):
        until(lambda: "review page" in (tmp_path / "serve.log").read_text(), "the start of serve")
    said = rows(
        database_url,
        "SELECT event ->> 'outcomeDesc' FROM firstread.audit_event "
        "WHERE event #>> '{subtype,0,code}' = '110131' ORDER BY event ->> 'recorded'",
    )
    assert said[1:] == [("settings changed: serve.port, serve.token",)]
    kept = (tmp_path / "data" / "configuration.json").read_text()
    assert "secret" not in kept
    assert (tmp_path / "data" / "configuration.json").stat().st_mode & 0o777 == 0o600
