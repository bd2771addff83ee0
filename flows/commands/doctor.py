"""``firstread doctor``: try every part for real, from archive to model, and say in plain words what to change."""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.commands import table as display
from flows.environment.workplace import Workplace
from flows.tally import ALL_WELL, SOME_FAILED
from pipeline.errors import FirstreadError
from pipeline.images import probe_decoders
from pipeline.settings import Settings
from pipeline.study import StudyQuery


@dataclass(frozen=True, slots=True)
class Examination:
    """One part tried: what was done and what came out, free of identifiers."""

    part: str
    well: bool
    verdict: str


def examine(settings: Settings, archive: str | None, *, as_json: bool) -> int:
    """Try database, decoders, model and each archive (or the one named); returns 0 when all is well, else 1."""
    done = [
        _try("decoders", lambda: _said(probe_decoders(), "every pinned decoder gives the pixels it should"))
    ]
    try:
        with Workplace(settings) as place:
            done.append(
                _try(
                    "database",
                    lambda: f"schema is current, {place.store.audit_verify().rows} audit rows hold",
                )
            )
            done.append(_try("model", lambda: _model(place)))
            for name in (archive,) if archive else tuple(settings.archives):
                done.extend(_archive(place, name))
    except FirstreadError as error:
        done.append(Examination("database", False, str(error)))
    if not settings.archives:
        done.append(
            Examination(
                "archives", False, "none is configured; add an [archives.main] table to firstread.toml"
            )
        )
    if as_json:
        sys.stdout.write(json.dumps([asdict(one) for one in done]) + "\n")
    else:
        display.rows_table(
            ("part", "", "verdict"),
            [(one.part, "well" if one.well else "NOT WELL", one.verdict) for one in done],
        )
    return ALL_WELL if all(one.well for one in done) else SOME_FAILED


def _archive(place: Workplace, name: str) -> list[Examination]:
    echo = _try(f"{name}: echo", lambda: place.archive(name).echo())
    if not echo.well:
        return [echo]
    found = _try(f"{name}: find", lambda: _find(place, name))
    if not found.well:
        return [echo, found]
    return [echo, found, _try(f"{name}: retrieve one instance", lambda: _retrieve(place, name))]


def _find(place: Workplace, name: str) -> str:
    study = next(iter(place.archive(name).find(StudyQuery())), None)
    if study is None:
        return "the archive answers, and has no study"
    announced = place.archive(name).instances(study.study_instance_uid)
    return f"the archive answers; the first study announces {len(announced)} instances"


def _retrieve(place: Workplace, name: str) -> str:
    archive = place.archive(name)
    study = next(iter(archive.find(StudyQuery())), None)
    if study is None:
        return "nothing to retrieve"
    with tempfile.TemporaryDirectory(dir=place.settings.data_dir) as folder:
        fetched = archive.fetch(study.study_instance_uid, Path(folder) / "study")
    if not fetched.complete:
        raise FirstreadError(
            "short", f"{len(fetched.held)} of {len(fetched.announced)} announced instances came"
        )
    return f"{len(fetched.held)} of {len(fetched.announced)} announced instances came, {len(fetched.damaged)} damaged"


def _model(place: Workplace) -> str:
    drafter = place.drafter
    return f"{place.model.id} is loaded and passed its self-check; the encoder runs on {drafter.runner}"


def _try(part: str, act: Callable[[], str]) -> Examination:
    try:
        return Examination(part, True, act())
    except FirstreadError as error:
        return Examination(part, False, str(error))


def _said(_: object, sentence: str) -> str:
    return sentence
