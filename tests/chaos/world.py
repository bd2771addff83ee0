"""The studies there are, where each of their films went, and what the senders were told about it."""

import hashlib
import threading
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.simulation.film import render
from pipeline.archive.content_digest import content_digest
from pipeline.dicom_writer import RadiographHeader, uid_from, write_radiograph

SIDE = 160
DRAWN = 24
FIRST_DRAWN = 25_000
"""The same films whatever the seed: their drafts pass the checks. One that fails is stored nowhere and is no fault."""
PLANTED = ("ZZCHAOS", "ZZPATIENT", "ZZACC")
"""What name, patient number and accession number of every study begin with; no sink but the store may hold it."""


@dataclass(frozen=True, slots=True)
class Film:
    """One instance as a file of ours: its digest as the product takes it, and the SHA-256 of its data set's bytes."""

    study: int
    sop_instance_uid: str
    path: Path
    digest: str
    sha256: str


@dataclass(slots=True)
class Study:
    """``header`` is that of its first film, as it is now; ``archived`` is what the archive was last given of it."""

    number: int
    header: RadiographHeader
    films: list[Film] = field(default_factory=list)
    archived: dict[str, Film] = field(default_factory=dict)
    pushed: list[Film] = field(default_factory=list)
    deleted: bool = False

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return self.header.study_instance_uid


class World:
    """All studies of a run, by number, and every acknowledged instance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.studies: list[Study] = []
        self.acknowledged: list[Film] = []
        self.refusals: dict[str, int] = {}
        self.sent = 0
        self._folder = folder
        self._seed = seed
        self._pixels: list[npt.NDArray[np.uint16]] = [
            render(FIRST_DRAWN + number, size=SIDE, held_out=True).pixels for number in range(DRAWN)
        ]
        self._lock = threading.Lock()

    def new_study(self) -> Study:
        """A study without films yet."""
        number = len(self.studies)
        name = f"chaos-{self._seed}-{number}"
        header = RadiographHeader(
            study_instance_uid=uid_from(name),
            series_instance_uid=uid_from(name, "1"),
            sop_instance_uid="",
            patient_id=f"ZZPATIENT{number:05d}",
            patient_name=f"ZZCHAOS^Planted {number:05d}",
            accession_number=f"ZZACC{number:06d}",
            started=datetime.now() - timedelta(minutes=number),  # noqa: DTZ005 - DICOM times are local
            birth_date=date(1951, 2, 3),
            sex="FM"[number % 2],
            window=(2048, 4096),
        )
        self.studies.append(Study(number, header))
        return self.studies[-1]

    def add_film(self, study: Study) -> Film:
        """One more film of ``study``, with its patient as it is now."""
        count = len(study.films) + 1
        uid = uid_from(study.uid, "1", str(count))
        film = self._written(study, uid, count, f"{count}")
        study.films.append(film)
        return film

    def corrected(self, study: Study, patient_id: str, patient_name: str) -> list[Film]:
        """The films that the archive has of ``study``, of another patient: the same UIDs, other bytes."""
        study.header = replace(study.header, patient_id=patient_id, patient_name=patient_name)
        numbers = {film.sop_instance_uid: place for place, film in enumerate(study.films, 1)}
        return [
            self._written(study, uid, numbers[uid], f"{numbers[uid]}-{patient_id}")
            for uid in sorted(study.archived)
        ]

    def acknowledge(self, film: Film) -> None:
        """A sender was told Success."""
        with self._lock:
            self.acknowledged.append(film)

    def refuse(self, why: str) -> None:
        """A sender was told something else, or nothing."""
        with self._lock:
            self.refusals[why] = self.refusals.get(why, 0) + 1

    def uids(self) -> set[str]:
        """Every UID of every study and film."""
        found = {uid for study in self.studies for uid in (study.uid, study.header.series_instance_uid)}
        return found | {film.sop_instance_uid for study in self.studies for film in study.films}

    def _written(self, study: Study, uid: str, count: int, name: str) -> Film:
        header = replace(study.header, sop_instance_uid=uid, instance_number=count)
        path = self._folder / str(study.number) / f"{name}.dcm"
        pixels = self._pixels[(study.number * 3 + count) % DRAWN]
        write_radiograph(path, pixels, header, bits_stored=12)
        return Film(study.number, uid, path, content_digest(path), data_set_sha256(path))


def data_set_sha256(path: Path) -> str:
    """SHA-256 over what follows the file meta group, whose length its first element says (PS3.10 7.1)."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[144 + length :]).hexdigest()
