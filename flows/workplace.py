"""What the steps of a run share: settings, store, archives, drafter and a folder to work in.

Opened once by a flow or a command and closed with it; nothing here is global.
"""

import logging
import os
import socket
import uuid
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from flows.code_version import code_version
from flows.work_folder import work_folder
from models.drafter import Drafter, open_drafter
from pipeline.archive import Archive
from pipeline.archive.opening import open_archive
from pipeline.fhir.site import Site
from pipeline.report import Language
from pipeline.settings import Settings, archive_named
from pipeline.store.opening import open_store
from pipeline.store.store import Store

log = logging.getLogger(__name__)


class Workplace:
    """A context manager over everything a run holds open. The drafter is loaded when first asked for.

    Raises ConfigurationError for an unknown archive or model, StopRun when weights, engine or schema are not what is
    expected, RetryLater when Postgres is away.
    """

    def __init__(self, settings: Settings, *, model: str = "", language: str = "") -> None:
        self.settings = settings
        self.model_id = model or settings.model.id
        self.language = Language(language or settings.policy.language)
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._stack = ExitStack()
        self._archives: dict[str, Archive] = {}
        self._drafter: Drafter | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.store: Store = stack.enter_context(open_store(self.settings, owner=self.owner))
            self._folder = stack.enter_context(work_folder(self.settings.data_dir / "work"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def drafter(self) -> Drafter:
        """The model, loaded once."""
        if self._drafter is None:
            self._drafter = self._stack.enter_context(
                open_drafter(
                    self.model_id,
                    weights_dir=self.settings.model.weights,
                    cache_dir=self.settings.data_dir / "engines",
                    require_runner=self.settings.model.require_runner,
                    threads=self.settings.model.threads,
                    language=self.language,
                    code_version=code_version(),
                )
            )
        return self._drafter

    def archive(self, name: str) -> Archive:
        """The configured archive ``name``, opened once."""
        if name not in self._archives:
            configured = archive_named(self.settings, name)
            self._archives[name] = self._stack.enter_context(open_archive(name, configured))
        return self._archives[name]

    def site(self, archive: str) -> Site:
        """What the site decides about the FHIR resources of this archive's studies."""
        policy = self.settings.policy
        return Site(
            archive=archive,
            organization=policy.organization,
            identifier_system=policy.identifier_system,
            draft_status=policy.draft_status,
        )

    def study_folder(self, ledger_id: int) -> Path:
        """Where the files of one study lie while it is worked on."""
        return self._folder / str(ledger_id)
