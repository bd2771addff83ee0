"""What a search passed over: files, folders and rows that became no study. Counted by reason, never dropped."""

import threading
from collections import Counter


class PassedOver:
    """Counts by reason, a code each, since they were last taken. Several threads may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, code: str, count: int = 1) -> None:
        """Note ``count`` files or rows that were passed over for one reason."""
        with self._lock:
            self._counts[code] += count

    def take(self) -> dict[str, int]:
        """What was noted since the last call, by reason, in their order."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(sorted(counts.items()))
