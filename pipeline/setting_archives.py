"""The tables ``[archives.NAME]``: where studies come from, what is trusted of their headers, and how long is waited."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.setting_addresses import refuse_clear_secrets
from pipeline.setting_lists import RuleSettings, Table

_CONVERSION_TYPES = frozenset({"DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"})


class ArchiveTrust(Table):
    """What a site knows of an archive's films and their headers leave out; it never speaks against a header."""

    conversion_types: tuple[str, ...] = Field(
        default=(),
        description="Conversion Types (0008,0064) of secondary captures that are films here, beside DF and DI",
    )
    missing_body_part: Literal["", "chest"] = Field(
        default="", description="stands where no field of a header names a body part"
    )
    missing_view: Literal["", "PA", "AP"] = Field(
        default="", description="stands where no field of a header names a view"
    )

    @field_validator("conversion_types")
    @classmethod
    def _known_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - _CONVERSION_TYPES):
            known = ", ".join(sorted(_CONVERSION_TYPES))
            raise ValueError(f"{unknown[0]!r} is no Conversion Type (PS3.3 C.8.6.1): {known}")
        return tuple(sorted(set(value)))


class RetrievalLimits(Table):
    """Limits every archive shares. Times are in seconds and restart with every sign of progress."""

    connect_timeout: float = Field(default=10.0, gt=0)
    stall_timeout: float = Field(default=60.0, gt=0)
    attempts: int = Field(
        default=3, ge=1, description="tries of one study before its gap is recorded or it fails"
    )
    concurrency: int = Field(default=2, ge=1, le=32, description="studies retrieved at the same time")
    patience: float = Field(
        default=30.0, ge=0, description="how long a query waits for an archive that is busy or away"
    )
    trust: ArchiveTrust = ArchiveTrust()
    rules: tuple[RuleSettings, ...] = Field(
        default=(),
        max_length=200,
        description="what instances are whose headers say it wrongly; the first that holds",
    )
    undated_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        description="a sweep that goes on by days asks so often without any, for studies that have no date; 0 never",
    )
    time_zone: str = Field(default="UTC", description="IANA zone in which the archive dates its studies")
    modalities: tuple[str, ...] = Field(
        default=(),
        description="only studies with one of these in Modalities in Study are looked for; all where empty",
    )
    min_free_gib: float = Field(default=2.0, ge=0, description="retrieval stops below this much free disk")
    max_instance_gib: float = Field(default=4.0, gt=0, description="an instance larger than this is refused")

    @field_validator("modalities")
    @classmethod
    def _defined_terms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """As DICOM writes a Modality: a code string of at most 16 characters (PS3.5 6.2)."""
        if wrong := [one for one in value if not re.fullmatch(r"[A-Z0-9_]{1,16}", one)]:
            raise ValueError(
                f"holds {len(wrong)} that no Modality can be: write them as DICOM does, CR or DX"
            )
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no time zone that this machine knows, such as America/New_York") from None
        return value


class DicomwebArchive(RetrievalLimits):
    """A DICOMweb archive (PS3.18): QIDO-RS and WADO-RS under one base URL."""

    kind: Literal["dicomweb"]
    url: str
    token: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    ca_file: Path | None = None
    plain_http: bool = Field(
        default=False, description="the secret may go over plain http to another machine"
    )
    page_size: int = Field(default=200, ge=1, le=5000)
    redirect_origins: tuple[str, ...] = Field(
        default=(), description="further servers that the archive may redirect to; they get no credentials"
    )

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.token.get_secret_value() and (self.username or self.password.get_secret_value()):
            raise ValueError("set token, or username and password, not both: one of them would be ignored")
        refuse_clear_secrets(self.url, self.plain_http, self.token, self.password)
        return self


class DimseArchive(RetrievalLimits):
    """A DIMSE archive (PS3.4 Annex C). ``move_port`` is where our Storage SCP listens; 0 takes a free port."""

    kind: Literal["dimse"]
    host: str
    port: int = Field(ge=1, le=65535)
    ae_title: str = Field(min_length=1, max_length=16)
    calling_ae_title: str = Field(default="FIRSTREAD", min_length=1, max_length=16)
    retrieve: Literal["move", "get"] = "move"
    move_host: str = "127.0.0.1"
    move_port: int = Field(default=11113, ge=0, le=65535)


class FolderArchive(RetrievalLimits):
    """A folder of DICOM files, read recursively."""

    kind: Literal["folder"]
    path: Path


ArchiveSettings = Annotated[DicomwebArchive | DimseArchive | FolderArchive, Field(discriminator="kind")]
