"""Archives: whatever answers find, list instances and fetch. One protocol, three adapters.

``dicomweb`` speaks QIDO-RS and WADO-RS (PS3.18), ``dimse`` speaks C-FIND, C-MOVE and C-GET (PS3.4 Annex C),
``folder`` reads DICOM files from disk. An archive is never trusted: completeness is counted by SOP Instance UID.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pipeline.archive.passed_over import PassedOver
from pipeline.study import AnnouncedInstance, FetchedStudy, FoundStudy, StudyQuery, UnfetchedInstance

Leave = Callable[[tuple[AnnouncedInstance, ...]], tuple[UnfetchedInstance, ...]]
"""What of a study's list of instances is not asked for."""


class Archive(Protocol):
    """What the flows need of an archive. Instances are context managers; methods may be called from several threads."""

    name: str
    passed_over: PassedOver
    """Files, folders and rows that a search met and that became no study, by reason."""

    def find(self, query: StudyQuery) -> Iterator[FoundStudy]:
        """Yield each matching study once, however the archive pages, caps or repeats its answers.

        Raises RetryLater when the archive refuses, stalls or dies; StopRun when it can never answer (configuration).
        """
        ...

    def instances(self, study_instance_uid: str) -> tuple[AnnouncedInstance, ...]:
        """Image-level list of the study, sorted by UID. Raises RetryLater; SkipStudy("study-gone") when unknown."""
        ...

    def fetch(self, study_instance_uid: str, folder: Path, leave: Leave | None = None) -> FetchedStudy:
        """Bring the study's files into ``folder`` (created, private), streamed to disk, one file per instance.

        What ``leave`` names of the list stays in the archive (files of a folder are all taken) and is ``unfetched``.
        A short study is returned as it is (``missing`` names the gap): the caller retries, then records it. Damaged
        objects are reported in ``damaged``. Raises RetryLater when nothing came, FailStudy when it never will,
        StopRun("disk-full") below the free-space watermark.
        """
        ...

    def echo(self) -> str:
        """Prove that the archive is there and speaks; a short sentence. Raises RetryLater or StopRun with advice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
