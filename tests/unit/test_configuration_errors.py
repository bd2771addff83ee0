"""What a person is told who mistyped a configuration: the key as in the file, the one that was meant, never a value."""

import tomllib
from pathlib import Path

import pytest

from pipeline import setting_names
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings, load

RELEASED = Path(__file__).with_name("golden") / "settings_of_0_1_0.toml"
"""Every key of the last release, as its pydantic models had them."""


def refusal(text: str, folder: Path) -> str:
    """The message of the error that a file with this text is refused with."""
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert caught.value.message.count(str(path)) == 1
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[polcy]\nlanguage = "en"', "polcy: unknown key: did you mean policy?"),
        ('[policy]\nlangage = "en"', "policy.langage: unknown key: did you mean language?"),
        ('language = "zh"', "language: unknown key here: did you mean policy.language?"),
        ('[model]\nlanguage = "zh"', "model.language: unknown key here: did you mean policy.language?"),
        ("[policy]\nxyzzy = 1", "policy.xyzzy: unknown key; known here: draft_status, grace_minutes"),
        (
            '[archives.ct]\nkind = "dimse"\nhost = "h"\nport = "x"\nae_title = "A"',
            "archives.ct.port: must be a valid integer",
        ),
        ('[archives.ct]\nkind = "dimse"\nhost = "h"\nport = 1\nae_titel = "A"', "did you mean ae_title?"),
        ('[archives.ct]\nkind = "dimze"', "archives.ct: kind must be one of 'dicomweb', 'dimse', 'folder'"),
        ('[archives.ct]\npath = "x"', "archives.ct: kind must be one of dicomweb, dimse, folder"),
        (
            '[[tasks]]\ntask = "vqa"\n[[tasks]]\ntaks = "vqa"',
            "[[tasks]] number 2: taks: unknown key: did you",
        ),
        ('[models.a]\nid = "x"\n[models.a.endpoint]\nurl = "h"\nmodell = "m"', "models.a.endpoint.modell:"),
        (
            '[archives.w]\nkind = "dicomweb"\nurl = "https://h"\ntoken = "SECRET"\nusername = "u"',
            "archives.w: set token, or username and password, not both",
        ),
        ('policy = "x"', "policy: must be a table"),
        (
            '[archives.w]\nkind = "folder"\npath = "x"\n[[archives.w.rules]]\nwhen = {Modality = "OT"}\nthen = "skip"',
            "[[archives.w.rules]] number 1: then: must be 'leave-out'",
        ),
        (
            '[archives.w]\nkind = "folder"\npath = "x"\n[[archives.w.rules]]\nwhen = {}\nthen = "leave-out"',
            "[[archives.w.rules]] number 1: when: names no attribute to compare",
        ),
        ('[database]\nurl = "mysql://fr:SECRET@h/d"', "database.url: is no address of a Postgres database"),
        ('[database]\nurl = "postgresql://fr:SEC#RET@h/d"', "database.url: cannot be read as an address"),
        ('[database]\nurl = "postgresql://fr:SEC%RET@h/d"', "database.url: cannot be read as an address"),
        ('[database]\nurl = "postgresql://fr:SECRET@h:x/d"', "database.url: cannot be read as an address"),
    ],
)
def test_a_fault_is_named_as_in_the_file(text: str, words: str, tmp_path: Path) -> None:
    said = refusal(text, tmp_path)
    assert words in said
    assert "SEC" not in said
    assert "dimse.port" not in said


@pytest.mark.parametrize(
    "url", ["postgresql://u:p%40x@h:5432/d", "postgres://h/d", "postgresql:///d?host=/run"]
)
def test_addresses_of_postgres_are_taken(url: str) -> None:
    assert Settings(database={"url": url}).database.url.get_secret_value() == url  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("FIRSTREAD_ARCHIVE__MAIN__URL", "did you mean FIRSTREAD_ARCHIVES__MAIN__URL?"),
        (
            "FIRSTREAD_POLICY__LANGAGE",
            "FIRSTREAD_POLICY__LANGAGE (policy.langage): unknown key: did you mean",
        ),
        ("FIRSTREAD_XYZZY", "the variable FIRSTREAD_XYZZY names no setting"),
        ("FIRSTREAD_TASKS", "FIRSTREAD_* variables"),
    ],
)
def test_a_mistyped_variable_is_refused(
    variable: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "SECRET{")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert words in caught.value.message
    assert "SECRET" not in caught.value.message


def test_every_key_of_the_last_release_is_taken_or_said_to_have_moved(tmp_path: Path) -> None:
    """A configuration of 0.1.0 works, or its error names the new key."""
    released = tomllib.loads(RELEASED.read_text(encoding="utf-8"))
    try:
        Settings(**released)
    except ValueError:
        said = refusal(RELEASED.read_text(encoding="utf-8"), tmp_path)
        assert "unknown key" not in said
        assert "has moved: it is" in said


def test_a_moved_key_is_answered_with_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_names, "MOVED", {"policy.langage": "policy.language"})
    assert "policy.langage: this setting has moved: it is policy.language now" in refusal(
        '[policy]\nlangage = "en"', tmp_path
    )
