"""Open the family that a catalogue entry names.

``ADAPTERS`` says where each adapter lives. Its module is imported only when a family of it is opened, so that others do
not pay for torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from models.catalog import ENDPOINT_ADAPTER, CatalogEntry, State
from models.families.guarded import GuardedFamily
from models.family import Family
from models.model_choice import ModelChoice
from models.weight_loading.kept_check import KeptCheck
from models.weight_loading.kept_digests import Believed, keeping_digests
from models.weight_loading.memory import QUANTISED, explaining_out_of_memory
from pipeline.errors import ConfigurationError

ADAPTERS = {
    "firstread-mini": "models.families.mini.mini_family:open_mini",
    "uni-med": "models.families.uni_med.uni_med_family:open_uni_med",
    "causal-lm": "models.families.text.text_family:open_text",
    "internvl": "models.families.native.chat:open_medrega",
    "internvl3": "models.families.native.internvl:open_internvl",
    "llava": "models.families.native.chat:open_llava_med",
    "llava-onevision": "models.families.native.onevision:open_onevision",
    "gemma3": "models.families.native.medgemma_family:open_medgemma",
    "biomedclip": "models.families.native.biomedclip:open_biomedclip",
    "qwen2-vl": "models.families.native.qwen:open_qwen",
    "qwen2.5-vl": "models.families.native.qwen:open_qwen",
    "qwen3-vl": "models.families.native.qwen:open_qwen",
    "nnunet": "models.families.segmenting.segmenter:open_segmenter",
    "openai-endpoint": "models.families.endpoint.endpoint_family:open_endpoint",
}
"""Module and function of each adapter."""
Opener = Callable[[CatalogEntry, ModelChoice, Path], Family]
"""Takes the entry, the site's choice and the folder for graphs and engines; returns the loaded family."""
REDUCING = frozenset(
    {
        "causal-lm",
        "uni-med",
        "internvl",
        "internvl3",
        "llava",
        "llava-onevision",
        "gemma3",
        "qwen2-vl",
        "qwen2.5-vl",
        "qwen3-vl",
    }
)
"""Adapters that load a language model at the precision that a site chose."""


def open_family(entry: CatalogEntry, choice: ModelChoice, cache: Path, *, read_all: bool = False) -> Family:
    """The loaded family; ``cache`` keeps its graphs, its engines and the digests of weights that have not changed.

    ``read_all`` reads all weights again to name them, whatever is kept.

    Raises ConfigurationError for a family that cannot run here or whose limits of use are not accepted, StopRun
    for unsound weights or an unmet runner.
    """
    check_use_limits(entry, choice)
    adapter = ENDPOINT_ADAPTER if choice.endpoint is not None else entry.adapter
    opener = find_opener(entry, adapter)
    if adapter != ENDPOINT_ADAPTER and not entry.weights:
        refuse_unread_precision(entry, choice.precision)
        with keeping_digests(cache, read_all=read_all) as believed:
            return _open_brought(entry, choice, cache, opener, believed)
    return opener(entry, choice, cache)


def _open_brought(
    entry: CatalogEntry, choice: ModelChoice, cache: Path, opener: Opener, believed: Mapping[Path, Believed]
) -> Family:
    from models.families.checked_weights import check_brought  # torch is asked what memory is free

    brought = check_brought(
        entry,
        choice.folder(entry),
        precision=choice.precision,
        sha256=choice.sha256,
        runner=choice.require_runner,
    )
    with explaining_out_of_memory(entry.id, brought.need, brought.free):
        family = opener(entry, choice, cache)
    return GuardedFamily(family, brought.need, brought.free, KeptCheck(believed, cache))


def check_use_limits(entry: CatalogEntry, choice: ModelChoice) -> None:
    """Raises ConfigurationError where the family may not be opened: not for archives, or limits not accepted."""
    if entry.state is State.NOT_FOR_ARCHIVES:
        raise ConfigurationError("not-for-archives", f"{entry.id} is not run here: {entry.reason}")
    if entry.acknowledge and not choice.accept_use_limits:
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


def find_opener(entry: CatalogEntry, adapter: str) -> Opener:
    """The function that opens ``adapter`` for the entry. Raises ConfigurationError where there is none."""
    try:
        place = ADAPTERS[adapter]
    except KeyError:
        message = f"{entry.id} names the adapter {adapter!r}, which this version does not have"
        raise ConfigurationError("unknown-adapter", message) from None
    return cast("Opener", find_function(place))


def find_function(place: str) -> object:
    """The function of a "module:function", whose module is imported now."""
    module, _, function = place.partition(":")
    found: object = getattr(import_module(module), function)
    return found
