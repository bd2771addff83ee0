"""``firstread doctor``: try every part for real, from archive to model, and say in plain words what to change.

A part that fails does not keep the others from being tried; the database is asked once, without patience.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from flows.commands import table as display
from flows.environment.prefect_api import check_site_api, site_api
from flows.environment.site_models import check_site_tasks, chosen_model
from flows.environment.work_folder import work_folder
from flows.environment.workplace import Workplace
from flows.fetching import trial_event
from flows.knowledge import not_loaded
from flows.tally import ALL_WELL, SOME_FAILED
from pipeline.archive import Archive
from pipeline.errors import FirstreadError
from pipeline.folders import keep_private, make_writable
from pipeline.images import probe_decoders
from pipeline.images.decoder_program import landlock_version
from pipeline.report import Language
from pipeline.setting_lists import KnowledgeSettings
from pipeline.settings import DEFAULT_FILE, Settings, archive_named
from pipeline.store.opening import Purpose, open_store
from pipeline.study import FoundStudy, StudyQuery

STUDIES_TRIED = 3
_SECRET = re.compile(
    r"""^[ \t]{0,16}(?:token|password|api_key)[ \t]{0,16}=[ \t]{0,16}["'][^"']|://[^\s/:@"']{1,64}:[^\s@"']{1,256}@""",
    re.M,
)
CONNECT_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Examination:
    """One part tried: what was done and what came out, free of identifiers."""

    part: str
    well: bool
    verdict: str


def examine(settings: Settings, archive: str | None, config: Path | None = None, *, as_json: bool) -> int:
    """Try decoders, tasks, database, model and each archive (or the one named); returns 0 when all is well, else 1.

    Raises ConfigurationError for an unknown archive.
    """
    if archive:
        archive_named(settings, archive)
    done = [_try("configuration", lambda: _file(config or DEFAULT_FILE)), *_parts(settings, archive)]
    well = all(one.well for one in done)
    if as_json:
        told = {"well": well, "parts": [asdict(one) for one in done]}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    else:
        display.rows_table(
            ("part", "", "what was found"),
            [(one.part, "well" if one.well else "to mend", one.verdict) for one in done],
        )
    return ALL_WELL if well else SOME_FAILED


def _parts(settings: Settings, archive: str | None) -> Iterator[Examination]:
    yield _try("decoders", lambda: _said(probe_decoders(), _decoders()))
    tasks = _try("tasks", lambda: _tasks(settings))
    yield tasks
    database = _try("database", lambda: _database(settings))
    yield database
    if database.well:
        yield _try("logins", lambda: _logins(settings))
        for base in settings.knowledge:
            yield _try(f"knowledge: {base.name}", partial(_knowledge, settings, base))
    yield _try("data_dir", lambda: _data_dir(settings))
    if site := site_api(settings):
        yield _try("prefect", lambda: check_site_api(site))
    if not tasks.well:  # said above; the model is tried without them
        settings = settings.model_copy(update={"tasks": ()})
    with Workplace.without_store(settings) as workplace:
        yield _try("model", lambda: _model(workplace))
        for name in (archive,) if archive else tuple(settings.archives):
            yield from _archive(workplace, name)
    if not settings.archives:
        advice = "none is configured: add an [archives.main] table to firstread.toml"
        yield Examination("archives", False, advice)


def _decoders() -> str:
    right = "every pinned decoder gives the pixels it should"
    if landlock_version() < 1:
        return f"{right}; this kernel has no Landlock, so a decoder that a file took over could read what you can"
    return f"{right}, shut in by Landlock"


def _tasks(settings: Settings) -> str:
    check_site_tasks(settings, chosen_model(settings, ""), Language(settings.policy.language))
    count = len(settings.tasks)
    return f"the models can be asked all {count} [[tasks]]" if count else "no [[tasks]] beside the report"


def _database(settings: Settings) -> str:
    with open_store(settings, patience_seconds=0, connect_seconds=CONNECT_SECONDS) as store:
        return f"the schema is current, {store.audit_verify().rows} audit rows hold"


def _file(path: Path) -> str:
    """See that a file of settings that holds a secret is for this account alone."""
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except OSError:
        return "no file; the settings are the usual ones, or variables"
    if mode & 0o066 and _SECRET.search(text):
        raise FirstreadError(
            "file-of-secrets", f"{path} holds a secret and other accounts may read it: chmod 600 {path}"
        )
    return "other accounts are told no secret by it"


def _logins(settings: Settings) -> str:
    """See that the logins of work and of `serve` may do what they need and no more."""
    for purpose, need in ((Purpose.WORK, "firstread_machine"), (Purpose.SERVE, "firstread_viewer")):
        with open_store(
            settings, purpose=purpose, patience_seconds=0, connect_seconds=CONNECT_SECONDS
        ) as store:
            excess = store.excess_rights()
        shared = purpose is Purpose.SERVE and not settings.database.serve_url.get_secret_value()
        excess = tuple(one for one in excess if not (shared and one == "may write drafts"))
        if excess:
            login = "url" if shared else purpose.value
            raise FirstreadError(
                "login-rights",
                f"the login of [database] {login} can do more than it should ({', '.join(excess)}): use one that is a "
                f"member of {need} alone, and name that of upgrades in [database] migration_url "
                "(docs/running.md#the-sites-own-postgres)",
            )
    return "the logins may do what they need, and no more"


def _knowledge(settings: Settings, base: KnowledgeSettings) -> str:
    with open_store(settings, patience_seconds=0, connect_seconds=CONNECT_SECONDS) as store:
        waiting, held = not_loaded(store, base), len(store.knowledge.files(base.name))
    if waiting:
        raise FirstreadError(
            "knowledge-not-loaded",
            f"{waiting} files are not loaded as they are now: run firstread knowledge load, which names those that it "
            "cannot read",
        )
    return f"{held} files are loaded as they are now"


def _data_dir(settings: Settings) -> str:
    keep_private("data_dir", settings.data_dir)
    return "this account's alone"


def _model(workplace: Workplace) -> str:
    drafter = workplace.drafter
    told = f"{workplace.model.id} is loaded and passed its self-check; the encoder runs on {drafter.runner}"
    return told + "".join(
        f"; {', '.join(sorted(one.modalities))}: {one.model.id}" for one in workplace.routes
    )


def _archive(workplace: Workplace, name: str) -> Iterator[Examination]:
    echo = _try(f"{name}: echo", lambda: workplace.archive(name).echo())
    yield echo
    if not echo.well:
        return
    found: list[FoundStudy] = []
    if said := _trusted(workplace, name):
        yield Examination(f"{name}: trust", True, said)
    if archive_named(workplace.settings, name).rules:
        yield _try(f"{name}: rules", lambda: _ruled(workplace, name))
    find = _try(f"{name}: find", lambda: _find(workplace.archive(name), found))
    yield find
    if find.well and found:
        yield _try(f"{name}: retrieve", lambda: _retrieve(workplace, name, found))


def _trusted(workplace: Workplace, name: str) -> str:
    """What stands where the headers of an archive say nothing, "" where that is nothing."""
    trust = workplace.trust(name)
    fills = {
        "secondary captures taken for films by conversion type": ", ".join(sorted(trust.conversion_types)),
        "body part where none is named": trust.missing_body_part,
        "view where none is named": trust.missing_view,
    }
    said = "; ".join(f"{what}: {value}" for what, value in fills.items() if value)
    return f"as the site says, and on every report that it touches: {said}" if said else ""


def _ruled(workplace: Workplace, name: str) -> str:
    told = "; ".join(map(str, workplace.rules(name)))
    return f"the first that holds, and on every report that it touches: {told}"


def _find(archive: Archive, found: list[FoundStudy]) -> str:
    found += islice(archive.find(StudyQuery()), STUDIES_TRIED)
    return "the archive answers" if found else "the archive answers, and has no study"


def _retrieve(workplace: Workplace, name: str, found: list[FoundStudy]) -> str:
    """Retrieve one study; where it fails further ones, since one may be broken in an archive that is well."""
    failures: list[FirstreadError] = []
    for study in found:
        try:
            came = _fetch(workplace, name, study)
        except FirstreadError as error:
            failures.append(error)
            if len({one.code for one in failures}) < len(failures):
                break  # the same again: it is the archive, not the study
            continue
        if not failures:
            return came
        return f"{came}; {len(failures)} other study could not be retrieved: {failures[0].message}"
    raise failures[0]


def _fetch(workplace: Workplace, name: str, study: FoundStudy) -> str:
    make_writable("data_dir", workplace.settings.data_dir)
    with work_folder(
        workplace.settings.data_dir / "work"
    ) as folder:  # a killed doctor's is removed by whoever comes next
        fetched = workplace.archive(name).fetch(study.study_instance_uid, folder / "study")
    came = f"{len(fetched.held)} of {len(fetched.announced)} announced instances of a study came"
    if not _is_told(workplace, trial_event(workplace, name, fetched, "doctor")):
        came += " (the audit does not know: the database is away)"
    if not fetched.complete:
        raise FirstreadError("short", came)
    return came + (f", {len(fetched.damaged)} damaged" if fetched.damaged else "")


def _is_told(workplace: Workplace, event: Mapping[str, Any]) -> bool:
    """Tell the audit of the retrieval; False where there is no database to tell."""
    settings = workplace.settings
    try:
        with open_store(settings, patience_seconds=0, connect_seconds=CONNECT_SECONDS) as store:
            store.append_audit([event])
    except FirstreadError:
        return False
    return True


def _try(part: str, act: Callable[[], str]) -> Examination:
    try:
        return Examination(part, True, act())
    except FirstreadError as error:
        return Examination(part, False, f"{error.message} ({error.code})")


def _said(_: object, sentence: str) -> str:
    return sentence
