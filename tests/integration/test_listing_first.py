"""Nothing is retrieved that the model cannot read: told by the listing of a real archive, before a file moves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from flows.environment.workplace import Workplace
from flows.path import RetrievedStudy, bring
from pipeline.accepts import FILMS_ALONE, Accepts, Kind, StudyReader
from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.archive.dimse.dimse_archive import DimseStudies
from pipeline.archive.folder import FolderStudies
from pipeline.errors import SkipStudy
from pipeline.images import left_in_the_archive, refuse_unreadable
from pipeline.ledger import LedgerState, SettledOutcome
from pipeline.settings import Settings
from pipeline.study import AnnouncedInstance, FetchedStudy, InstanceRef, StudyQuery
from tests.servers import LOOPBACK, free_port, orthanc, store_over_rest
from tests.synthetic import write_chest

RECIPE = "l" * 64
OTHERS = ("CT_small.dcm", "MR_small.dcm", "test-SR.dcm", "rtplan.dcm")


@contextmanager
def site(kind: str, folder: Path, files: list[Path]) -> Iterator[dict[str, Any]]:
    """The table of an archive that holds ``files``."""
    if kind == "folder":
        yield {"kind": "folder", "path": files[0].parent}
        return
    port = free_port()
    with orthanc(folder / "orthanc", move_port=port) as peer:
        store_over_rest(peer, *files)
        if kind == "dicomweb":
            yield {"kind": "dicomweb", "url": peer.dicomweb}
        else:
            there = {"host": LOOPBACK, "port": peer.port, "ae_title": "ORTHANC", "move_port": port}
            yield {"kind": "dimse", **there}


@pytest.mark.parametrize("kind", ["dicomweb", "dimse", "folder"])
def test_only_the_film_is_retrieved(
    kind: str, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    film = write_chest(files / "film.dcm")
    for name in OTHERS:
        (files / name).write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    retrieved: list[str] = []
    for adapter in (DicomwebStudies, DimseStudies, FolderStudies):

        def fetch(
            self: Any, uid: str, folder: Path, leave: Any = None, whole: Any = adapter.fetch
        ) -> FetchedStudy:
            fetched: FetchedStudy = whole(self, uid, folder, leave)
            retrieved.extend(one.ref.sop_instance_uid for one in fetched.held)
            return fetched

        monkeypatch.setattr(adapter, "fetch", fetch)
    with site(kind, tmp_path, [film, *(files / name for name in OTHERS)]) as archive:
        settings = Settings(
            data_dir=tmp_path / "data",
            database={"url": database_url},  # type: ignore[arg-type]
            archives={"main": {"min_free_gib": 0.1, **archive}},  # type: ignore[dict-item]
        )
        with Workplace(settings) as workplace:
            found = list(workplace.archive("main").find(StudyQuery()))
            assert len(found) == 1 + len(OTHERS)
            workplace.store.record_found("main", RECIPE, found)
            claims = workplace.store.claim(RECIPE, owner=workplace.owner, limit=10, lease_seconds=60)
            outcomes = [bring(workplace, one) for one in claims]
            workplace.store.settle_many([one for one in outcomes if isinstance(one, SettledOutcome)])
            skipped = [row for row in workplace.store.studies() if row.state is LedgerState.SKIPPED]
    assert retrieved == [str(dcmread(film).SOPInstanceUID)]
    assert sum(isinstance(one, RetrievedStudy) for one in outcomes) == 1
    assert [row.code for row in skipped] == ["not-radiograph"] * len(OTHERS)
    assert {(row.announced, row.held) for row in skipped} == {(1, 0)}


CR, DX_RAW, CT, SC, SC_WORD = (f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("1", "1.1.1", "2", "7", "7.3"))


@pytest.mark.parametrize(
    ("modalities", "classes", "code"),
    [
        (("CT",), [CT], "not-radiograph"),
        (("MR", "SR"), ["", ""], "not-radiograph"),
        (("MR",), [CT, SC], "not-radiograph"),
        ((), [CT, CT], "not-radiograph"),
        (("DX",), [DX_RAW], "for-processing"),
        (("CT", "CR"), [CT, CR], ""),
        ((" dx ",), ["1.2.840.10008.5.1.4.1.1.1.1"], ""),
        ((), [SC_WORD], ""),
        ((), ["", ""], ""),
        (
            ("SR",),
            ["1.2.840.10008.5.1.4.1.1.88.11", ""],
            "",
        ),  # one of them cannot be told: it may be a damaged film
        ((), [], ""),
    ],
)
def test_what_a_listing_tells(modalities: tuple[str, ...], classes: list[str], code: str) -> None:
    if not code:
        refuse_unreadable(modalities, classes)
        return
    with pytest.raises(SkipStudy) as caught:
        refuse_unreadable(modalities, classes)
    assert caught.value.code == code


SR, PR, KO, PET, SEG = (
    f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("88.67", "11.1", "88.59", "128", "66.4")
)
ROOMY = StudyReader("sections", accepts=(Accepts(Kind.SLICES, modalities=("CT",), least=3, most=8),))


@pytest.mark.parametrize(
    ("listed", "reader", "left"),
    [
        ([("1", CR), ("2", SR), ("3", CT)], FILMS_ALONE, {"1": "SR", "2": "CT"}),
        ([("1", CR), ("2", PR), ("2", KO), ("3", SC), ("3", "")], FILMS_ALONE, {}),
        ([("1", CR), ("2", DX_RAW)], FILMS_ALONE, {"1": "DX"}),
        ([("1", CT)] * 3 + [("2", CT)] * 2 + [("3", SR)], ROOMY, {"3": "CT", "4": "CT", "5": "SR"}),
        (
            [("1", CT)] * 3 + [("2", PET)] * 3 + [("3", SEG)],
            ROOMY,
            {"3": "PT", "4": "PT", "5": "PT", "6": "SEG"},
        ),
        ([("1", CT)] * 3 + [("2", "1.3.12.2.1107.5.9.1")], ROOMY, {"3": "OT"}),
        ([("1", CT)] * 2, ROOMY, {}),  # of none is anything shown: its headers say why
    ],
)
def test_what_stays_in_the_archive_by_its_list(
    listed: list[tuple[str, str]], reader: StudyReader, left: dict[str, str]
) -> None:
    announced = tuple(
        AnnouncedInstance(InstanceRef("1.2", series, str(number)), uid)
        for number, (series, uid) in enumerate(listed)
    )
    found = left_in_the_archive(announced, reader)
    assert {one.ref.sop_instance_uid: one.modality for one in found} == left
    assert all("not retrieved" in one.why for one in found)
