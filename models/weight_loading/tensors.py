"""Weights of a published folder, read tensor by tensor: each is read, converted and let go.

safetensors and transformers map weight files into memory by default, and every page that was read stays with the
process until its file is closed: a checkpoint stored in 16 bits and held in 32 then takes half as much again. Read
one by one, the weights are in memory once, and a file that is changed afterwards changes nothing.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.weight_loading.memory import give_back_memory
from models.weight_loading.placement import Placing
from models.weight_loading.weight_files import INDEX_SUFFIX, read_index
from pipeline.errors import StopRun

LayOut = Callable[[Any, Any], Collection[str]]
"""Takes a network without memory and its stored tensors by name, lays some out itself and gives their names."""
WEIGHTS_FILE = "model.safetensors"
GENERATION_FILE = "generation_config.json"
STORED_AS_HELD = frozenset(
    {"llama", "qwen2", "gemma2", "bloom", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "llava", "llava_onevision",
     "internvl"}
)  # fmt: skip
"""Kinds of model whose published tensors have the form of the network's own, but for names and for what is tied."""
NOTHING_AMISS: Any = MappingProxyType(
    {"missing_keys": (), "unexpected_keys": (), "mismatched_keys": (), "error_msgs": ()}
)
"""The report of loading a network all of whose tensors were there, and no others."""


@contextmanager
def open_tensors(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The tensors of ``files`` by name as safetensors slices: ``slice[...]`` reads one, nothing is read before.

    Raises StopRun for a file that is not safetensors and for a tensor that two files hold.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Any] = {}
    with ExitStack() as stack:
        for path in files:
            try:
                reader: Any = stack.enter_context(safe_open(path, framework="pt", backend="pread"))
            except (OSError, SafetensorError) as error:
                raise StopRun(
                    "weights", f"{path.name} is not a readable safetensors file ({error})"
                ) from None
            for name in reader.keys():  # noqa: SIM118 - not a mapping
                if name in tensors:
                    raise StopRun(
                        "weights",
                        f"the tensor {name} is in two files; leave one set of weights in the folder",
                    )
                tensors[name] = reader.get_slice(name)
        yield tensors


def model_files(folder: Path) -> list[Path]:
    """The weight files that transformers takes of a folder: ``model.safetensors``, else the shards of the index.

    Raises OSError where there are neither, StopRun for an unsound index.
    """
    whole = folder / WEIGHTS_FILE
    if whole.is_file():
        return [whole]
    index = folder / f"model{INDEX_SUFFIX}"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} holds neither {WEIGHTS_FILE} nor {index.name}")
    present = frozenset(path.name for path in folder.glob("*.safetensors"))
    return [folder / name for name in sorted(set(read_index(index, present).values()))]


def load_placed(
    network_class: Any, folder: Path, placing: Placing, lay_out: LayOut | None = None
) -> tuple[Any, Any]:
    """A transformers network of ``folder`` as ``placing`` says, not yet on its device, and its loading report.

    The stored type needs no conversion, so mapped files go to a GPU without a copy, and a reduction is transformers'
    own while it loads; all else is read as ``load_network`` does. Raises as that.
    """
    if placing.dtype is not None and not placing.reduced:
        return load_network(network_class, folder, placing.dtype, lay_out)
    loaded: tuple[Any, Any] = network_class.from_pretrained(
        folder,
        **placing.arguments,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    return loaded


def load_network(
    network_class: Any, folder: Path, dtype: Any, lay_out: LayOut | None = None
) -> tuple[Any, Any]:
    """A transformers network of ``folder`` on the CPU in ``dtype``, and its loading report.

    ``network_class`` is a class of transformers or AutoModelForCausalLM. ``lay_out`` is asked where tensors can go
    from the files to where it wants them; elsewhere it is not, and whoever gave it lays them out afterwards. Raises
    OSError, ValueError, KeyError and ImportError as ``from_pretrained`` does, StopRun as ``open_tensors``.
    """
    import transformers

    if network_class is transformers.AutoModelForCausalLM:  # which one the configuration means
        config: Any = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        classes: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        network_class = classes[type(config)]
    config = network_class.config_class.from_pretrained(folder, local_files_only=True)
    files = model_files(folder)
    with open_tensors(files) as tensors:
        network, report = _named_alike(network_class, config, files, dtype, lay_out), NOTHING_AMISS
        if network is None:
            network, report = network_class.from_pretrained(
                None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True
            )
    give_back_memory()
    network.name_or_path = network.config.name_or_path = str(folder)  # an adapter names its base by it
    if (folder / GENERATION_FILE).is_file():
        settings: Any = transformers.GenerationConfig
        network.generation_config = settings.from_pretrained(folder, local_files_only=True)
    return network, report


def _named_alike(
    network_class: Any, config: Any, files: Sequence[Path], dtype: Any, lay_out: LayOut | None
) -> Any:
    """The network with the tensors of ``files`` put in by their names; None unless they are exactly its own in float32.

    transformers' way is to convert each tensor whole, and what it no more needs stays with the process. What is not
    exactly the network's own is its to read, and to report.
    """
    import accelerate
    import torch
    from transformers.initialization import no_init_weights

    from models.weight_loading.stored_tensors import Scratch, StoredTensor, in_threads, open_stored

    if config.model_type not in STORED_AS_HELD or dtype != torch.float32:
        return None
    with accelerate.init_empty_weights(include_buffers=False), no_init_weights():
        network = network_class(config)
    own, ties = network.state_dict(), network.all_tied_weights_keys
    with open_stored(files) as stored:
        tensors = _by_own_names(network, own, stored)
        if set(own) - set(ties) != set(tensors):
            return None
        if any(tensors[name].shape != tuple(own[name].shape) for name in tensors):
            return None
        laid = frozenset(lay_out(network, tensors)) if lay_out else frozenset()
        read = {name: torch.empty(tensors[name].shape) for name in tensors if name not in laid}

        def reading(tensor: StoredTensor, into: Any) -> Callable[[Scratch], None]:
            return lambda scratch: tensor.read(into, scratch.staging)

        in_threads(reading(tensors[name], into) for name, into in read.items())
    network.load_state_dict(read, strict=False, assign=True)
    if not laid.intersection(ties.values()):
        network.tie_weights()
    if any(one.is_meta for one in (*network.parameters(), *network.buffers())):
        return None
    return network.eval()


def _by_own_names(network: Any, own: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """``stored`` under the names that ``network`` has for them, as transformers renames what other releases wrote.

    Empty where a tensor is not to be renamed alone but made of others, or two get one name.
    """
    if set(own) - set(network.all_tied_weights_keys) == set(stored):
        return dict(stored)
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    changes: Any = get_model_conversion_mapping(network)
    makers = [one for one in changes if isinstance(one, WeightConverter)]
    renamings = [one for one in changes if not isinstance(one, WeightConverter)]
    named: dict[str, Any] = {}
    for name, tensor in stored.items():
        new, made = rename_source_key(name, renamings, makers, network.base_model_prefix, dict(own))
        if made is not None or new in named:
            return {}
        named[new] = tensor
    return named
