"""Every family with small random weights, opened as its adapter opens it: the subjects of the family contract."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models.catalog import CatalogEntry, show
from models.families.mini.mini_family import MiniFamily
from models.families.native.biomedclip import BiomedClipFamily, load_biomedclip
from models.families.native.chat import ChatFamily
from models.families.native.dialect import Dialect
from models.families.native.internvl import conversation, load_internvl
from models.families.native.internvl_words import WORDS as INTERN_WORDS
from models.families.native.llava_med import LlavaMedDialect
from models.families.native.medgemma import MedGemmaDialect
from models.families.native.medgemma_family import MedGemmaFamily
from models.families.native.medrega import MedRegaDialect
from models.families.native.networks import ChatNetwork, load_llava_med, load_medgemma, load_medrega
from models.families.native.onevision import load_onevision
from models.families.native.qwen import QwenFamily
from models.families.native.qwen_dialects import WORDS
from models.families.native.qwen_loading import load_qwen
from models.families.native.radvlm import RadVlmWords
from models.families.native.tiles import TiledFamily
from models.families.text.recipes import recipe_of
from models.families.text.text_family import TextFamily
from models.families.uni_med.uni_med_family import UniMedFamily
from models.family import Family
from models.model_choice import EndpointOptions
from tests.engines import ENGINES
from tests.tiny_chat import write_chat_model
from tests.tiny_clip import clip_weights, write_clip
from tests.tiny_ming_moe import write_ming_moe
from tests.tiny_model import tiny_weights
from tests.tiny_qwen import write_qwen
from tests.tiny_text import write_text_model
from tests.tiny_uni_med import write_uni_med

LIMIT = 12
"""New tokens at most, where the weights say nothing else."""
MOST_PIXELS = 20_000


@dataclass(frozen=True, slots=True)
class TinyFamily:
    """A family that can be opened again and again: its catalogue entry, its weights' folder and ``open``.

    ``endpoint`` is the server that answers instead of weights.
    """

    entry: CatalogEntry
    folder: Path
    open: Callable[[], Family]
    endpoint: EndpointOptions | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """How the weights of a family are written into a folder, and how it is opened; ``write`` gives their folder."""

    write: Callable[[Path], Path]
    open: Callable[[CatalogEntry, Path], Family]


def tiny_family(model_id: str, folder: Path) -> TinyFamily:
    """The family ``model_id`` of ``TINY``, its weights written into ``folder``."""
    entry, making = show(model_id), TINY[model_id]
    weights = making.write(folder)
    return TinyFamily(entry, weights, lambda: making.open(entry, weights))


def _open_mini(entry: CatalogEntry, folder: Path) -> Family:
    return MiniFamily(entry, folder, ENGINES, threads=1)


def _open_uni_med(entry: CatalogEntry, folder: Path) -> Family:
    return UniMedFamily(entry, folder, ENGINES, threads=1)


def _open_text(entry: CatalogEntry, folder: Path) -> Family:
    return TextFamily(entry, folder, recipe=replace(recipe_of(entry.id), max_new_tokens=LIMIT))


def _open_clip(entry: CatalogEntry, folder: Path) -> Family:
    return BiomedClipFamily(entry, load_biomedclip(folder), ENGINES, threads=1)


def _open_chat(
    load: Callable[[Path], ChatNetwork], dialect: Dialect
) -> Callable[[CatalogEntry, Path], Family]:
    return lambda entry, folder: ChatFamily(entry, load(folder), dialect, ENGINES, limit=LIMIT, threads=1)


def _open_medgemma(entry: CatalogEntry, folder: Path) -> Family:
    dialect = MedGemmaDialect(entry.prompts, most_images=3)
    return MedGemmaFamily(entry, load_medgemma(folder), dialect, ENGINES, limit=LIMIT, threads=1)


def _open_internvl(entry: CatalogEntry, folder: Path) -> Family:
    words = INTERN_WORDS[entry.prompts](entry.prompts, entry.images, conversation(folder))
    untiled = entry.id == "fleming-vl-8b"
    return TiledFamily(entry, load_internvl(folder, untiled=untiled), words, ENGINES, limit=LIMIT, threads=1)


def _open_radvlm(entry: CatalogEntry, folder: Path) -> Family:
    return TiledFamily(
        entry, load_onevision(folder), RadVlmWords(entry.prompts), ENGINES, limit=LIMIT, threads=1
    )


def _open_qwen(entry: CatalogEntry, folder: Path) -> Family:
    loaded = load_qwen(folder, entry.network_class, MOST_PIXELS)
    words = WORDS[entry.prompts](entry.prompts, entry.images)
    return QwenFamily(entry, loaded, words, ENGINES, limit=LIMIT, threads=1)


def _write_chat(kind: str) -> Callable[[Path], Path]:
    return lambda folder: write_chat_model(folder, kind)


def _write_qwen(network: str) -> Callable[[Path], Path]:
    return lambda folder: write_qwen(folder, network, MOST_PIXELS)


TINY: Mapping[str, Making] = {
    "firstread-mini": Making(lambda folder: tiny_weights(), _open_mini),
    "uni-med": Making(write_uni_med, _open_uni_med),
    "text-llm": Making(write_text_model, _open_text),
    "ming-moe": Making(write_ming_moe, _open_text),
    "medrega": Making(_write_chat("medrega"), _open_chat(load_medrega, MedRegaDialect())),
    "lingshu-i-8b": Making(_write_chat("internvl"), _open_internvl),
    "fleming-vl-8b": Making(_write_chat("internvl"), _open_internvl),
    "radvlm": Making(_write_chat("radvlm"), _open_radvlm),
    "llava-med": Making(_write_chat("llava-med"), _open_chat(load_llava_med, LlavaMedDialect())),
    "medgemma-1.5-4b-it": Making(_write_chat("medgemma"), _open_medgemma),
    "umit": Making(_write_qwen("qwen2-vl"), _open_qwen),
    "lingshu-7b": Making(_write_qwen("qwen2.5-vl"), _open_qwen),
    "chexone": Making(_write_qwen("qwen2.5-vl"), _open_qwen),
    "nv-reason-cxr": Making(_write_qwen("qwen2.5-vl"), _open_qwen),
    "unirg-cxr": Making(_write_qwen("qwen3-vl"), _open_qwen),
    "qwen3-vl": Making(_write_qwen("qwen3-vl"), _open_qwen),
    "qwen3-vl-media": Making(_write_qwen("qwen3-vl"), _open_qwen),
    "biomedclip": Making(lambda folder: write_clip(folder, clip_weights()), _open_clip),
}
"""By catalogue id."""
