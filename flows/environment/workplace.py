"""What the steps of a run share: settings, store, archives, drafter and a folder to work in.

Opened once by a flow or a command and closed with it; nothing here is global.
"""

import hashlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flows.environment import outliving
from flows.environment.at_work import AtWork
from flows.environment.code_version import code_version, program_digest
from flows.environment.known_recipe import KnownRecipe
from flows.environment.noted_configuration import note_configuration
from flows.environment.resident_memory import giving_memory_back
from flows.environment.site import site_of
from flows.environment.site_models import (
    check_site_tasks,
    chosen_model,
    model_choice,
    reader_of,
    route_tasks,
    site_routes,
    site_tasks,
    with_whole,
)
from flows.environment.work_folder import work_folder
from models.catalog import show
from models.drafting.tasks import SiteTask
from models.model_choice import ModelChoice
from pipeline.accepts import StudyReader
from pipeline.archive import Archive
from pipeline.archive.opening import open_archive
from pipeline.errors import FirstreadError, StopRun
from pipeline.fhir import Site, audit_events
from pipeline.folders import make_writable, write_for_this_account
from pipeline.images.site_rules import SiteRule, site_rule
from pipeline.images.trust import SiteTrust
from pipeline.ledger import Circumstances
from pipeline.report import Language
from pipeline.settings import Settings, archive_named
from pipeline.store.opening import open_store
from pipeline.store.store import Store
from pipeline.study import ImageSet

if TYPE_CHECKING:
    from models.drafter import Drafter

log = logging.getLogger(__name__)


class Workplace:
    """A context manager over everything a run holds open. The drafter is loaded when something is to be drafted.

    Raises ConfigurationError for an unknown archive or model and for tasks that the models cannot do, StopRun when
    weights, engine or schema are not what is expected, RetryLater when Postgres is away.
    """

    def __init__(self, settings: Settings, *, model: str = "", language: str = "") -> None:
        self.settings = settings
        self.model = chosen_model(settings, model)
        self.language = Language(language or settings.policy.language)
        check_site_tasks(settings, self.model, self.language)
        self.routes = site_routes(settings)
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.over = False
        """The run ended early: nobody waits for a thread that is still at a call, and what it needs may be closed."""
        self._stack = ExitStack()
        self._archives: dict[str, Archive] = {}
        self._opening = threading.RLock()
        self._drafter: Drafter | None = None
        self._routed: dict[str, Drafter] = {}
        self._known = KnownRecipe(settings, self.model, self.language)
        self._recipe = self._known.recall()

    def __enter__(self) -> Self:
        write_for_this_account()  # in a flow run of Prefect too
        make_writable("data_dir", self.settings.data_dir)
        with ExitStack() as stack:
            stack.enter_context(giving_memory_back())
            self.store: Store = stack.enter_context(open_store(self.settings, owner=self.owner))
            self.at_work = AtWork(self.store)
            note_configuration(self.settings, self.store)
            outliving.learn(self.store.rested)
            self._say(audit_events.application_started)
            stack.callback(self._say_stopped)
            self._folder = stack.enter_context(work_folder(self.settings.data_dir / "work"))
            self._stack = stack.pop_all()
        return self

    @classmethod
    @contextmanager
    def without_store(cls, settings: Settings) -> Iterator[Self]:
        """Model and archives alone, for a look at each while the database may be away."""
        workplace = cls(settings)
        with workplace._stack:
            yield workplace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _say(self, event: Callable[[str, datetime], Mapping[str, Any]]) -> None:
        self.store.append_audit([event(self.settings.policy.organization, datetime.now(UTC))])

    def _say_stopped(self) -> None:
        try:
            self._say(audit_events.application_stopped)
        except FirstreadError as error:
            log.warning("the end of this run is not in the audit: %s", error)

    @property
    def recipe(self) -> str:
        """The recipe of the model: known from outside where it was opened before as it is now, else asked of it."""
        return self._recipe or self.drafter.recipe

    def recipe_of(self, archive: str) -> str:
        """The recipe of an archive's drafts: that of the model, and what the site says of the archive's films."""
        return archive_recipe(self.settings, archive, self.recipe)

    def trust(self, archive: str) -> SiteTrust:
        """What the site says of the archive's films where their headers do not."""
        said = archive_named(self.settings, archive).trust
        return SiteTrust(frozenset(said.conversion_types), said.missing_body_part, said.missing_view)

    def rules(self, archive: str) -> tuple[SiteRule, ...]:
        """The site's rules for the archive, in order. Raises ConfigurationError for one that DICOM does not know."""
        tables = archive_named(self.settings, archive).rules
        return tuple(site_rule(number, table.when, table.says) for number, table in enumerate(tables, 1))

    @property
    def known_recipe(self) -> str:
        """The recipe as far as it is known without opening the model, else ""."""
        return self._recipe

    @property
    def drafter(self) -> "Drafter":
        """The model, loaded once, by whichever thread needs it first.

        Raises StopRun where its recipe is another one than this run began with.
        """
        with self._opening:
            if self._drafter is None:
                self._drafter = self._open_drafter()
                begun, self._recipe = self._recipe, self._drafter.recipe
                if begun and begun != self._recipe:
                    self._known.forget()
                    raise StopRun("recipe", "the model is not the one that this run began with; run again")
                self._known.remember(self._recipe)
            return self._drafter

    def drafter_for(self, image_set: ImageSet) -> "Drafter":
        """The model that drafts a study: its route's, [model]'s for films of the chest and where no route is."""
        drafter = self.drafter
        if image_set.chest or not image_set.images:
            return drafter
        shown = image_set.images[0].modality.upper()
        return next((self._routed[one.name] for one in self.routes if shown in one.modalities), drafter)

    def _open_drafter(self) -> "Drafter":
        from models.recipe import Recipe  # with all that runs a model: not for a run with nothing new
        from pipeline.images.segmentation import require_highdicom

        if any(one.whole for one in self.reader.accepts):
            require_highdicom()
        tasks, priors = site_tasks(self.settings, self.language), self.settings.policy.priors
        drafter = self._open_model(self.model, tasks=tasks, priors=priors)
        for route in self.routes:
            self._routed[route.name] = self._open_model(route.model, tasks=route_tasks(route, self.language))
        if self.routes:
            ways = {one.name: ", ".join(sorted(one.modalities)) for one in self.routes}
            shared = {f"route {way}": self._routed[name].recipe for name, way in ways.items()}
            recipe = Recipe({"model": drafter.recipe, **shared}).digest
            drafter.under(recipe)
            for name, way in ways.items():
                self._routed[name].under(recipe, way)
        return drafter

    def _open_model(
        self, model: ModelChoice, *, tasks: Sequence[SiteTask] = (), priors: str = "off"
    ) -> "Drafter":
        from models.drafter import open_drafter

        return self._stack.enter_context(
            open_drafter(
                model,
                cache_dir=self.settings.data_dir / "engines",
                language=self.language,
                code_version=code_version(),
                tasks=tasks,
                further={name: model_choice(one) for name, one in self.settings.models.items()},
                batch=self.settings.model.generate_batch,
                priors=priors,
            )
        )

    @cached_property
    def reader(self) -> StudyReader:
        """What is read: films of the chest by [model], and what else by the models of routes before [model]'s own.

        A film is brought to the size of every model; each is shown its own (``models.film_sizes``).
        """
        entry = show(self.model.id)
        choices = (self.model, *map(model_choice, self.settings.models.values()))
        longest, *smaller = sorted({reader_of(one).longest_side for one in choices}, reverse=True)
        routed = tuple(accepted for one in self.routes for accepted in one.accepts)
        name = "the models of this site" if self.routes else self.model.id
        return StudyReader(
            name,
            entry.reads_laterals,
            with_whole(self.settings, (*routed, *entry.accepts)),
            longest,
            tuple(smaller),
        )

    @cached_property
    def circumstances(self) -> Circumstances:
        """The whole program and the settings, as digests: what failed under others may be tried again."""
        told = self.settings.model_dump_json(
            include={"archives", "listen", "model", "models", "policy", "routes", "tasks"}
        )
        return Circumstances(program_digest(), hashlib.sha256(told.encode()).hexdigest())

    def archive(self, name: str) -> Archive:
        """The configured archive ``name``, opened once."""
        if name not in self._archives:
            configured = archive_named(self.settings, name)
            self._archives[name] = self._stack.enter_context(open_archive(name, configured))
        return self._archives[name]

    def site(self, archive: str) -> Site:
        """What the site decides about the FHIR resources of this archive's studies."""
        return site_of(self.settings, archive)

    def study_folder(self, ledger_id: int) -> Path:
        """Where the files of one study lie while it is worked on."""
        return self.private_folder(str(ledger_id))

    def private_folder(self, name: str) -> Path:
        """A folder of this process for files of patients, not yet made; gone with the process."""
        return self._folder / name


def archive_recipe(settings: Settings, archive: str, recipe: str) -> str:
    """``recipe`` with the archive's ``trust`` table and its rules, where it has any; "" stays unknown."""
    configured = settings.archives.get(archive)
    said = configured.trust.model_dump_json(exclude_defaults=True) if configured is not None else "{}"
    if configured is not None and configured.rules:
        said += "".join(rule.model_dump_json(by_alias=True) for rule in configured.rules)
    return recipe if said == "{}" or not recipe else hashlib.sha256(f"{recipe} {said}".encode()).hexdigest()
