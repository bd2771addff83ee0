"""Opening an archive by its settings."""

from typing import assert_never

from pipeline.archive import Archive
from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.archive.dimse.dimse_archive import DimseStudies
from pipeline.archive.folder import FolderStudies
from pipeline.setting_archives import ArchiveSettings, DicomwebArchive, DimseArchive, FolderArchive


def open_archive(name: str, settings: ArchiveSettings) -> Archive:
    """The archive called ``name``, to be used as a context manager. Nothing is contacted yet.

    Raises ConfigurationError where the settings cannot be.
    """
    match settings:
        case DicomwebArchive():
            return DicomwebStudies(name, settings)
        case DimseArchive():
            return DimseStudies(name, settings)
        case FolderArchive():
            return FolderStudies(name, settings)
        case _:
            assert_never(settings)
