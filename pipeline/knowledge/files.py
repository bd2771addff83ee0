"""The files of a knowledge folder: found, bounded, decoded, made passages. What cannot be read is named, with why."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.knowledge.medications import medication_passages
from pipeline.knowledge.splitting import text_passages
from pipeline.knowledge.tables import table_passages
from pipeline.knowledge.visible import shown_name, visible
from pipeline.passages import Passage

READER = "1"
"""Part of each digest: another reading of the same bytes is another file. Raise it when passages are made otherwise."""
LARGEST = 32 << 20
MOST_FILES = 10_000
MOST_PASSAGES = 100_000
KINDS = (".txt", ".md", ".csv", ".json", ".ndjson")
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, slots=True)
class BaseFile:
    """One file of a folder: its path inside it, and its content or ``fault``, why it has none."""

    path: str
    content: bytes = b""
    digest: str = ""
    fault: str = ""


def files_of(folder: Path, encoding: str) -> Iterator[BaseFile]:
    """Every file that can be a part of the base, in the order of their paths; links are not followed.

    Raises ConfigurationError for a folder that cannot be read, or has more files than ``MOST_FILES``.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            "knowledge-folder", f"{folder} is no folder that can be read: check [[knowledge]] path"
        )
    paths = []
    for place, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(place, name) for name in names if not name.startswith(".")]
        if len(paths) > MOST_FILES:
            raise ConfigurationError("knowledge-folder", f"{folder} has more than {MOST_FILES} files")
    for path in sorted(paths):
        yield _file(folder, path.relative_to(folder).as_posix(), encoding)


def digest_now(folder: Path, path: str, encoding: str) -> str:
    """The digest of a file as it is now, "" where it cannot be read."""
    return _file(folder, path, encoding).digest


def passages_of(file: BaseFile, encoding: str, left_out: Counter[str]) -> list[Passage]:
    """The passages of a file; ``left_out`` counts the resources of types that are not read.

    Raises ValueError, in words, for a file that holds none or too many or is not what its name says.
    """
    text = decoded(file.content, encoding)
    kind = Path(file.path).suffix.lower()
    if kind in (".json", ".ndjson"):
        found = medication_passages(text, lines=kind == ".ndjson", left_out=left_out)
    else:
        found = table_passages(text) if kind == ".csv" else text_passages(text)
    passages = list(islice(found, MOST_PASSAGES + 1))
    if len(passages) > MOST_PASSAGES:
        raise ValueError(f"it has more than {MOST_PASSAGES} passages: divide it")
    if not passages:
        raise ValueError("there is nothing in it to be cited")
    return passages


def decoded(content: bytes, encoding: str) -> str:
    """The text, without characters that cannot be seen. Raises ValueError where it is none in this encoding."""
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), encoding)
    try:
        text = content.decode(marked)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"it is not {marked} at byte {error.start}: write it in UTF-8, or name its encoding in [[knowledge]]"
        ) from None
    return visible(text)


def _file(folder: Path, path: str, encoding: str) -> BaseFile:
    if (shown := shown_name(path)) != path:
        return BaseFile(shown, fault="its name is no plain text")
    if not path.lower().endswith(KINDS):
        return BaseFile(path, fault=f"only {', '.join(KINDS)} are read")
    try:
        content = _content(folder / path)
    except OSError as error:
        return BaseFile(path, fault=f"it cannot be read ({error.strerror})")
    except ValueError as error:
        return BaseFile(path, fault=str(error))
    digest = hashlib.sha256(f"{READER} {encoding} ".encode() + content).hexdigest()
    return BaseFile(path, content, digest)


def _content(path: Path) -> bytes:
    """Raises OSError as the system does, ValueError in words for what is no file or too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("it is no regular file")
        content = file.read(LARGEST + 1) if state.st_size <= LARGEST else b""
        if len(content) > LARGEST or state.st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB: divide it")
        return content


def _refuse_folder(error: OSError) -> None:
    raise ConfigurationError(
        "knowledge-folder", f"{error.filename} cannot be read ({error.strerror}): check [[knowledge]] path"
    )
