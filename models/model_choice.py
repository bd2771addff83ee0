"""What a site chose for one model: the family, its weights or server, and how it runs.

A new setting of a model is a field of the site's table and of ``ModelChoice``, and of nothing between them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from models.catalog import CatalogEntry
from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """One server. Times in seconds; ``total_timeout`` bounds one request with all its retries.

    ``model`` is the name that the server knows. ``json_schema`` says that it accepts ``response_format`` with a JSON
    Schema (vLLM, SGLang and TensorRT-LLM do, transformers serve refuses it). ``special_tokens`` asks for them in the
    text, which families that write boxes by them need and transformers serve does not know. ``max_side`` is the longest
    side, in pixels, of an image that is sent. ``stream`` asks for the answer as it is written, so that ``read_timeout``
    bounds a silence and not the whole answer. ``burned_in`` is what is done with text in the pixels of a film: "refuse"
    to send it, "mask" the text, or "send" it.
    """

    url: str
    model: str
    api_key: str = field(default="", repr=False)
    connect_timeout: float = 10.0
    read_timeout: float = 120.0
    total_timeout: float = 300.0
    attempts: int = 4
    concurrency: int = 4
    ca_file: Path | None = None
    max_tokens: int = 1024
    max_side: int = 1024
    seed: int = 0
    burned_in: str = "refuse"
    json_schema: bool = False
    special_tokens: bool = False
    stream: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigurationError for what cannot be a server."""
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            credentials = "@" in parts.netloc
        except ValueError:
            sound = credentials = False
        if not sound:
            raise ConfigurationError("endpoint-url", "endpoint.url is not an http or https address")
        if credentials or parts.query or parts.fragment:
            message = (
                "endpoint.url holds a user name, a query or a fragment: put a secret in endpoint.api_key"
            )
            raise ConfigurationError("endpoint-url", message)
        if self.api_key and (not self.api_key.isascii() or not self.api_key.isprintable()):
            raise ConfigurationError(
                "endpoint-key", "endpoint.api_key holds characters no HTTP header can carry"
            )
        if not self.model:
            raise ConfigurationError(
                "endpoint-model", "endpoint.model is empty: name the model that is served"
            )


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One [model] or [models.NAME] table.

    ``id`` is the catalogue's name; ``weights`` the folder of weights, None for those that ship with us; ``revision``
    the commit of the weights if it is not the catalogue's; ``sha256`` pins the folder (``models.pin``). ``threads`` 0
    takes every core; ``precision`` is "auto", "fp32", "bf16", "int8" or "int4". ``endpoint`` is the server that answers
    instead of weights here. ``report`` names the wording that drafts are asked by, ``impression`` who writes the
    Impression that they lack (``models.drafting.draft_plan``).
    """

    id: str
    weights: Path | None = None
    require_runner: str = ""
    threads: int = 0
    revision: str = ""
    accept_use_limits: bool = False
    precision: str = "auto"
    sha256: str = ""
    endpoint: EndpointOptions | None = None
    report: str = ""
    impression: str = ""

    def folder(self, entry: CatalogEntry) -> Path:
        """The weights folder. Raises ConfigurationError if the site has to bring one and did not."""
        folder = self.weights or entry.weights_folder
        if folder is None:
            source = entry.repositories.get("*", "")
            message = (
                f"{entry.id} needs a folder of weights{f' ({source})' if source else ''}: set model.weights"
            )
            raise ConfigurationError("weights-folder", message)
        return folder
