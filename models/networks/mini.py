"""firstread-mini: vision tower, reading heads, connector mixture of experts and a small causal language model.

Input. Pixels float32 [n, 1, S, S] from 0 (air, dark) to 1 (bone, bright), the whole film resized to S x S without
padding; the tower removes any linear scale itself. On a frontal film the patient's right is on the left of the image,
on a lateral one the front of the patient.

Sequence. ``[film tokens; region token; prompt; answer; <eos>]``, the region token only where one is asked about. The
film tokens are the finding slots (kind by kind, right then left), the grid averaged to two by two, the organs and the
landmarks. What the heads read (boxes, sizes, zones, organs, landmarks), what a lateral film shows (in front, behind)
and the change since a prior film are added to those tokens, so that the language model puts it into words.

Text. Prompts and answers are those of ``models/simulation/task_texts.py``; a report is ``Findings: <sentences>`` and
``Impression: <sentences>`` on two lines, of the sentences of ``phrases.py`` and ``phrases_zh.py``. ``KINDS`` are the
channels of the heat maps and of the presence scores, in that order.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_model, save_model
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from models.networks.connector import Connector, ConnectorConfig
from models.networks.heads import (
    CHANGES,
    GRADES,
    LANDMARKS,
    ORGANS,
    ChangeHead,
    HeadsOutput,
    NumberTables,
    ReadingHeads,
    RegionToken,
)
from models.networks.label_net import LabelNet
from models.networks.outlines import OutlineNet
from models.networks.vision import SIDES, VisionConfig, VisionOutput, VisionTower
from models.vocabulary.english import KINDS
from models.vocabulary.task_words import LANGUAGES, TASKS

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
PAD_ID, EOS_ID, UNKNOWN_ID = 0, 1, 2
COARSE = 2
"""Cells along one side of the grid that the language model sees."""
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
    layers: int = 5
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
    max_new_tokens: int = 192

    @property
    def film_tokens(self) -> int:
        """Embeddings of one study's films: slots, coarse grid, organs and landmarks."""
        return self.vision.slot_count + COARSE**2 + ORGANS + LANDMARKS

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


class Readout(NamedTuple):
    """What the language model is given of n films; the fields as in VisionOutput and HeadsOutput."""

    tokens: Tensor
    presence: Tensor
    boxes: Tensor
    organs: Tensor
    landmarks: Tensor
    severity: Tensor
    zone: Tensor
    state: Tensor
    region: Tensor

    def rows(self, index: Tensor) -> "Readout":
        """The films at ``index``, in that order."""
        return Readout(*(values.index_select(0, index) for values in self))


class FilmReading(NamedTuple):
    """All that is known of n films before a task is asked: the tower's output and what the heads read off it."""

    seen: VisionOutput
    heads: HeadsOutput

    @property
    def out(self) -> Readout:
        """What the language model is given."""
        return Readout(self.seen.tokens, self.seen.presence, *self.heads)


class Joined(NamedTuple):
    """Embeddings for the language model: ``film`` [n, film_tokens, width], and ``region`` [n, 1, width]."""

    film: Tensor
    region: Tensor


class Joiner(nn.Module):
    """From films read to embeddings: the connector of the task, and the heads' readings on top of its tokens."""

    def __init__(self, config: MiniConfig) -> None:
        """Build with random weights."""
        super().__init__()
        width, vision = config.language.width, config.vision
        self.slots, self.grid = vision.slot_count, vision.image_size // 32
        self.connector = Connector(config.connector)
        self.numbers = NumberTables(width)
        self.grades = nn.Parameter(torch.randn(2 * GRADES, width) * 0.3)
        self.chances = nn.Linear(2, width)
        self.sides, self.given = nn.Linear(3, width), nn.Parameter(torch.zeros(2, width))
        self.organs = nn.Parameter(torch.randn(ORGANS, width) * 0.3)
        self.landmarks = nn.Parameter(torch.randn(LANDMARKS, width) * 0.3)
        self.change, self.change_words = ChangeHead(), nn.Parameter(torch.randn(CHANGES, width) * 0.3)
        self.region = RegionToken(vision.kinds, vision.heat_size, width)

    def forward(
        self,
        read: Readout,
        task: Tensor,
        side: Tensor,
        sided: Tensor,
        before: Tensor,
        compared: Tensor,
        box: Tensor,
        known: Tensor | None = None,
    ) -> Joined:
        """Embeddings of n frontal films.

        ``task`` int64 [n]; ``side`` [n, kinds, 3] the presence of the lateral film, counted where ``sided`` [n] is 1;
        ``before`` [n, slots, STATE] the state of the prior film, counted where ``compared`` [n] is 1; ``box`` [n, 4]
        the asked region; ``known`` [n, slots, 4] takes the place of the boxes read (training).
        """
        sided, compared = sided[:, None, None], compared[:, None, None]
        grid = read.tokens[:, self.slots :].transpose(1, 2).unflatten(2, (self.grid, self.grid))  # type: ignore[no-untyped-call]
        pooled = functional.adaptive_avg_pool2d(grid, COARSE).flatten(2).transpose(1, 2)
        whole = self.connector(torch.cat([read.tokens[:, : self.slots], pooled], dim=1), task)
        lateral = self.sides(torch.sigmoid(side)).repeat_interleave(len(SIDES), dim=1) + self.given[0]
        change = torch.softmax(self.change(read.state, before), -1) @ self.change_words + self.given[1]
        slots = (
            whole[:, : self.slots]
            + self.numbers(read.boxes if known is None else known)
            + torch.softmax(read.severity, -1) @ self.grades[:GRADES]
            + torch.softmax(read.zone, -1) @ self.grades[GRADES:]
            + self.chances(slot_chances(read.presence))
            + lateral * sided
            + change * compared
        )
        organs = self.organs + self.numbers(read.organs)
        landmarks = self.landmarks + self.numbers(read.landmarks)
        region = self.region(read.region, box, read.organs, read.boxes) + self.numbers(box)[:, None]
        return Joined(torch.cat([slots, whole[:, self.slots :], organs, landmarks], dim=1), region)


def slot_chances(presence: Tensor) -> Tensor:
    """Probability of each slot's kind, and of its side: [n, slots, 2] from presence logits [n, kinds, 3]."""
    chance = torch.sigmoid(presence)
    kind = chance[:, :, :1].expand(-1, -1, len(SIDES))
    return torch.stack([kind, chance[:, :, 1:]], dim=-1).flatten(1, 2)


class FirstreadMini(nn.Module):
    """The whole network. ``vision`` with ``heads``, ``outlines`` and ``labels``, ``joiner``, ``language`` can be
    exported alone."""

    def __init__(self, config: MiniConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.vision = VisionTower(config.vision)
        self.heads = ReadingHeads(config.vision)
        self.joiner = Joiner(config)
        self.language = build_language(config.language)
        self.outlines = OutlineNet()
        self.labels = LabelNet(config.vision.image_size)

    def task_index(self, task: str, count: int) -> Tensor:
        """The joiner's task input for ``count`` films."""
        return torch.full((count,), self.config.tasks.index(task), dtype=torch.int64)

    def read(self, pixels: Tensor) -> FilmReading:
        """Read films [n, 1, S, S] of any role."""
        seen = self.vision(pixels)
        return FilmReading(seen, self.heads(seen))

    def join(self, read: Readout, task: Tensor) -> Joined:
        """Embeddings of frontal films without a lateral or prior film and without an asked region."""
        none = read.boxes.new_zeros(len(task))
        empty = torch.zeros_like(read.presence), none, torch.zeros_like(read.state), none
        joined: Joined = self.joiner(read, task, *empty, read.boxes.new_zeros(len(task), 4))
        return joined

    def encode(self, pixels: Tensor, task: Tensor) -> tuple[Tensor, VisionOutput]:
        """Embeddings [n, f, language width] of frontal films, and the tower's own output."""
        reading = self.read(pixels)
        return self.join(reading.out, task).film, reading.seen

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
