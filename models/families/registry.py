"""Open the family that a catalogue entry names.

``ADAPTERS`` says where each adapter lives. Its function takes the entry and the options and gives the loaded
family; the module is imported only when a family of it is opened, so that others do not pay for torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from models.catalog import ENDPOINT_ADAPTER, CatalogEntry, State
from models.families.endpoint.options import EndpointOptions
from models.families.guarded import GuardedFamily
from models.family import Family
from models.weight_loading.memory import QUANTISED, explaining_out_of_memory
from pipeline.errors import ConfigurationError

ADAPTERS = {
    "firstread-mini": "models.families.mini.mini_family:open_mini",
    "uni-med": "models.families.uni_med.uni_med_family:open_uni_med",
    "causal-lm": "models.families.text.text_family:open_text",
    "internvl": "models.families.native.chat:open_medrega",
    "llava": "models.families.native.chat:open_llava_med",
    "gemma3": "models.families.native.chat:open_medgemma",
    "biomedclip": "models.families.native.biomedclip:open_biomedclip",
    "qwen2-vl": "models.families.native.qwen:open_qwen",
    "qwen2.5-vl": "models.families.native.qwen:open_qwen",
    "openai-endpoint": "models.families.endpoint.endpoint_family:open_endpoint",
}
"""Module and function of each adapter."""
REDUCING = frozenset({"causal-lm", "uni-med", "internvl", "llava", "gemma3", "qwen2-vl", "qwen2.5-vl"})
"""Adapters that load a language model at the precision that a site chose."""


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """What a site chose for one family.

    ``weights`` is the folder of weights, None for those that ship with us; ``cache`` keeps graphs and engines;
    ``revision`` is the commit of the weights where it is not the catalogue's. ``precision`` is "auto", "fp32", "bf16",
    "int8" or "int4". ``sha256`` pins the folder (``models.pin``). ``endpoint`` is the server that answers instead.
    """

    weights: Path | None
    cache: Path
    require_runner: str = ""
    threads: int = 0
    revision: str = ""
    accept_use_limits: bool = False
    precision: str = "auto"
    sha256: str = ""
    endpoint: EndpointOptions | None = None

    def folder(self, entry: CatalogEntry) -> Path:
        """The weights folder. Raises ConfigurationError where the site has to bring one and did not."""
        folder = self.weights or entry.weights_folder
        if folder is None:
            source = entry.repositories.get("*", "")
            message = (
                f"{entry.id} needs a folder of weights{f' ({source})' if source else ''}: set model.weights"
            )
            raise ConfigurationError("weights-folder", message)
        return folder


def open_family(
    entry: CatalogEntry,
    weights: Path | None,
    cache: Path,
    *,
    require_runner: str = "",
    threads: int = 0,
    revision: str = "",
    accept_use_limits: bool = False,
    precision: str = "auto",
    sha256: str = "",
    endpoint: EndpointOptions | None = None,
) -> Family:
    """The loaded family; ``weights`` None takes the ones that ship with us, ``revision`` "" the catalogue's.

    Raises ConfigurationError for a family that cannot run here or whose limits of use are not accepted, StopRun
    for unsound weights or an unmet runner.
    """
    options = OpenOptions(
        weights,
        cache,
        require_runner,
        threads,
        revision,
        accept_use_limits,
        precision,
        sha256,
        endpoint,
    )
    check_use_limits(entry, options)
    adapter = ENDPOINT_ADAPTER if endpoint is not None else entry.adapter
    opener = find_opener(entry, adapter)
    if adapter != ENDPOINT_ADAPTER and not entry.weights:
        refuse_unread_precision(entry, precision)
        from models.families.checked_weights import check_brought  # torch is asked what memory is free

        brought = check_brought(entry, options.folder(entry), precision=precision, sha256=sha256)
        with explaining_out_of_memory(entry.id, brought.need, brought.free):
            return GuardedFamily(opener(entry, options), brought.need, brought.free)
    return opener(entry, options)


def check_use_limits(entry: CatalogEntry, options: OpenOptions) -> None:
    """Raises ConfigurationError where the family may not be opened: not for archives, or limits not accepted."""
    if entry.state is State.NOT_FOR_ARCHIVES:
        raise ConfigurationError("not-for-archives", f"{entry.id} is not run here: {entry.reason}")
    if entry.acknowledge and not options.accept_use_limits:
        message = (
            f"{entry.id} has limits of use ({entry.licence}): {entry.use_limits} Where this site keeps them, set "
            "`accept_use_limits = true` in the table of the model"
        )
        raise ConfigurationError("use-limits", message)


def refuse_unread_precision(entry: CatalogEntry, precision: str) -> None:
    """Raises ConfigurationError where an adapter is asked for a precision that it does not load: nothing is ignored."""
    if entry.adapter not in REDUCING and precision in tuple(QUANTISED):
        message = f"{entry.id} has no language model to hold in {precision}: set model.precision to auto"
        raise ConfigurationError("precision", message)


def find_opener(entry: CatalogEntry, adapter: str) -> Callable[[CatalogEntry, OpenOptions], Family]:
    """The function that opens ``adapter`` for the entry. Raises ConfigurationError where there is none."""
    try:
        place = ADAPTERS[adapter]
    except KeyError:
        message = f"{entry.id} names the adapter {adapter!r}, which this version does not have"
        raise ConfigurationError("unknown-adapter", message) from None
    return cast("Callable[[CatalogEntry, OpenOptions], Family]", find_function(place))


def find_function(place: str) -> object:
    """The function of a "module:function", whose module is imported now."""
    module, _, function = place.partition(":")
    found: object = getattr(import_module(module), function)
    return found
