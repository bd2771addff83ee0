"""A DICOMweb server on loopback that misbehaves as real ones do, one fault at a time."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread

from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.dicom_writer import uid_from
from pipeline.setting_archives import DicomwebArchive
from tests.loopback import LoopbackHandler, serving
from tests.synthetic import chest_pixels, radiograph_header, write_chest

BOUNDARY = "faulty-boundary"
WEB_STUDY = uid_from("tests", "web")


@dataclass(slots=True)
class Faults:
    """What the server does wrong; each field is off by default."""

    ignores_offset: bool = False
    cap: int = 0
    """The most rows in any answer."""
    total_cap: int = 0
    """The most rows over all pages of a query."""
    repeats_last_page: bool = False
    warns: bool = False
    first_answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the first answers, before it behaves."""
    stalls: bool = False
    resets: bool = False
    """Cut connections are reset, not closed."""
    cuts_study_after: int = 0
    """Close the connection after so many bytes of a study-level WADO-RS body."""
    ends_study_early: bool = False
    """A study-level answer that is well framed by HTTP and ends without the closing delimiter."""
    wrong_boundary: bool = False
    sends_part_of_study: int = 0
    """Answer 206 with so many instances."""
    refuses_wildcard: bool = False
    lengths_lie: bool = False
    study_status: int = 200
    gone_instances: set[str] = field(default_factory=set)
    swaps_instances: bool = False
    token: str = ""
    token_ends_after: int = 0
    """Retrievals after which every further request is 401, whatever the token."""
    wado_status: int = 200
    """What every retrieval is answered with; queries are well."""
    html: bool = False
    nothing: bytes | None = None
    """The body of 200 that stands for no match, instead of 204."""
    rewrites: Callable[[bytes], bytes] | None = None
    """What becomes of a page of rows on its way."""
    refuses: Callable[[dict[str, str]], bool] | None = None
    """Queries of studies that are answered with 400."""
    redirects_to: str = ""
    """The base that WADO-RS is redirected to, under the path of this archive; another path where it has none."""
    packs: Callable[[bytes], bytes] | None = None
    """How every retrieved body is packed, with Content-Encoding: gzip."""
    single_part: bool = False
    """Studies are 406, instances come as application/dicom where that is accepted, else 406."""


@dataclass(slots=True)
class FaultyDicomweb:
    """The running server: its base URL, its faults, and the paths it was asked for."""

    url: str
    faults: Faults
    requests: list[str] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)
    """What is served; a test may change the files behind the rows."""


@dataclass(frozen=True, slots=True)
class _Stored:
    study: str
    series: str
    uid: str
    sop_class: str
    study_date: str
    study_time: str
    content: bytes


@contextmanager
def faulty_dicomweb(
    files: Sequence[Path | bytes], faults: Faults, tls: Any = None
) -> Iterator[FaultyDicomweb]:
    """Serve these DICOM files, wrongly. ``tls`` is an SSL context, for https."""
    stored = [_stored(file) if isinstance(file, Path) else file for file in files]
    running = FaultyDicomweb("", faults, stored=stored)
    with serving(_Handler, tls, stored=stored, running=running) as url:
        running.url = f"{url}/dicomweb"
        yield running


def _stored(path: Path) -> _Stored:
    head = dcmread(path, stop_before_pixels=True)
    return _Stored(
        str(head.StudyInstanceUID),
        str(head.SeriesInstanceUID),
        str(head.SOPInstanceUID),
        str(head.SOPClassUID),
        str(head.StudyDate),
        str(head.StudyTime),
        path.read_bytes(),
    )


class _Handler(LoopbackHandler):
    stored: list[_Stored]
    running: FaultyDicomweb

    def do_GET(self) -> None:
        faults, path = self.running.faults, urlsplit(self.path)
        self.running.requests.append(self.path)
        if faults.stalls:
            self.released.wait(30)
            self.close_connection = True
            return
        retrieved = sum("?" not in one for one in self.running.requests)
        ended = faults.token_ends_after and retrieved > faults.token_ends_after
        if ended or (faults.token and self.headers.get("Authorization") != f"Bearer {faults.token}"):
            self._send(401, b"")
        elif faults.first_answers:
            status, headers = faults.first_answers.pop(0)
            self._send(status, b"", headers)
        elif faults.html:
            self._send(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
        else:
            keys = {name: values[0] for name, values in parse_qs(path.query).items()}
            self._route([part for part in path.path.split("/") if part][1:], keys)

    def _route(self, parts: list[str], keys: dict[str, str]) -> None:
        faults = self.running.faults
        if faults.redirects_to and "instances" not in parts[-1:] and parts != ["studies"]:
            if self.path.startswith("/dicomweb/"):
                self._send(307, b"", {"Location": f"{faults.redirects_to}/moved{self.path}"})
                return
            parts = parts[1:]
        if faults.wado_status != 200 and parts[-1] not in ("studies", "series", "instances"):
            self._send(faults.wado_status, b"")
        elif parts == ["studies"] and faults.refuses is not None and faults.refuses(keys):
            self._send(400, b"")
        elif parts == ["studies"]:
            studies = {s.study: s for s in self.stored if _matches(s, keys)}
            self._rows([_study_row(studies[uid]) for uid in sorted(studies)], keys)
        elif len(parts) == 3 and parts[2] == "instances":
            rows = [_instance_row(s) for s in self.stored if s.study == parts[1]]
            self._rows(rows, keys) if rows else self._send(404, b"")
        elif len(parts) == 3 and parts[2] == "series":
            series = {s.series: s for s in self.stored if s.study == parts[1]}
            self._rows([_instance_row(s) for s in series.values()], keys)
        elif len(parts) == 5 and parts[4] == "instances":
            self._rows([_instance_row(s) for s in self.stored if s.series == parts[3]], keys)
        elif self.running.faults.single_part and (
            len(parts) == 2 or not self.headers["Accept"].startswith("application/dicom")
        ):
            self._send(406, b"")
        elif self.running.faults.single_part:
            (one,) = (s for s in self.stored if s.uid == parts[-1])
            self._send(200, *self._packed(one.content, {"Content-Type": "application/dicom"}))
        elif self.running.faults.refuses_wildcard and "=*" in self.headers["Accept"]:
            self._send(406, b"")
        elif len(parts) == 2:
            self._study([s for s in self.stored if s.study == parts[1]])
        else:
            wanted = [s for s in self.stored if s.uid == parts[-1]]
            if self.running.faults.swaps_instances:
                wanted = [s for s in self.stored if s.uid != parts[-1]][:1]
            if wanted and wanted[0].uid not in self.running.faults.gone_instances:
                self._multipart(wanted, 200)
            else:
                self._send(404, b"")

    def _rows(self, rows: list[dict[str, Any]], keys: dict[str, str]) -> None:
        faults = self.running.faults
        offset = 0 if faults.ignores_offset else int(keys.get("offset", 0))
        limit = min(int(keys.get("limit", 10**9)), faults.cap or 10**9)
        if faults.total_cap:
            rows = rows[: faults.total_cap]
        page = rows[offset : offset + limit]
        if not page and faults.repeats_last_page:
            page = rows[-limit:]
        headers = {"Warning": '299 x "There are more"'} if faults.warns else {}
        if page and faults.rewrites is not None:
            body = faults.rewrites(json.dumps(page, ensure_ascii=False).encode())
            self._send(200, body, {"Content-Type": "application/dicom+json"})
        elif page:
            self._send(200, json.dumps(page).encode(), {"Content-Type": "application/dicom+json", **headers})
        elif faults.nothing is not None:
            self._send(200, faults.nothing, headers)
        else:
            self._send(204, b"", headers)

    def _study(self, instances: list[_Stored]) -> None:
        faults = self.running.faults
        if not instances:
            self._send(404, b"")
        elif faults.study_status != 200:
            self._send(faults.study_status, b"")
        elif faults.sends_part_of_study:
            self._multipart(instances[: faults.sends_part_of_study], 206)
        else:
            self._multipart(instances, 200, study=True)

    def _multipart(self, instances: list[_Stored], status: int, *, study: bool = False) -> None:
        faults = self.running.faults
        body = b"".join(
            f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n"
            f"Content-Length: {len(s.content) + 7 * faults.lengths_lie}\r\n\r\n".encode()
            + s.content
            for s in instances
        )
        if not (study and faults.ends_study_early):
            body += f"\r\n--{BOUNDARY}--".encode()
        named = "another" if study and faults.wrong_boundary else BOUNDARY
        headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={named}'}
        if study and faults.cuts_study_after:
            self._send(status, body, headers, cut=faults.cuts_study_after)
        else:
            self._send(status, *self._packed(body, headers))

    def _packed(self, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        pack = self.running.faults.packs
        return (pack(body), {**headers, "Content-Encoding": "gzip"}) if pack else (body, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int = 0) -> None:
        self.start(status, len(body), headers)
        self.wfile.write(body[:cut] if cut else body)
        if cut:
            self.wfile.flush()
            time.sleep(0.05)
            self.close_connection = True
            if self.running.faults.resets:
                self.reset()


def _matches(stored: _Stored, keys: dict[str, str]) -> bool:
    if "StudyInstanceUID" in keys and stored.study != keys["StudyInstanceUID"]:
        return False
    return _within(stored.study_date, keys.get("StudyDate", "")) and _within(
        stored.study_time, keys.get("StudyTime", "")
    )


def _within(value: str, wanted: str) -> bool:
    if "-" not in wanted:
        return not wanted or value == wanted
    low, _, high = wanted.partition("-")
    return (not low or value >= low) and (not high or value <= high)


def _study_row(stored: _Stored) -> dict[str, Any]:
    return {
        "0020000D": {"vr": "UI", "Value": [stored.study]},
        "00080020": {"vr": "DA", "Value": [stored.study_date]},
        "00080030": {"vr": "TM", "Value": [stored.study_time]},
        "00080061": {"vr": "CS", "Value": ["DX"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Fictitious^Test"}]},
        "00100020": {"vr": "LO"},
    }


def _instance_row(stored: _Stored) -> dict[str, Any]:
    return {
        "0020000D": {"vr": "UI", "Value": [stored.study]},
        "0020000E": {"vr": "UI", "Value": [stored.series]},
        "00080018": {"vr": "UI", "Value": [stored.uid]},
        "00080016": {"vr": "UI", "Value": [stored.sop_class]},
    }


def faulty_archive(server: FaultyDicomweb | str, **changes: object) -> DicomwebStudies:
    """The adapter that is tried, for this server or an address."""
    url = server if isinstance(server, str) else server.url
    settings = {"kind": "dicomweb", "url": url, "min_free_gib": 0.1, "stall_timeout": 5.0, **changes}
    return DicomwebStudies("faulty", DicomwebArchive.model_validate(settings))


def write_web_study(folder: Path) -> list[Path]:
    """``WEB_STUDY``: four films in two series."""
    headers = [radiograph_header("web", instance=n, series=1 + n % 2) for n in range(1, 5)]
    return [
        write_chest(folder / f"{n}.dcm", header, pixels=chest_pixels(200, 180, seed=n))
        for n, header in enumerate(headers)
    ]
