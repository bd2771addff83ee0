"""The tables of the configuration that a site may write several times: [[tasks]], [[routes]], [[archives.X.rules]]."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Table(BaseModel):
    """A table of the configuration file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskSettings(Table):
    """One [[tasks]] table: what is asked of every study beside its report.

    ``questions``, ``targets``: one answer each. ``labels``: the classes to choose among (classify), or what to speak of
    (grounded_report). ``options`` close a question. ``schema_file`` is a JSON Schema. ``variant`` is another wording
    that the model has for the task. ``model`` names a [models.NAME] table that answers instead of the one that drafts.
    """

    task: str = Field(min_length=1)
    questions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    schema_file: Path | None = None
    language: Literal["", "en", "zh"] = Field(default="", description="the policy's where not set")
    modalities: tuple[str, ...] = Field(
        default=(), description="only studies with one of these; all where empty"
    )
    model: str = ""
    variant: str = ""
    name_set: str = Field(
        default="", description="ready labels or targets instead of your own (docs/tasks.md)"
    )

    @field_validator("questions", "labels", "options", "targets", "modalities")
    @classmethod
    def _words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        trimmed = tuple(one.strip() for one in value)
        if not all(trimmed) or len(set(trimmed)) < len(trimmed):
            raise ValueError("holds an empty word or one twice")
        return trimmed


class RuleVerdict(Table):
    """What a rule says that an instance is; at least one of them."""

    modality: str = Field(default="", pattern="^([A-Z]{2,16})?$")
    body_part: str = Field(default="", pattern="^([A-Z]{2,16})?$", description="a term of Body Part Examined")
    view: Literal["", "PA", "AP", "LL", "RL", "CC", "MLO", "ML", "LM"] = ""
    laterality: Literal["", "L", "R", "B"] = ""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any(self.model_dump(exclude_defaults=True).values()):
            raise ValueError(
                'says nothing: name modality, body_part, view or laterality, or write "leave-out"'
            )
        return self


class RuleSettings(Table):
    """One [[archives.X.rules]] table: what instances are whose header says it wrongly or not at all.

    ``when`` holds attributes by keyword and what their value must be ("*" and "?" stand for any letters, "" for
    absent). ``then`` is "leave-out", or what the instance is: modality, body_part, view, laterality. The first rule of
    an archive whose comparisons all hold decides.
    """

    when: dict[str, str] = Field(max_length=16)
    then: Literal["leave-out"] | RuleVerdict

    @field_validator("when")
    @classmethod
    def _keywords(cls, value: dict[str, str]) -> dict[str, str]:
        if not value:
            raise ValueError('names no attribute to compare, such as StudyDescription = "*SCREEN*"')
        if wrong := [key for key in value if not re.fullmatch(r"[A-Z][A-Za-z0-9]{1,63}", key)]:
            raise ValueError(f"{wrong[0][:64]!r} is no attribute's keyword (PS3.6), such as StudyDescription")
        return value

    @property
    def says(self) -> dict[str, str]:
        """What stands instead of the header; nothing where the instance is left out."""
        return {} if isinstance(self.then, str) else self.then.model_dump(exclude_defaults=True)


class RouteSettings(Table):
    """One [[routes]] table: studies that are no films of the chest are drafted by the model of [models.NAME].

    ``modalities`` as DICOM names them. A study of another modality, and every film of the chest, is the [model]'s.
    """

    modalities: tuple[str, ...] = Field(min_length=1)
    model: str = Field(min_length=1)

    @field_validator("modalities")
    @classmethod
    def _upper(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(one.strip().upper() for one in value)
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("holds an empty word or one twice")
        return names


class KnowledgeSettings(Table):
    """One [[knowledge]] table: a folder of text, CSV or FHIR medication resources that questions are answered from."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,39}$")
    path: Path
    encoding: Literal["utf-8", "gb18030"] = Field(
        default="utf-8", description="of files that begin with no mark of their encoding"
    )
