"""The tables of the configuration that a site may write several times: [[tasks]] and [[routes]]."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


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

    @field_validator("questions", "labels", "options", "targets", "modalities")
    @classmethod
    def _words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        trimmed = tuple(one.strip() for one in value)
        if not all(trimmed) or len(set(trimmed)) < len(trimmed):
            raise ValueError("holds an empty word or one twice")
        return trimmed


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
