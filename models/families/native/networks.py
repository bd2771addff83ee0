"""Loading the image families: network, tokenizer and preprocessing of a published folder as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.families.native.internvl_chat import load_internvl_chat, read_layout
from models.families.native.square import SquarePadding, read_framing
from models.families.text.loading import check_report
from models.weight_loading.kept_digests import weight_digest
from models.weight_loading.piece_file import open_tokenizer
from models.weight_loading.placement import Placing, choose_placing
from models.weight_loading.tensors import load_placed
from models.weight_loading.tokenizer_check import chat_template, read_json
from pipeline.errors import ConfigurationError, StopRun

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BICUBIC = 3


@dataclass(frozen=True, slots=True)
class ChatNetwork:
    """A loaded image and text network.

    ``network`` is the transformers class in evaluation mode; ``processor`` turns PIL images into pixels [n, 3, S, S].
    ``image_text`` is what stands for one image in the prompt, ``image_token`` the id in it that features replace.
    ``marks_images`` says that the network wants to be told which tokens are images (token_type_ids). ``files``:
    SHA-256 of every file read. ``template`` is the folder's chat template where it belongs to a network of images, ""
    where there is none, and ``template_image`` how it writes an image. ``folder`` is where it was read from;
    ``settings`` goes into the recipe.
    """

    folder: Path
    network: Any
    tokenizer: Any
    processor: Any
    image_text: str
    image_token: int
    marks_images: bool
    positions: int
    files: Mapping[str, str]
    placing: Placing
    template: str = ""
    template_image: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def load_medrega(folder: Path, precision: str = "auto") -> ChatNetwork:
    """MedRegA as published (``internvl_chat``). Raises ConfigurationError, StopRun."""
    import transformers

    layout = read_layout(folder)
    tokenizer = load_tokenizer(folder)
    token = token_id(tokenizer, "<IMG_CONTEXT>")
    for mark in ("<img>", "</img>", "<|im_start|>", "<|im_end|>"):
        token_id(tokenizer, mark)
    placing = choose_placing(precision, stored=True)
    network = load_internvl_chat(folder, token, placing)
    size = {"height": layout.size, "width": layout.size}
    processor: Any = transformers.CLIPImageProcessorPil
    return describe_network(
        folder,
        network,
        tokenizer,
        processor(
            size=size,
            do_center_crop=False,
            resample=BICUBIC,
            image_mean=IMAGENET_MEAN,
            image_std=IMAGENET_DEVIATION,
        ),
        f"<img>{'<IMG_CONTEXT>' * layout.tokens}</img>",
        token,
        placing,
    )


def load_llava_med(folder: Path, precision: str = "auto") -> ChatNetwork:
    """The native port of LLaVA-Med v1.5. Raises ConfigurationError, StopRun."""
    import transformers

    tokenizer, placing = load_tokenizer(folder), choose_placing(precision, stored=True)
    network, processor = load_native(
        folder, transformers.LlavaForConditionalGeneration, transformers.CLIPImageProcessorPil, placing
    )
    vision = network.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2
    tokens += network.config.vision_feature_select_strategy == "full"
    token = token_id(tokenizer, "<image>", network.config.image_token_id)
    framing = read_framing(folder)
    prepare = SquarePadding(processor) if framing.startswith("pad") else processor
    loaded = describe_network(folder, network, tokenizer, prepare, "<image>" * tokens, token, placing)
    return replace(loaded, settings={"framing": framing})


def load_medgemma(folder: Path, precision: str = "auto") -> ChatNetwork:
    """MedGemma (Gemma 3). Raises ConfigurationError, StopRun."""
    import transformers

    tokenizer, placing = load_tokenizer(folder), choose_placing(precision, stored=True)
    network, processor = load_native(
        folder, transformers.Gemma3ForConditionalGeneration, transformers.Gemma3ImageProcessorPil, placing
    )
    for mark in ("<start_of_turn>", "<end_of_turn>"):
        token_id(tokenizer, mark)
    token_id(tokenizer, "<start_of_image>", network.config.boi_token_id)
    token_id(tokenizer, "<end_of_image>", network.config.eoi_token_id)
    token = token_id(tokenizer, "<image_soft_token>", network.config.image_token_id)
    soft = "<image_soft_token>" * network.config.mm_tokens_per_image
    text = f"\n\n<start_of_image>{soft}<end_of_image>\n\n"
    return describe_network(
        folder,
        network,
        tokenizer,
        processor,
        text,
        token,
        placing,
        marks_images=True,
        template_image="<start_of_image>",
    )


def check_kind(folder: Path, network_class: Any) -> None:
    """Raises ConfigurationError where config.json is of another kind of model: transformers only warns of it."""
    kind, wanted = read_json(folder / "config.json").get("model_type"), network_class.config_class.model_type
    if kind is not None and kind != wanted:
        message = (
            f"{folder} holds a model of the kind {kind} and this family is {wanted}: name the family that the weights "
            "belong to, or the folder of this one"
        )
        raise ConfigurationError("weights-folder", message)


def load_native(
    folder: Path, network_class: Any, processor_class: Any, placing: Placing, *, plain: bool = False
) -> tuple[Any, Any]:
    """Network and processor of a folder; ``plain`` keeps every matrix as it is, for what is laid over it."""
    from models.runners.packed_products import pack_stored  # torch takes seconds

    check_kind(folder, network_class)
    try:
        network, report = load_placed(network_class, folder, placing, None if plain else pack_stored)
        processor = processor_class.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        message = (
            f"{folder} cannot be loaded as {network_class.__name__} ({type(error).__name__}): it needs config.json, "
            "preprocessor_config.json, safetensors and tokenizer files"
        )
        raise ConfigurationError("weights-folder", message) from error
    check_report(report)
    return placing.put(network).eval(), processor


def load_tokenizer(folder: Path) -> Any:
    try:
        return open_tokenizer(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        message = f"{folder} holds no tokenizer that transformers reads ({type(error).__name__})"
        raise ConfigurationError("weights-folder", message) from error


def token_id(tokenizer: Any, text: str, expected: int | None = None) -> int:
    number = tokenizer.convert_tokens_to_ids(text)
    if number is None or number == tokenizer.unk_token_id:
        raise StopRun("tokenizer", f"the tokenizer has no token {text}, which this family's prompt needs")
    if tokenizer(text * 2, add_special_tokens=False).input_ids != [number] * 2:
        raise StopRun(
            "tokenizer", f"the tokenizer cuts {text} to pieces, which this family's prompt needs whole"
        )
    if expected is not None and number != expected:
        raise StopRun("tokenizer", f"{text} is token {number} of the tokenizer and {expected} of the network")
    return int(number)


def describe_network(
    folder: Path,
    network: Any,
    tokenizer: Any,
    processor: Any,
    image_text: str,
    image_token: int,
    placing: Placing,
    *,
    marks_images: bool = False,
    template_image: str = "",
) -> ChatNetwork:
    import transformers

    if len(tokenizer) > network.get_input_embeddings().num_embeddings:
        raise StopRun(
            "tokenizer", "the tokenizer has more tokens than the network; they do not belong together"
        )
    settings: Any = transformers.GenerationConfig
    # a checkpoint's own sampling settings would make a text that no recipe repeats
    network.generation_config = settings(do_sample=False)
    positions = network.config.get_text_config().max_position_embeddings
    suffixes = (".safetensors", ".json", ".model")
    files = {path.name: weight_digest(path) for path in sorted(folder.iterdir()) if path.suffix in suffixes}
    return ChatNetwork(
        folder,
        network,
        tokenizer,
        processor,
        image_text,
        image_token,
        marks_images,
        positions,
        files,
        placing,
        template=chat_template(folder) if template_image else "",
        template_image=template_image,
    )
