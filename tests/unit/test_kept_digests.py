"""Digests of weights that are kept: an unchanged file is not read again, any change of it is."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from models.catalog import show
from models.families.guarded import GuardedFamily
from models.families.registry import open_family
from models.model_choice import ModelChoice
from models.pin import write_sums
from models.weight_loading import kept_digests
from models.weight_loading.kept_check import KeptCheck
from models.weight_loading.kept_digests import KEPT_FILE, Believed, keeping_digests, weight_digest
from pipeline.errors import StopRun
from tests.tiny_text import write_text_model


@pytest.fixture(autouse=True)
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are as new as the test; here they count as settled."""
    monkeypatch.setattr(kept_digests, "SETTLED_SECONDS", -1.0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read to be named."""
    names: list[str] = []

    def counted(path: Path) -> str:
        names.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(kept_digests, "file_digest", counted)
    return names


def digest_of(path: Path, cache: Path) -> str:
    with keeping_digests(cache):
        return weight_digest(path)


def test_an_unchanged_file_is_read_once(tmp_path: Path, read: list[str]) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    first = digest_of(file, tmp_path / "cache")
    assert digest_of(file, tmp_path / "cache") == first == hashlib.sha256(b"weights").hexdigest()
    assert read == ["model.safetensors"]
    with keeping_digests(tmp_path / "cache", read_all=True):
        weight_digest(file)
    weight_digest(file)  # outside the block nothing is kept
    assert len(read) == 3


def test_a_file_written_in_place_with_its_old_time_is_read_again(tmp_path: Path, read: list[str]) -> None:
    file, cache = tmp_path / "model.safetensors", tmp_path / "cache"
    file.write_bytes(b"weights")
    before, stat = digest_of(file, cache), file.stat()
    with file.open("r+b") as stream:
        stream.write(b"WEIGHTS")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    now = file.stat()
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    assert digest_of(file, cache) != before
    assert len(read) == 2


def test_an_exchanged_file_is_read_again(tmp_path: Path, read: list[str]) -> None:
    file, cache = tmp_path / "model.safetensors", tmp_path / "cache"
    file.write_bytes(b"weights")
    before, stat = digest_of(file, cache), file.stat()
    other = tmp_path / "other"
    other.write_bytes(b"another")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert digest_of(file, cache) != before


def test_a_file_of_this_moment_is_not_kept(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_digests, "SETTLED_SECONDS", 60.0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    digest_of(file, tmp_path / "cache")
    digest_of(file, tmp_path / "cache")
    assert len(read) == 2


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": [[1, 2], "d"]}', "\x00", "[" * 5000])
def test_a_damaged_cache_keeps_nothing(tmp_path: Path, read: list[str], text: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    (tmp_path / KEPT_FILE).write_text(text)
    assert digest_of(file, tmp_path) == digest_of(file, tmp_path)
    assert read == ["model.safetensors"]
    assert list(json.loads((tmp_path / KEPT_FILE).read_text())) == [str(file)]


def test_a_family_opens_without_reading_to_name_and_a_pin_still_holds(
    tmp_path: Path, read: list[str]
) -> None:
    folder = write_text_model(tmp_path / "text", "llama")
    write_sums(folder)
    choice = ModelChoice("text-llm", folder, threads=1, accept_use_limits=True)
    with open_family(show("text-llm"), choice, tmp_path / "cache") as family:
        parts = family.parts
    assert read
    read.clear()
    with open_family(show("text-llm"), choice, tmp_path / "cache") as family:
        assert family.parts == parts
    assert read == []
    settings = folder / "generation_config.json"
    stat = settings.stat()
    settings.write_bytes(settings.read_bytes().replace(b"{", b"{ ", 1))
    os.utime(settings, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(StopRun, match="generation_config"):
        open_family(show("text-llm"), choice, tmp_path / "cache")


def test_what_was_believed_is_compared_behind_the_family(tmp_path: Path) -> None:
    """A disk that changes bytes by itself, told from the other side: the digest that is kept is not the file's."""
    folder, cache = write_text_model(tmp_path / "text", "llama"), tmp_path / "cache"
    choice = ModelChoice("text-llm", folder, threads=1, accept_use_limits=True)

    def opened() -> GuardedFamily:
        family = open_family(show("text-llm"), choice, cache)
        assert isinstance(family, GuardedFamily)
        family.check.wait(60.0)
        return family

    with opened() as family:
        parts = family.parts
    kept, file = cache / KEPT_FILE, folder / "model.safetensors"
    with opened() as family:
        assert family.answer([], []) == []
    stored = json.loads(kept.read_text())
    stored[str(file)][1] = "0" * 64
    kept.write_text(json.dumps(stored))
    with opened() as family:
        for verb in (lambda: family.answer([], []), lambda: family.encode([])):
            with pytest.raises(StopRun, match=r"model\.safetensors was read again and is not what it was"):
                verb()
    assert str(file) not in json.loads(kept.read_text())
    with opened() as family:
        assert family.parts == parts
        assert family.answer([], []) == []


def test_a_file_that_was_exchanged_or_removed_meanwhile_is_no_fault(tmp_path: Path) -> None:
    file, gone = tmp_path / "model.safetensors", tmp_path / "gone.safetensors"
    file.write_bytes(b"weights")
    wrong = Believed("0" * 64, (0, 0, 0, 0, 0))
    check = KeptCheck({gone: wrong, file: wrong}, tmp_path)
    check.wait(60.0)
    check.refuse()
    KeptCheck({}, tmp_path).close()
