"""Modalities that push: pynetdicom, each sender with associations of its own, sending until it is told Success."""

import queue
import random
import threading
import time

from pynetdicom import AE
from pynetdicom.association import Association

from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from tests.chaos.world import Film, World

SUCCESS, DUPLICATE = 0x0000, 0x0111
ABORTED_SHARE = 0.2
LONGEST_BEFORE_ABORT = 0.08
PAUSE = 0.4


class Sender:
    """Sends batches of films, one association each; a share of them is cut in the middle, on purpose."""

    def __init__(self, world: World, title: str, port: int, seed: int) -> None:
        self.aborts = 0
        self._world = world
        self._port = port
        self._random = random.Random(f"{title}-{seed}")
        self._batches: queue.SimpleQueue[list[Film] | None] = queue.SimpleQueue()
        self._ae = AE(title)
        self._ae.acse_timeout, self._ae.dimse_timeout, self._ae.network_timeout = 10, 30, 30
        self._ae.connection_timeout = 5
        self._ae.add_requested_context(DX_IMAGE_STORAGE, EXPLICIT_LITTLE)
        self._given_up = threading.Event()
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
                waiting = self._try(waiting)
                if waiting:
                    time.sleep(PAUSE)

    def _try(self, films: list[Film]) -> list[Film]:
        """One association; gives what has to be sent again."""
        association = self._ae.associate("127.0.0.1", self._port, ae_title="FIRSTREAD")
        if not association.is_established:
            self._world.refuse("no association")
            return films
        cut: threading.Timer | None = None
        if self._random.random() < ABORTED_SHARE:
            cut = threading.Timer(self._random.uniform(0, LONGEST_BEFORE_ABORT), association.abort)
            cut.start()
            self.aborts += 1
        left = [film for film in films if not self._sent(association, film)]
        if cut is not None:
            cut.cancel()
            cut.join()
        if association.is_established:
            association.release()
        return left

    def _sent(self, association: Association, film: Film) -> bool:
        """Whether nothing more is to be done about ``film``."""
        if not association.is_established:
            return False
        self._world.sent += 1
        try:
            status = association.send_c_store(film.path).get("Status")
        except (RuntimeError, ValueError):  # it was cut before the request was on its way
            status = None
        if status == SUCCESS:
            self._world.acknowledge(film)
        elif status is None:
            self._world.refuse("no status")
        else:
            self._world.refuse(f"0x{status:04X}")
        return status in (SUCCESS, DUPLICATE)


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
