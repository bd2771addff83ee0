"""The file of one instance: bytes stream into a part file, which is examined when it is whole.

Large instances are not held in memory; the disk is watched, and no part file outlives its context.
"""

import os
import random
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archive.content_digest import WalkedDigest, content_digest
from pipeline.archive.digesting import InlineDigest, OverlappedDigest, RunningDigest
from pipeline.archive.file_meta import file_header
from pipeline.archive.part10 import (
    Fault,
    Part10Header,
    all_lenience,
    header_of,
    read_part10_header,
)
from pipeline.errors import StopRun
from pipeline.study import HeldInstance, InstanceRef

PART_SUFFIX = ".part"
_GIB = 1 << 30
_DISK_CHECK_BYTES = 64 << 20
_SMALL = 1 << 16
"""Bytes up to which a file is kept in memory until it is whole: written at once, and examined without being read."""


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """``min_free_gib`` is the watermark below which nothing is written.

    ``max_instance_gib`` the largest instance taken.
    """

    min_free_gib: float
    max_instance_gib: float

    def check(self, folder: Path) -> None:
        """Raises StopRun("disk-full") when the disk under ``folder`` has less than ``min_free_gib`` free."""
        free = shutil.disk_usage(folder).free
        if free < self.min_free_gib * _GIB:
            raise StopRun(
                "disk-full",
                f"{free / _GIB:.1f} GiB free, below the watermark of {self.min_free_gib:g} GiB: "
                "free some disk, or lower min_free_gib",
            )


class PartFile:
    """One DICOM file on its way to disk. A context manager: what was not finished is removed.

    Its digest is taken while it is written, with ``pool`` by another thread: then a piece that was written must
    stay as it is until the next call. Raises StopRun("disk-full") below the watermark, before anything is written.
    """

    def __init__(
        self,
        folder: Path,
        limits: DiskLimits,
        progressed: Callable[[], None] | None = None,
        pool: Executor | None = None,
    ) -> None:
        self.path = folder / f"{random.getrandbits(128):032x}{PART_SUFFIX}"
        self.size = 0
        self.too_large = self._named = False
        self._limits = limits
        self._folder = folder
        self._progressed = progressed
        self._next_check = _DISK_CHECK_BYTES
        self._pool = pool
        self._digest: RunningDigest | None = None
        self._small: bytearray | None = bytearray()
        limits.check(folder)
        self._file: int | None = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
        )

    def write(self, piece: bytes | memoryview) -> None:
        """Append ``piece``; what goes beyond the largest instance is dropped. Raises StopRun("disk-full")."""
        self.size += len(piece)
        if self._progressed is not None:
            self._progressed()
        if self.size > self._limits.max_instance_gib * _GIB:
            self.too_large = True
            return
        if self.size >= self._next_check:
            self._next_check = self.size + _DISK_CHECK_BYTES
            self._limits.check(self._folder)
        if self._small is None:
            self._put(piece)
            return
        self._small += piece
        if len(self._small) > _SMALL:
            whole, self._small = bytes(self._small), None
            self._put(whole)

    def finish(self, *, durable: bool = False) -> HeldInstance | Fault:
        """Close and examine the file, which keeps its part name. ``durable`` forces it to the disk first."""
        assert self._file is not None
        content = None if self._small is None or self.too_large else bytes(self._small)
        if content is not None:
            _write_all(self._file, content)
        if durable:
            os.fsync(self._file)
        self._close()
        if self.too_large:
            limit = f"{self._limits.max_instance_gib:g}"
            return Fault("too-large", f"the instance is larger than max_instance_gib = {limit}")
        return examine(self.path, self._digest.hexdigest() if self._digest else "", content)

    def header(self) -> Part10Header | Fault:
        """What the file says of itself so far."""
        if self._small is not None:
            return header_of(bytes(self._small))
        return read_part10_header(self.path)

    def named(self) -> None:
        """Note that the file has another name now: nothing is left to remove."""
        self._named = True

    def discard(self) -> None:
        """Remove the file, if it is still there."""
        self._close()
        if self._digest is not None:
            self._digest.close()
        if not self._named:
            with suppress(FileNotFoundError):
                os.unlink(self.path)

    def _put(self, piece: bytes | memoryview) -> None:
        assert self._file is not None
        if self._digest is None:
            self._digest = InlineDigest() if self._pool is None else OverlappedDigest(self._pool)
        _write_all(self._file, piece)
        self._digest.update(piece)

    def _close(self) -> None:
        descriptor, self._file = self._file, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def examine(path: Path, sha256: str = "", content: bytes | None = None) -> HeldInstance | Fault:
    """The instance in the file at ``path``, or what is wrong with it.

    ``sha256`` is its digest and ``content`` are its bytes, where they are known. A file without a sound file meta group
    gets one in its place: every reader behind this one sees PS3.10 files.
    """
    if content is None:
        header = read_part10_header(path)
    else:
        digest = WalkedDigest()
        header = header_of(content, digest=digest)
        sha256 = digest.hexdigest()
    if isinstance(header, Part10Header) and header.lenience:
        _rewrap(path, header)
        sha256, content = "", None
    if isinstance(header, Fault):
        return header
    return HeldInstance(
        ref=InstanceRef(header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid),
        path=path,
        sha256=sha256 or content_digest(path),
        size=path.stat().st_size if content is None else len(content),
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        lenience=all_lenience(header),
    )


def lenience_of(path: Path) -> tuple[str, ...]:
    """What was read leniently of the file at ``path`` when it was received; () where it cannot be read."""
    header = read_part10_header(path)
    return all_lenience(header) if isinstance(header, Part10Header) else ()


def moved(held: HeldInstance, path: Path) -> HeldInstance:
    """The same instance at another path."""
    return replace(held, path=path)


def _rewrap(path: Path, header: Part10Header) -> None:
    """Give the file at ``path`` a file meta group of our own."""
    target = path.with_name(f"{uuid.uuid4().hex}{PART_SUFFIX}")
    try:
        rewrapped(path, header, target)
        target.replace(path)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise StopRun(
            "disk-full", f"the fetch folder cannot be written ({error.strerror}): free some disk"
        ) from None


def rewrapped(path: Path, header: Part10Header, target: Path) -> None:
    """Write the data set of ``path`` behind a file meta group of our own to ``target``. Raises OSError.

    Byte by byte, but for its patches. The meta group says why, for whoever reads the file after us.
    """
    uids = header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid
    with path.open("rb") as source, target.open("xb") as file:
        file.write(file_header(*uids, private=all_lenience(header)))
        at = header.dataset_start
        for start, end, instead in header.patches:
            source.seek(at)
            file.write(source.read(start - at))
            file.write(instead)
            at = end
        source.seek(at)
        shutil.copyfileobj(source, file, 1 << 20)


def _write_all(descriptor: int, piece: bytes | memoryview) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise StopRun(
            "disk-full", f"the fetch folder cannot be written ({error.strerror}): free some disk"
        ) from None
