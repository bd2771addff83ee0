"""What is done to the site: each part has faults one after another, the parts at the same time."""

import queue
import signal
import threading
import time
from collections import Counter

from tests.chaos.plan import Step
from tests.chaos.programs import Program, RunLoop
from tests.chaos.site import LOW_BYTES, ChaosSite

SLOWNESS = 0.3
"""Seconds for which a slow server is held, and then let go, in turns."""
LONGEST_END = 15.0
"""Seconds after which a listener that was asked to end (SIGTERM) has not; five on a quiet machine."""
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT, "stall": signal.SIGSTOP}


class Faults:
    """Does faults until ``finish``; counts those done, and what was seen that must not be."""

    def __init__(self, site: ChaosSite) -> None:
        self.done: Counter[str] = Counter()
        self.violations: list[str] = []
        self._site = site
        self._over = threading.Event()
        names = ("orthanc", "postgres", "prefect", "listener", "run-0", "run-1", "disk")
        self._queues: dict[str, queue.SimpleQueue[Step | None]] = {
            name: queue.SimpleQueue() for name in names
        }
        self._threads = [threading.Thread(target=self._work, args=(name,), name=name) for name in names]
        self._watch = threading.Thread(target=self._revive, name="revives")
        self._at_work = {name: threading.Lock() for name in names}

    def start(self) -> None:
        """Begin."""
        for one in (*self._threads, self._watch):
            one.start()

    def happen(self, step: Step) -> None:
        """Have it done by the thread of the part that it is about."""
        part = step.kind.partition(".")[0]
        self._queues[f"run-{int(step.choice * 2)}" if part == "run" else part].put(step)

    def finish(self) -> None:
        """No more faults: wait for the end of those on their way, and have every program run."""
        self._over.set()
        for one in self._queues.values():
            one.put(None)
        for thread in (*self._threads, self._watch):
            thread.join()
        self._site.empty()
        for program in self._site.programs:
            program.revive()

    def _work(self, part: str) -> None:
        while (step := self._queues[part].get()) is not None:
            if self._over.is_set():
                continue
            with self._at_work[part]:
                try:
                    if self._apply(step):
                        self.done[step.kind] += 1
                except Exception as error:
                    self.violations.append(f"{step.kind}: {type(error).__name__} {error}")

    def _apply(self, step: Step) -> bool:
        part, _, what = step.kind.partition(".")
        match part:
            case "run":
                self._signal_run(self._site.runs[int(step.choice * 2)], what, step.seconds)
            case "disk":
                if self._site.disk is None:
                    return False
                self._site.fill(LOW_BYTES if what == "low" else 0)
                time.sleep(step.seconds)
                self._site.empty()
            case _:
                program = {one.name: one for one in self._site.programs}.get(part)
                if program is None:
                    return False
                self._break(program, what, step.seconds)
        return True

    def _signal_run(self, run: RunLoop, what: str, seconds: float) -> None:
        run.signal(SIGNALS[what], seconds)

    def _break(self, program: Program, what: str, seconds: float) -> None:
        if what == "stall":
            program.stall(seconds)
        elif what == "slow":
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                program.stall(SLOWNESS)
                time.sleep(SLOWNESS)
        else:
            gentle = signal.SIGINT if program.name == "postgres" else signal.SIGTERM
            took = program.end(signal.SIGKILL if what == "kill" else gentle)
            if program.name == "listener" and took > LONGEST_END:
                self.violations.append(f"the listener took {took:.0f} s to end")
            time.sleep(seconds)
            program.start()

    def _revive(self) -> None:
        """As whoever supervises a service does: what ended by itself is started again."""
        while not self._over.wait(0.5):
            for program in self._site.programs:
                if self._at_work[program.name].acquire(blocking=False):
                    try:
                        program.revive()
                    except AssertionError as error:
                        self.violations.append(str(error))
                    finally:
                        self._at_work[program.name].release()
