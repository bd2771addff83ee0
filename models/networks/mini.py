"""firstread-mini: vision encoder, connector mixture of experts and a small causal language model.

Input. Pixels float32 [n, 1, S, S] from 0 (air, dark) to 1 (bone, bright), the whole film resized to S x S without
padding; the encoder removes any linear scale itself. The patient's right is on the left of the image.

Sequence. ``[visual tokens of every image of the study ; prompt tokens ; text ; <eos>]``, where the prompt is the task
token and the language token (:func:`prompt_ids`). Text is read back by joining tokens without spaces.

Text. A report is ``Findings: <sentences>\\nImpression: <sentences>``; the tasks ``findings`` and ``impression`` give
one of the two parts with its heading. The sentences are those of ``models/simulation/phrases.py``, whose ``KINDS``
are the channels of the heat maps and of the presence scores, in that order.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from models.connector import Connector, ConnectorConfig
from models.networks.vision import VisionConfig, VisionEncoder, VisionOutput
from models.simulation.phrases import KINDS

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
TASKS = ("report", "findings", "impression")
LANGUAGES = ("en",)
PAD_ID, EOS_ID, UNKNOWN_ID = 0, 1, 2
SPECIAL_TOKENS = (PAD, EOS, UNKNOWN, *(f"<{name}>" for name in (*TASKS, *LANGUAGES)))
"""Ids 0, 1, 2 and on, in this order, whatever the vocabulary."""


def prompt_ids(task: str = "report", language: str = "en") -> tuple[int, ...]:
    """Token ids that ask for ``task`` in ``language``. Raises ValueError for one the model was not trained on."""
    if task not in TASKS or language not in LANGUAGES:
        raise ValueError(f"firstread-mini does {', '.join(TASKS)} in {', '.join(LANGUAGES)} only")
    return SPECIAL_TOKENS.index(f"<{task}>"), SPECIAL_TOKENS.index(f"<{language}>")


@dataclass(frozen=True, slots=True)
class LanguageConfig:
    """Shape of the language model, a Llama with tied embeddings."""

    vocabulary: int = 256
    width: int = 256
    layers: int = 3
    heads: int = 4
    feed_forward: int = 640
    positions: int = 512


@dataclass(frozen=True, slots=True)
class MiniConfig:
    """Everything that fixes the shape of the network; ``config.json`` holds it."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    num_experts: int = 4
    expert_hidden: int = 512
    router_hidden: int = 64
    kinds: tuple[str, ...] = KINDS
    tasks: tuple[str, ...] = TASKS
    max_new_tokens: int = 128

    @property
    def connector(self) -> ConnectorConfig:
        """The connector between the two widths."""
        return ConnectorConfig(
            input_width=self.vision.token_width,
            output_width=self.language.width,
            tasks=self.tasks,
            num_experts=self.num_experts,
            expert_hidden=self.expert_hidden,
            router_hidden=self.router_hidden,
        )

    def to_json(self) -> str:
        """The text of ``config.json``."""
        return json.dumps({"model_type": "firstread-mini", **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "MiniConfig":
        """Read ``config.json``. Raises TypeError on unknown keys and ValueError on another model type."""
        stored: dict[str, Any] = json.loads(text)
        if stored.pop("model_type", None) != "firstread-mini":
            raise ValueError("config.json is not of a firstread-mini model")
        vision, language = stored.pop("vision"), stored.pop("language")
        vision["widths"] = tuple(vision["widths"])
        stored["kinds"], stored["tasks"] = tuple(stored["kinds"]), tuple(stored["tasks"])
        return cls(vision=VisionConfig(**vision), language=LanguageConfig(**language), **stored)


def build_language(config: LanguageConfig) -> LlamaForCausalLM:
    """The language model with random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=config.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=EOS_ID,
            pad_token_id=PAD_ID,
        )
    )


class FirstreadMini(nn.Module):
    """The whole network. Its parts ``vision``, ``connector`` and ``language`` can be exported on their own."""

    def __init__(self, config: MiniConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.vision = VisionEncoder(config.vision)
        self.connector = Connector(config.connector)
        self.language = build_language(config.language)

    def task_index(self, task: str, count: int) -> Tensor:
        """The connector's task input for ``count`` images."""
        return torch.full((count,), self.config.tasks.index(task), dtype=torch.int64)

    def encode(self, pixels: Tensor, task: Tensor) -> tuple[Tensor, VisionOutput]:
        """Visual embeddings [n, token_count, language width] and the encoder's own output."""
        seen = self.vision(pixels)
        return self.connector(seen.tokens, task), seen

    def text_logits(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Next-token logits after each of ``ids`` [n, t] behind the visual ``embeddings`` [n, v, width]."""
        words = self.language.get_input_embeddings()(ids)
        joined = torch.cat([embeddings.to(words.dtype), words], dim=1)
        states = self.language.model(inputs_embeds=joined, use_cache=False).last_hidden_state
        logits: Tensor = self.language.lm_head(states[:, embeddings.shape[1] :])
        return logits

    @torch.no_grad()
    def write(self, embeddings: Tensor, prompt: tuple[int, ...], max_new_tokens: int = 0) -> list[list[int]]:
        """Greedy text for each row of visual ``embeddings`` [n, v, width]: ids without prompt and end token.

        Stops at ``max_new_tokens`` (0: the configuration's); a text that reached it is returned without an end.
        """
        limit = max_new_tokens or self.config.max_new_tokens
        count = len(embeddings)
        words = self.language.get_input_embeddings()(torch.tensor(prompt).expand(count, -1))
        step = self.language(
            inputs_embeds=torch.cat([embeddings, words], dim=1), use_cache=True, logits_to_keep=1
        )
        texts: list[list[int]] = [[] for _ in range(count)]
        open_rows = torch.ones(count, dtype=torch.bool)
        for _ in range(limit):
            chosen = step.logits[:, -1].argmax(dim=-1)
            open_rows &= chosen != EOS_ID
            if not open_rows.any():
                break
            for row in open_rows.nonzero().flatten().tolist():
                texts[row].append(int(chosen[row]))
            step = self.language(
                input_ids=chosen[:, None], past_key_values=step.past_key_values, use_cache=True
            )
        return texts

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; tied weights are written once."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(self.config.to_json())
        save_model(self, str(folder / WEIGHTS_FILE))
        (folder / WEIGHTS_FILE).chmod(0o644)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder."""
    return Tokenizer.from_file(str(folder / TOKENIZER_FILE))


def load_mini(folder: Path) -> FirstreadMini:
    """The network of a model folder, ready to draft. Raises RuntimeError on missing or unexpected weights."""
    network = FirstreadMini(MiniConfig.from_json((folder / CONFIG_FILE).read_text()))
    load_model(network, folder / WEIGHTS_FILE, strict=True)
    return network.eval()
