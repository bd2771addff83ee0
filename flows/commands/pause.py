"""``firstread pause`` and ``firstread resume``: a stop by hand, kept in the database, that every run asks for first."""

import sys

from flows.environment.person import login_name
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.opening import open_store


def pause(settings: Settings, why: str, who: str) -> None:
    """Pause drafting until someone resumes; running flows finish. Raises ConfigurationError without a reason."""
    if not why.strip():
        raise ConfigurationError("pause", "--why must say why: whoever finds it paused reads it")
    with open_store(settings) as store:
        fresh = store.sweeps.pause(who or login_name(), why.strip())
        held = store.sweeps.paused()
    already = "" if fresh else "already "
    if held is not None:
        sys.stdout.write(
            f"{already}paused since {held.paused_at:%Y-%m-%d %H:%M} UTC by {held.paused_by}: {held.reason}\n"
        )


def resume(settings: Settings, who: str) -> None:
    """End the pause; what was pushed or missed meanwhile is drafted by the next sweep."""
    with open_store(settings) as store:
        ended = store.sweeps.resume(who or login_name())
    if ended is None:
        sys.stdout.write("drafting was not paused\n")
    else:
        sys.stdout.write(
            f"resumed; it was paused since {ended.paused_at:%Y-%m-%d %H:%M} UTC by {ended.paused_by}: {ended.reason}\n"
        )
