"""Load a causal language model and its tokenizer from a folder: transformers format or one GGUF file, nothing else."""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.families.decoding import Decoding, read_decoding
from models.families.prompt_proof import rendering_beside, special_tokens
from models.families.text.recipes import TextRecipe
from models.weight_loading.kept_digests import weight_digest
from models.weight_loading.piece_file import open_tokenizer
from models.weight_loading.placement import Placing, choose_placing
from models.weight_loading.tensors import load_placed
from pipeline.errors import ConfigurationError, StopRun

_MADE_AT_LOAD = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
"""Ends of tensor names that old checkpoints stored and that hold no weights."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedText:
    """``network`` in evaluation mode; ``ends``: ids that end a text; ``files``: SHA-256 of every file read.

    ``packed`` goes into the recipe: how products are computed.
    """

    network: Any
    tokenizer: Any
    ends: tuple[int, ...]
    pad: int
    positions: int
    files: dict[str, str]
    placing: Placing
    decoding: Decoding
    packed: dict[str, str]


def load_text_model(folder: Path, recipe: TextRecipe, precision: str = "auto") -> LoadedText:
    """The model of ``folder`` at ``precision``: "auto" is float32 on the CPU and bfloat16 on the first GPU.

    Raises ConfigurationError for a folder that this code cannot load and StopRun for weights that are not those of the
    network.
    """
    from transformers import AutoModelForCausalLM

    from models.runners.packed_products import pack_stored  # torch takes seconds

    weights = folder / "base" if recipe.expert_adapter else folder
    decoding = read_decoding(weights, greedy=recipe.greedy)
    if recipe.repetition_penalty is not None:
        decoding = replace(decoding, penalty=recipe.repetition_penalty)
    gguf = sorted(weights.glob("*.gguf"))
    if len(gguf) > 1:
        raise ConfigurationError("weights-folder", f"{folder} holds {len(gguf)} GGUF files: leave one")
    extra: dict[str, Any] = {"gguf_file": gguf[0].name} if gguf else {}
    placing = choose_placing(precision)
    if recipe.expert_adapter and placing.reduced:
        message = "experts are not laid over quantised weights: set model.precision to bf16"
        raise ConfigurationError("precision", message)
    try:
        tokenizer = open_tokenizer(weights, **extra)
        if gguf:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                weights,
                **placing.arguments,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **extra,
            )
        else:
            # experts are laid over the plain matrices, before anything is packed
            lay_out = None if recipe.expert_adapter else pack_stored
            with _proving_beside(tokenizer, recipe):
                loaded = load_placed(AutoModelForCausalLM, weights, placing, lay_out)
    except (OSError, ValueError, KeyError, ImportError) as error:
        message = (
            f"{folder} cannot be loaded as a causal language model ({type(error).__name__}): it needs config.json, "
            "safetensors and tokenizer files of a class that transformers has, or one GGUF file; models with code of "
            "their own need a server behind the endpoint adapter"
        )
        raise ConfigurationError("weights-folder", message) from error
    network, report = loaded
    check_report(report)
    if recipe.expert_adapter:
        from models.families.text.ming_moe import with_experts

        network = with_experts(network, folder)
    return _described(folder, placing.put(network).eval(), tokenizer, recipe, gguf, placing, decoding)


def _proving_beside(tokenizer: Any, recipe: TextRecipe) -> AbstractContextManager[None]:
    """A template is rendered by a process of its own: while the weights are read, that costs no time."""
    template = tokenizer.chat_template
    if recipe.literal(template) or not isinstance(template, str):
        return nullcontext()
    return rendering_beside(template, recipe.turns(""), special_tokens(tokenizer))


def check_report(report: Any) -> None:
    """Raises StopRun where loading left a tensor over, without weights or misshapen."""
    for word in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = [str(name) for name in report[word] if not str(name).endswith(_MADE_AT_LOAD)]
        if names:
            some = ", ".join(sorted(names)[:3])
            what = word.removesuffix("_keys")
            raise StopRun(
                "weights",
                f"{len(names)} tensors {what} in the weights ({some}); they are not of this network",
            )


def _described(
    folder: Path,
    network: Any,
    tokenizer: Any,
    recipe: TextRecipe,
    gguf: list[Path],
    placing: Placing,
    decoding: Decoding,
) -> LoadedText:
    import transformers

    settings: Any = transformers.GenerationConfig
    known = network.generation_config.eos_token_id
    ends = [known] if isinstance(known, int) else list(known or ())
    if tokenizer.eos_token_id is not None:
        ends.append(tokenizer.eos_token_id)
    literal = recipe.literal(tokenizer.chat_template)
    for text in recipe.ends if literal else ():
        number = tokenizer.convert_tokens_to_ids(text)
        if number is None or number == tokenizer.unk_token_id:
            raise StopRun("tokenizer", f"the tokenizer has no token {text}, which this family's prompt needs")
        ends.append(number)
    if not ends:
        raise StopRun("tokenizer", "neither model nor tokenizer names a token that ends a text")
    if len(tokenizer) > network.get_input_embeddings().num_embeddings:
        raise StopRun(
            "tokenizer", "the tokenizer has more tokens than the network; they do not belong together"
        )
    if not literal and not tokenizer.chat_template:
        raise ConfigurationError(
            "chat-template",
            f"the tokenizer of {folder} has no chat template: choose the family that it belongs to",
        )
    # a checkpoint's own sampling settings would make a text that no recipe repeats
    network.generation_config = settings(do_sample=False)
    from models.runners.packed_products import pack_language  # torch takes seconds

    packed = pack_language(network)
    config = network.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or recipe.positions
    read = gguf or sorted(
        path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".model")
    )
    files = {str(path.relative_to(folder)): weight_digest(path) for path in read}
    return LoadedText(
        network, tokenizer, tuple(dict.fromkeys(ends)), ends[0], positions, files, placing, decoding, packed
    )
