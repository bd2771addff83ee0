"""What arrives, changes and goes: in the archive over Orthanc's REST, and by C-STORE to the listener."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.chaos.plan import Step
from tests.chaos.senders import Sender, idle
from tests.chaos.world import Film, Study, World

PATIENCE = 300.0
IDLERS = 50


class ArchiveRest:
    """Orthanc's REST, asked again until it answers: it is killed and stopped meanwhile."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> Any:
        """The JSON answer; None where there is nothing at ``path``."""
        deadline = time.monotonic() + PATIENCE
        while True:
            request = urllib.request.Request(self._url + path, data=body, method=method)
            try:
                with urllib.request.urlopen(request, timeout=8) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
            except (OSError, http.client.HTTPException, ValueError):
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"Orthanc did not answer {method} {path} in {PATIENCE:.0f} s")
            time.sleep(0.3)

    def put(self, films: Sequence[Film]) -> None:
        """Store the films."""
        for film in films:
            self.ask("/instances", "POST", film.path.read_bytes())

    def remove(self, uid: str) -> None:
        """Remove a study or an instance; one that is gone already is no fault."""
        for one in self.ask("/tools/lookup", "POST", uid.encode()):
            self.ask(str(one["Path"]), "DELETE")


class Traffic:
    """Does the steps one after another, so that the same steps make the same studies."""

    def __init__(self, world: World, archive: ArchiveRest, senders: Sequence[Sender], port: int) -> None:
        self.done: Counter[str] = Counter()
        self._world = world
        self._archive = archive
        self._senders = senders
        self._port = port
        self._idlers: list[threading.Thread] = []
        self._acts: dict[str, Callable[[Step], bool]] = {
            "study.archived": lambda step: self._new(step, archived=True, pushed=False),
            "study.pushed": lambda step: self._new(step, archived=False, pushed=True),
            "study.pushed-and-archived": lambda step: self._new(step, archived=True, pushed=True),
            "film.late-in-archive": self._late_in_archive,
            "film.late-pushed": self._late_pushed,
            "film.replaced": self._replaced,
            "film.sent-twice": self._sent_twice,
            "patient.corrected": self._corrected,
            "study.deleted": self._deleted,
            "study.returned": self._returned,
            "senders.idle": self._idle,
        }

    def act(self, step: Step) -> None:
        """Do it, where there is a study that it can happen to."""
        if self._acts[step.kind](step):
            self.done[step.kind] += 1

    def finish(self) -> None:
        """Wait for the idle associations."""
        for one in self._idlers:
            one.join(60)

    def _chosen(self, step: Step, fits: Callable[[Study], bool]) -> Study | None:
        fitting = [study for study in self._world.studies if fits(study)]
        return fitting[int(step.choice * len(fitting))] if fitting else None

    def _new(self, step: Step, *, archived: bool, pushed: bool) -> bool:
        study = self._world.new_study()
        films = [self._world.add_film(study) for _ in range(1 + int(step.choice * 3))]
        if pushed:
            self._push(study, films)
        if archived:
            self._file(study, films)
        return True

    def _late_in_archive(self, step: Step) -> bool:
        study = self._chosen(step, lambda one: bool(one.archived) and not one.deleted)
        if study is not None:
            self._file(study, [self._world.add_film(study)])
        return study is not None

    def _late_pushed(self, step: Step) -> bool:
        study = self._chosen(step, lambda one: not one.deleted)
        if study is not None:
            self._push(study, [self._world.add_film(study)])
        return study is not None

    def _replaced(self, step: Step) -> bool:
        study = self._chosen(step, lambda one: bool(one.archived) and not one.pushed and not one.deleted)
        if study is not None:
            former = min(study.archived)
            self._file(study, [self._world.add_film(study)])
            self._archive.remove(former)
            del study.archived[former]
        return study is not None

    def _sent_twice(self, step: Step) -> bool:
        study = self._chosen(step, lambda one: bool(one.pushed))
        if study is not None:
            self._push(study, [study.pushed[0]])
        return study is not None

    def _corrected(self, step: Step) -> bool:
        """In the archive alone: of a study that was pushed too, two patients would be one study."""
        study = self._chosen(step, lambda one: bool(one.archived) and not one.pushed and not one.deleted)
        if study is not None:
            number = f"ZZPATIENT9{study.number:04d}{len(study.films)}"
            films = self._world.corrected(study, number, f"ZZCHAOS^Corrected {study.number:05d}")
            self._archive.remove(study.uid)
            study.archived.clear()
            self._file(study, films)
        return study is not None

    def _deleted(self, step: Step) -> bool:
        study = self._chosen(step, lambda one: bool(one.archived) and not one.pushed and not one.deleted)
        if study is not None:
            self._archive.remove(study.uid)
            study.deleted = True
        return study is not None

    def _returned(self, step: Step) -> bool:
        study = self._chosen(step, lambda one: one.deleted)
        if study is not None:
            self._file(study, list(study.archived.values()))
            study.deleted = False
        return study is not None

    def _idle(self, step: Step) -> bool:
        thread = threading.Thread(target=idle, args=(self._port, IDLERS, step.seconds), daemon=True)
        thread.start()
        self._idlers.append(thread)
        return True

    def _file(self, study: Study, films: Sequence[Film]) -> None:
        self._archive.put(films)
        study.archived |= {film.sop_instance_uid: film for film in films}

    def _push(self, study: Study, films: list[Film]) -> None:
        study.pushed += films
        self._senders[study.number % len(self._senders)].push(films)
