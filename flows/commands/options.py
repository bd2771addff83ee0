"""Options that several commands have, and how their values are read."""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import logs
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        show_default="firstread.toml where there is one",
        help="Configuration file",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of standard output")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what happens to standard error, without identifiers")
]


def _day(text: str) -> datetime:
    """The day as YYYY-MM-DD. Raises BadParameter for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - days of studies have no zone
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day: write it as 2026-01-31") from None


Since = Annotated[
    datetime | None,
    typer.Option("--since", parser=_day, metavar="YYYY-MM-DD", help="First study date, inclusive"),
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", parser=_day, metavar="YYYY-MM-DD", help="Last study date, inclusive"),
]
ArchiveName = Annotated[
    str, typer.Option("--archive", "-a", metavar="NAME", help="Name of an [archives.NAME] table")
]
AnyArchive = Annotated[
    str,
    typer.Option(
        "--archive", "-a", metavar="NAME", show_default="all", help="Name of an [archives.NAME] table"
    ),
]
AskedBy = Annotated[
    str,
    typer.Option("--by", metavar="NAME", show_default="the login name", help="Who asks, for the audit"),
]
Model = Annotated[
    str,
    typer.Option("--model", metavar="ID", show_default="that of [model]", help="Model family of the drafts"),
]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="en|zh",
        show_default="that of [policy]",
        help="Language of the drafts",
        callback=lambda value: known_language(value),
    ),
]


def known_language(value: str) -> str:
    """``value`` where it is one of our languages, or "". Raises typer.BadParameter."""
    if value not in ("", "en", "zh"):
        raise typer.BadParameter("is en or zh")
    return value


def days(since: datetime | None, until: datetime | None) -> tuple[date | None, date | None]:
    """The dates of --since and --until. Raises ConfigurationError where they are the wrong way round."""
    first, last = since.date() if since else None, until.date() if until else None
    if first and last and first > last:
        raise ConfigurationError("dates", f"--since {first} lies after --until {last}: no study can match")
    return first, last


def opened_settings(config: Path | None, verbose: bool) -> "Settings":
    """Begin to log, then read the configuration. Raises ConfigurationError."""
    from pipeline import settings as configuration  # with pydantic: not for --help

    logs.configure(verbose)
    return configuration.load(config)
