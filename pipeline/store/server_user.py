"""Who runs the embedded Postgres, which refuses to run as root.

An ordinary user runs it as itself. Root has it run as ``postgres``, or ``nobody`` where there is no such user. Where
that user cannot reach the folder or the binaries (a clone under /root), it is given the one capability that lets
it pass closed folders, and nothing else.
"""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StopRun


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that owns the cluster (None: ourselves), and the words before a command line that make it run so."""

    uid: int | None
    prefix: tuple[str, ...] = ()


def server_user(folder: Path, cluster: Path, binaries: Path) -> ServerUser:
    """Make the server's folder, and decide who runs the server. An existing cluster keeps its owner.

    Raises StopRun, saying what to change, when no user could run it.
    """
    if os.geteuid() != 0:
        if not cluster.exists():  # initdb looks the user up; a server that has its cluster does not
            _account(os.geteuid())
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return ServerUser(None)
    folder.mkdir(parents=True, exist_ok=True)
    for passed in (folder.parent, folder):  # the account passes, and lists nothing
        passed.chmod(passed.stat().st_mode & 0o700 | 0o011)
    uid = cluster.stat().st_uid if cluster.exists() else _unprivileged()
    account = _account(uid)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StopRun(
            "embedded-postgres", "Postgres does not run as root, and setpriv (package util-linux) is missing"
        )
    prefix = [setpriv, f"--reuid={uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if not (_reachable(folder, account) and _reachable(binaries, account)):
        capability = _passing_capability()
        if not capability:
            raise StopRun(
                "embedded-postgres",
                f"user {account.pw_name}, who has to run Postgres here, cannot reach {folder} or {binaries}: "
                "some parent folder is closed to others. Open it (chmod o+x), move data_dir, or set [database] url",
            )
        # access(2) would drop the capability again for a real user id that is not root.
        prefix += [
            f"--inh-caps=+{capability}",
            f"--ambient-caps=+{capability}",
            "--securebits=+no_setuid_fixup",
        ]
    return ServerUser(uid, tuple(prefix))


def _account(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise StopRun(
            "embedded-postgres",
            f"user id {uid}, who has to run Postgres here, has no account (/etc/passwd), and Postgres needs one. "
            "Run as a user with an account, or set [database] url to a site's own server",
        ) from None


def _unprivileged() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise StopRun(
        "embedded-postgres", "Postgres does not run as root and there is no user postgres or nobody here"
    )


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    """True when every folder down to ``path`` lets this user pass."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == account.pw_uid:
            passes = status.st_mode & 0o100
        elif status.st_gid == account.pw_gid:
            passes = status.st_mode & 0o010
        else:
            passes = status.st_mode & 0o001
        if not passes:
            return False
    return True


def _passing_capability() -> str:
    """The least capability of ours that lets a user pass closed folders (capabilities(7)), or ""."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    bounding = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:")), 0
    )
    for bit, name in ((2, "dac_read_search"), (1, "dac_override")):
        if bounding >> bit & 1:
            return name
    return ""
