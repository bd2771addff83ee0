"""Every parser that meets a peer's bytes, fed with what no peer should send: a value or its own error, in time.

``make fuzz`` runs the same for about twenty minutes (``--hypothesis-profile=long``, tests/conftest.py).
"""

import dataclasses
import functools
import json
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.environment.listener_health import hears
from pipeline import settings as configuration
from pipeline.archive.content_digest import WalkedDigest, content_digest
from pipeline.archive.dicomweb.multipart import MultipartReader, boundary_of
from pipeline.archive.dicomweb.rows import parse_rows, unique_studies
from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.command import (
    C_FIND_RSP,
    Command,
    Counts,
    decode_command,
    decode_identifier,
    encode_identifier,
)
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.archive.part10 import Fault, Part10Header, header_of, read_part10_header
from pipeline.archive.passed_over import PassedOver
from pipeline.errors import ConfigurationError
from pipeline.study import FoundStudy
from pipeline.web.history_parameters import parse_history
from pipeline.web.outcomes import FhirError
from pipeline.web.search_parameters import parse_search
from pipeline.web.searchable import SEARCHABLE
from tests.synthetic import write_chest

LONG = settings.default is not None and settings.default.max_examples > 1000
SECONDS = 2.0
"""Of the processor, for one input."""
fuzzed = settings(
    max_examples=settings.default.max_examples if LONG and settings.default else 250,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
REQUEST = pdu.associate_rq(
    Associate(
        "FIRSTREAD", "MODALITY",
        tuple(PresentationContext(2 * n + 1, "1.2.840.10008.5.1.4.1.1.1.1", (EXPLICIT, IMPLICIT)) for n in range(3)),
        storage_roles=("1.2.840.10008.5.1.4.1.1.1",),
    )
)[6:]  # fmt: skip
COMMAND = Command(
    C_FIND_RSP, responded_to=7, sop_class_uid="1.2.3", status=0xFF00, counts=Counts(1, 2, 3, 4)
).encode()
IDENTIFIERS = {
    syntax: encode_identifier({0x00080020: ("DA", "20260101"), 0x0020000D: ("UI", "1.2.3")}, syntax)
    for syntax in (IMPLICIT, EXPLICIT, BIG)
}
PART = b"\r\n--b-0123\r\nContent-Type: application/dicom\r\nContent-Length: 4\r\n\r\nDICM"
BODY = PART * 3 + b"\r\n--b-0123--"
ROWS = json.dumps(
    [
        {
            "0020000D": {"vr": "UI", "Value": [f"1.2.{n}"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^J"}]},
            "00080020": {"vr": "DA", "Value": ["20260101"]},
            "00201208": {"vr": "IS", "Value": [n]},
        }
        for n in range(2)
    ]
).encode()
FILE = """data_dir = "x"
[archives.main]
kind = "dimse"
host = "127.0.0.1"
port = 104
ae_title = "A"
[[tasks]]
task = "vqa"
questions = ["Is it?"]
"""


LENGTHS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xfe\xff\xff\xff")


@st.composite
def damaged(draw: st.DrawFn, *sound: bytes) -> bytes:
    """One of ``sound`` with bytes changed, put in, left out, repeated, cut; or bytes of no kind at all."""
    content = bytearray(draw(st.sampled_from(sound)))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["change", "insert", "remove", "repeat", "cut", "number"]))
        if kind == "change" and content:
            content[at] = draw(st.integers(0, 255))
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        elif kind == "remove":
            del content[at : at + draw(st.integers(1, 8))]
        elif kind == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 64))] * draw(st.sampled_from((1, 2, 200)))
        elif kind == "number":  # a length, in either order of bytes
            content[at : at + 4] = draw(st.sampled_from(LENGTHS))
        else:
            del content[at:]
    return bytes(content)


def in_time(act: Callable[[], Any], *allowed: type[BaseException]) -> Any:
    """What ``act`` gives, or None where it raises what it says that it raises; it may not take long."""
    begun = time.process_time()
    try:
        given = act()
    except allowed:
        given = None
    assert time.process_time() - begun < SECONDS
    return given


@fuzzed
@given(damaged(REQUEST))
def test_association_requests(body: bytes) -> None:
    read = in_time(lambda: pdu.parse_associate(body), ValueError)
    assert read is None or isinstance(read, Associate)


@fuzzed
@given(damaged(COMMAND))
def test_commands(encoded: bytes) -> None:
    read = in_time(lambda: decode_command(encoded), ValueError)
    assert read is None or isinstance(read, Command)


@fuzzed
@given(st.sampled_from(sorted(IDENTIFIERS)), st.data())
def test_identifiers(syntax: str, data: st.DataObject) -> None:
    encoded = data.draw(damaged(*IDENTIFIERS.values()))
    read = in_time(lambda: decode_identifier(encoded, syntax), ValueError)
    assert read is None or all(isinstance(value, bytes) for value in read.values())


class Sink:
    def __init__(self) -> None:
        self.written = 0

    def begin(self, headers: Any) -> None:
        assert all(name == name.lower() for name in headers)

    def write(self, piece: memoryview) -> None:
        self.written += len(piece)

    def end(self) -> None:
        return


@fuzzed
@given(damaged(BODY), st.integers(1, 300), st.booleans())
def test_multipart_bodies(body: bytes, piece: int, by_length: bool) -> None:
    at, sink = 0, Sink()

    def readinto(into: memoryview) -> int:
        nonlocal at
        taken = body[at : at + min(piece, len(into))]
        into[: len(taken)] = taken
        at += len(taken)
        return len(taken)

    in_time(
        lambda: MultipartReader(b"b-0123", sink, by_length=by_length).read(readinto), ValueError, EOFError
    )
    assert sink.written <= len(body)


@fuzzed
@given(st.text(max_size=100).map(lambda tail: f'multipart/related; boundary="{tail}') | st.text(max_size=100))
def test_boundaries(content_type: str) -> None:
    in_time(lambda: boundary_of(content_type), ValueError)


KEYS = st.sampled_from(("0020000D", "00100010", "00080020", "00201208", "Value", "vr", "Alphabetic"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@fuzzed
@given(damaged(ROWS) | st.lists(JSON, max_size=4).map(lambda rows: json.dumps(rows).encode()))
def test_rows_of_a_query(body: bytes) -> None:
    def read() -> list[FoundStudy]:
        passed_over = PassedOver()
        return list(unique_studies(parse_rows(body, passed_over), passed_over))

    found = in_time(read, ValueError)
    assert found is None or all(isinstance(one, FoundStudy) for one in found)


def test_rows_that_nest_deeply() -> None:
    for depth in (1_000, 100_000):
        in_time(lambda: parse_rows(b"[" * depth, PassedOver()), ValueError)  # noqa: B023 - called at once


@functools.cache
def films() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return tuple(
            write_chest(Path(folder) / syntax, transfer_syntax=syntax).read_bytes()[:6000]
            for syntax in (EXPLICIT, IMPLICIT)
        )


@fuzzed
@given(st.data())
def test_files(data: st.DataObject) -> None:
    content = data.draw(damaged(*films()))
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        read = in_time(lambda: read_part10_header(Path(file.name), frozenset({0x00100010})))
        digest = WalkedDigest()
        assert in_time(lambda: header_of(content, frozenset({0x00100010}), digest)) == read
        if isinstance(read, Part10Header) and not read.lenience:
            assert digest.hexdigest() in ("", content_digest(Path(file.name)))
    assert isinstance(read, Fault | Part10Header)
    if isinstance(read, Fault):
        assert "Doe" not in read.message


_SHAPING = "_id _lastUpdated _count _sort _include _revinclude _elements _summary _total _page"
_ODD = "2026-01-01 ge2026-01 partial urn:x|1 | Patient/p1 -date true 0 1e400 a,b \\\\, :"
NAMES = st.sampled_from(sorted({name for known in SEARCHABLE.values() for name in known}) + _SHAPING.split())
MODIFIERS = st.sampled_from((":missing", ":exact", ":contains", ".name", ":x"))
WORDS = st.sampled_from((*_ODD.split(), "9" * 30)) | st.text(max_size=30)
PARAMETERS = st.lists(
    st.tuples(
        NAMES | st.text(max_size=12) | st.tuples(NAMES, MODIFIERS).map("".join),
        WORDS | st.tuples(WORDS, WORDS).map("".join),
    ),
    max_size=6,
)


@fuzzed
@given(st.sampled_from([*SEARCHABLE, "Nothing"]), PARAMETERS, st.booleans())
def test_searches(kind: str, parameters: list[tuple[str, str]], strict: bool) -> None:
    in_time(lambda: parse_search(kind, parameters, base="http://127.0.0.1/fhir", strict=strict), FhirError)


@fuzzed
@given(st.lists(st.tuples(st.sampled_from(("_since", "_count", "_page", "_at", "x")), WORDS), max_size=4))
def test_histories(parameters: list[tuple[str, str]]) -> None:
    in_time(lambda: parse_history(("Patient",), "p1", parameters), FhirError)


@pytest.fixture(scope="module", autouse=True)
def no_variables() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("FIRSTREAD_")}
    yield
    os.environ.update(kept)


@fuzzed
@given(damaged(FILE.encode()))
def test_configurations(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        read = in_time(lambda: configuration.load(Path(file.name)), ConfigurationError)
    assert read is None or dataclasses.is_dataclass(read) or isinstance(read, configuration.Settings)


def test_a_listener_that_was_sent_anything_hears_the_next_peer(tmp_path: Path) -> None:
    """Whole conversations of odd bytes, a request among them, then a C-ECHO."""
    draw = random.Random(20)
    whole = pdu.pdu(pdu.ASSOCIATE_RQ, REQUEST)
    with StorageScp("127.0.0.1", 0, "FIRSTREAD", tmp_path / "inbox", lambda _: None, 0.0) as scp:
        for number in range(2000 if LONG else 60):
            sent = bytearray(whole if number % 2 else draw.randbytes(draw.randrange(200)))
            for _ in range(draw.randrange(4)):
                if sent:
                    sent[draw.randrange(len(sent))] = draw.randrange(256)
            sent += draw.randbytes(draw.randrange(400))
            with socket.create_connection(("127.0.0.1", scp.port), timeout=5) as peer:
                try:
                    peer.sendall(sent)
                    peer.shutdown(socket.SHUT_WR)
                except OSError:
                    continue  # it has hung up already
        assert hears("127.0.0.1", scp.port, "FIRSTREAD")
