"""Modalities that push: dcmtk's storescu, an association a batch, sending until each film was told Success."""

import queue
import random
import re
import subprocess
import threading
import time

from pynetdicom import AE

from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from tests.chaos.world import Film, World
from tests.servers import program

KILLED_SHARE = 0.2
LONGEST_BEFORE_KILL = 0.4
PAUSE = 0.5
LONGEST = 60.0
ANSWER = re.compile(r"Sending file: (\S+)|Received Store Response \(([^)]*)\)")


class Sender:
    """Sends batches of films, one process and association each; a share of them is killed in the middle, on purpose."""

    def __init__(self, world: World, title: str, port: int, seed: int) -> None:
        self.kills = 0
        self._world = world
        self._random = random.Random(f"{title}-{seed}")
        self._batches: queue.SimpleQueue[list[Film] | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._command = [
            program("storescu"), "-v", "-nh", "-to", "5", "-ta", "10", "-td", "30", "-xe", "-aet", title,
            "-aec", "FIRSTREAD", "127.0.0.1", str(port),
        ]  # fmt: skip
        self._thread = threading.Thread(target=self._send_on, name=title)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def push(self, films: list[Film]) -> None:
        """Send these, until each was acknowledged or refused for good."""
        self._batches.put(films)

    def finish(self, seconds: float) -> bool:
        """Wait until all is sent; False where it took longer than ``seconds``, what is left then stays unsent."""
        self._batches.put(None)
        self._thread.join(seconds)
        done = not self._thread.is_alive()
        self._given_up.set()
        self._thread.join()
        return done

    def _send_on(self) -> None:
        while (films := self._batches.get()) is not None:
            waiting = list(films)
            while waiting and not self._given_up.is_set():
                done = self._try(waiting)
                waiting = [film for film in waiting if str(film.path) not in done]
                if waiting:
                    time.sleep(PAUSE)

    def _try(self, films: list[Film]) -> set[str]:
        """One association; gives the files about which nothing more is to be done."""
        kills = self._random.random() < KILLED_SHARE
        limit = self._random.uniform(0.02, LONGEST_BEFORE_KILL) if kills else LONGEST
        process = subprocess.Popen(
            [*self._command, *(str(film.path) for film in films)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            _, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
            self.kills += kills
        return self._told(films, said)

    def _told(self, films: list[Film], said: str) -> set[str]:
        """What the listener answered for each file that was sent, by what storescu says of it."""
        by_path = {str(film.path): film for film in films}
        done: set[str] = set()
        sending = ""
        for path, answer in ANSWER.findall(said):
            if path:
                sending = path
                self._world.sent += 1
            elif answer == "Success":
                self._world.acknowledge(by_path[sending])
                done.add(sending)
            else:
                self._world.refuse(answer)
        if not sending:
            self._world.refuse("no association")
        return done


def idle(port: int, many: int, seconds: float) -> None:
    """Associations that say nothing: held for ``seconds``, then cut."""
    ae = AE("IDLER")
    ae.acse_timeout = ae.connection_timeout = 5
    ae.add_requested_context(DX_IMAGE_STORAGE, EXPLICIT_LITTLE)
    held = [ae.associate("127.0.0.1", port, ae_title="FIRSTREAD") for _ in range(many)]
    time.sleep(seconds)
    for one in held:
        if one.is_established:
            one.abort()
