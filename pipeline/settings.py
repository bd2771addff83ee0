"""Settings: ``firstread.toml`` and ``FIRSTREAD_*`` variables, read once, passed on as values.

Unknown keys are refused. A variable names a key with double underscores between levels
(``FIRSTREAD_DATABASE__URL``); variables win over the file. This module alone reads the environment.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from pipeline.errors import ConfigurationError
from pipeline.setting_addresses import database_url_fault, refuse_clear_secrets
from pipeline.setting_archives import ArchiveSettings
from pipeline.setting_lists import KnowledgeSettings, RouteSettings, Table, TaskSettings
from pipeline.setting_names import PREFIX, explain, refuse_unknown_variables

DEFAULT_FILE = Path("firstread.toml")


class DatabaseSettings(Table):
    """Where Postgres is. An empty ``url`` means the embedded Postgres under ``data_dir``.

    ``migration_url`` is the login of ``db upgrade``, ``serve_url`` that of ``serve``: each ``url`` where not set.
    """

    url: SecretStr = SecretStr("")
    migration_url: SecretStr = SecretStr("")
    serve_url: SecretStr = SecretStr("")

    @field_validator("url", "migration_url", "serve_url")
    @classmethod
    def _postgres(cls, value: SecretStr) -> SecretStr:
        if (url := value.get_secret_value()) and (wrong := database_url_fault(url)):
            raise ValueError(wrong)
        return value


class EndpointSettings(Table):
    """An OpenAI-compatible server that answers for a model. Times are in seconds."""

    url: str = Field(min_length=1, description="base address, with /v1 or without")
    model: str = Field(min_length=1, description="the name that the server knows the model by")
    api_key: SecretStr = SecretStr("")
    ca_file: Path | None = None
    plain_http: bool = Field(default=False, description="the key may go over plain http to another machine")
    connect_timeout: float = Field(default=10.0, gt=0)
    read_timeout: float = Field(default=120.0, gt=0)
    total_timeout: float = Field(default=300.0, gt=0, description="one request with all its retries")
    attempts: int = Field(default=4, ge=1, le=20)
    concurrency: int = Field(default=4, ge=1, le=256, description="requests on their way at the same time")
    max_tokens: int = Field(default=1024, ge=1)
    max_side: int = Field(
        default=1024, ge=64, le=8192, description="longest side of an image that is sent, pixels"
    )
    seed: int = 0
    burned_in: Literal["refuse", "mask", "send"] = Field(
        default="refuse",
        description="a film with text in its pixels, by its header or by its look: keep it here, black the text out "
        "where it is found, or send it, where the server lies inside the house",
    )
    json_schema: bool = Field(
        default=False,
        description="the server takes response_format with a JSON Schema (transformers serve does not)",
    )
    special_tokens: bool = Field(
        default=False,
        description="ask for special tokens in the text (vLLM, SGLang): MedRegA and UMIT write boxes by them",
    )
    stream: bool = Field(
        default=False,
        description="ask for the answer as it is written (vLLM, SGLang, TensorRT-LLM): read_timeout then bounds a "
        "silence, not the whole answer",
    )

    @model_validator(mode="after")
    def _secret_is_covered(self) -> Self:
        refuse_clear_secrets(self.url, self.plain_http, self.api_key)
        return self


class ModelSettings(Table):
    """Which family drafts. ``require_runner`` makes any other encoder runner a StopRun."""

    id: str = "firstread-mini"
    weights: Path | None = Field(
        default=None, description="folder of the weights; those that ship where not set"
    )
    require_runner: Literal[
        "", "tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-cpu", "openvino-cpu", "torch"
    ] = ""
    encode_batch: int = Field(default=8, ge=1, le=256)
    generate_batch: int = Field(default=32, ge=1, le=256)
    threads: int = Field(default=0, ge=0, description="CPU threads of the runners; 0 takes every core")
    revision: str = Field(default="", description="commit of the weights, where it is not the catalogue's")
    accept_use_limits: bool = Field(
        default=False,
        description="this site has read the licence and the limits of use of the weights, and keeps them",
    )
    precision: Literal["auto", "fp32", "bf16", "int8", "int4"] = Field(
        default="auto",
        description="auto: fp32 on a CPU, bf16 on a GPU; int8 of firstread-mini is its encoder on a CPU, "
        "8 and 4 bits of others need bitsandbytes",
    )
    sha256: str = Field(
        default="", pattern="^([0-9a-f]{64})?$", description="digest of the weights folder's SHA256SUMS"
    )
    report: str = Field(
        default="",
        description="the wording that drafts are asked by (models list); the usual one where not set",
    )
    impression: str = Field(
        default="",
        description="who writes the Impression that a report lacks: a [models.NAME], or none; itself where it can",
    )
    endpoint: EndpointSettings | None = Field(
        default=None, description="the server that answers instead of weights on this machine"
    )


class PolicySettings(Table):
    """Choices a site makes about drafts."""

    draft_status: Literal["partial", "preliminary"] = "partial"
    language: Literal["en", "zh"] = "en"
    organization: str = Field(default="Firstread site", min_length=1, description="performer of the report")
    identifier_system: str = Field(
        default="urn:firstread:site", min_length=1, description="base of local identifier systems"
    )
    grace_minutes: float = Field(
        default=30.0, ge=0, description="how long a short study waits before its gap is recorded"
    )
    retry_minutes: float = Field(
        default=5.0, ge=0, description="first back-off of a study that failed; doubles"
    )
    max_attempts: int = Field(default=5, ge=1)
    lease_seconds: float = Field(default=300.0, gt=0)
    priors: Literal["off", "last"] = Field(
        default="off",
        description="give the model the patient's last earlier study of this archive to compare with",
    )
    segmentations: Literal["binary", "labelmap"] = Field(
        default="binary", description="how masks are written; labelmap is smaller and newer"
    )


class ListenSettings(Table):
    """The Storage SCP for PACS-triggered studies."""

    host: str = "127.0.0.1"
    port: int = Field(default=11112, ge=0, le=65535)
    ae_title: str = Field(default="FIRSTREAD", min_length=1, max_length=16)
    archive: str = Field(
        default="main", description="the archive whose own count decides that a study is complete"
    )
    senders: tuple[str, ...] = Field(
        default=(),
        description='who may send: AE titles, networks, or both as "AE@network"; this machine alone where empty',
    )
    quiet_seconds: float = Field(default=10.0, gt=0)
    keep_days: int = Field(
        default=30,
        ge=0,
        description="how long drafted instances that no archive has stay in the inbox, for late images",
    )
    min_free_gib: float = Field(default=2.0, ge=0)


class ServeSettings(Table):
    """The review page and FHIR REST. Off loopback and behind a proxy a token is demanded.

    Behind a TLS proxy ``public_url`` is the address that clients use, for every link; or what the ``trusted_proxies``
    (IP addresses or networks) say by X-Forwarded-Proto, -Host, -Prefix and -For, or by Forwarded, is believed. So is
    the person whom they name in ``person_header``, for the audit.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    token: SecretStr = SecretStr("")
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    person_header: str = ""
    viewer_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s\"'<>]*\{study\}[^\s\"'<>]*)?$",
        description="the site's viewer, with {study} for the Study Instance UID",
    )


class PrefectSettings(Table):
    """With neither ``api_url`` nor PREFECT_API_URL a run is recorded in the ledger alone."""

    api_url: str = ""
    failed_studies: Literal["completed", "failed"] = Field(
        default="completed",
        description="the state of a run in which studies failed; its message has the counts",
    )


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="FIRSTREAD_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data_dir: Path = Path("./firstread-data")
    database: DatabaseSettings = DatabaseSettings()
    archives: dict[str, ArchiveSettings] = Field(default_factory=dict)
    model: ModelSettings = ModelSettings()
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    tasks: tuple[TaskSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    knowledge: tuple[KnowledgeSettings, ...] = ()
    policy: PolicySettings = PolicySettings()
    listen: ListenSettings = ListenSettings()
    serve: ServeSettings = ServeSettings()
    prefect: PrefectSettings = PrefectSettings()

    @field_validator("knowledge")
    @classmethod
    def _named_once(cls, value: tuple[KnowledgeSettings, ...]) -> tuple[KnowledgeSettings, ...]:
        if len({one.name for one in value}) < len(value):
            raise ValueError("two tables have one name")
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables before the file (which arrives as init values)."""
        return env_settings, init_settings


def load(config: Path | None = None) -> Settings:
    """Read ``config``, or ``firstread.toml`` in the working directory where there is one, and the variables.

    Raises ConfigurationError with the key at fault and the one that was meant; values are never repeated, they may be
    secrets.
    """
    path = config if config is not None else DEFAULT_FILE
    values: dict[str, Any] = {}
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise ConfigurationError("configuration", f"{path}: cannot be read as TOML ({error})") from None
    elif config is not None:
        raise ConfigurationError("configuration", f"{path}: no such file; name one with --config")
    if wrong := refuse_unknown_variables(Settings, os.environ):
        raise ConfigurationError("configuration", wrong)
    try:
        return Settings(**values)
    except ValidationError as error:
        read = f"{path}: " if values else ""
        raise ConfigurationError("configuration", read + explain(error, Settings, os.environ)) from None
    except SettingsError as error:  # a variable for a table or a list whose text is not JSON
        raise ConfigurationError("configuration", f"FIRSTREAD_* variables: {error}") from None


def archive_named(settings: Settings, name: str) -> ArchiveSettings:
    """The archive called ``name``. Raises ConfigurationError naming the ones there are."""
    try:
        return settings.archives[name]
    except KeyError:
        known = ", ".join(sorted(settings.archives)) or "none"
        raise ConfigurationError(
            "unknown-archive", f"no [archives.{name}] in the configuration (configured: {known})"
        ) from None


def model_named(settings: Settings, name: str) -> ModelSettings:
    """The further model called ``name``. Raises ConfigurationError naming the ones there are."""
    try:
        return settings.models[name]
    except KeyError:
        known = ", ".join(sorted(settings.models)) or "none"
        raise ConfigurationError(
            "unknown-model", f"no [models.{name}] in the configuration (configured: {known})"
        ) from None


def environment() -> Mapping[str, str]:
    """The process environment, for the few callers that start other programs; settings of ours, which may be secrets,
    are left out."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}


def export(variables: Mapping[str, str]) -> None:
    """Set variables that a library reads at import, where the user has not set them."""
    for key, value in variables.items():
        os.environ.setdefault(key, value)
