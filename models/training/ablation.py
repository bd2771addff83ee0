"""One MLP against the connector mixture of experts: ``python -m models.training.ablation --model DIR --cache DIR``.

Both arms start from the same trained network, tower and heads frozen, with a fresh connector of the same number of
parameters (to within half a percent), and learn the same texts in the same order for the same number of steps:
connector, joiner and language model. AblationFilms are read once. Measured on unseen studies, example by example:
cross-entropy per token of the answer, and whether every token of it is the likeliest one. Differences with 95 %
bootstrap intervals over studies.
"""

import argparse
import copy
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from models.networks.connector import Connector, ConnectorConfig
from models.networks.mini import PAD_ID, FirstreadMini, Readout, load_mini, load_tokenizer
from models.simulation.task_texts import StudyFacts
from models.training.shards import ShardSample, load_shard, study_facts
from models.training.unseen import unseen_studies
from models.training.writing import Example, write_example
from models.vocabulary.task_words import LANGUAGES, TASKS

Floats = NDArray[np.float32]
BATCH, READ_TOGETHER = 24, 32
RATE = 6e-4
RESAMPLES = 2000
_ASKED = tuple(task for task in TASKS if task not in ("summarize", "findings"))
"""Summaries see no film; findings are the first half of a report."""


@dataclass(frozen=True, slots=True)
class AblationFilms:
    """AblationFilms read once, and what is on them."""

    read: Readout
    facts: list[StudyFacts]


@torch.no_grad()
def read_films(network: FirstreadMini, samples: Sequence[ShardSample]) -> AblationFilms:
    """Read the frontal film of each sample."""
    parts = []
    for start in range(0, len(samples), READ_TOGETHER):
        pixels = np.stack([sample.images[0] for sample in samples[start : start + READ_TOGETHER]])
        parts.append(network.read(torch.from_numpy(pixels)[:, None].float() / 255).out)
    facts = [replace(study_facts(sample), has_lateral=False, has_prior=False) for sample in samples]
    return AblationFilms(Readout(*(torch.cat(values) for values in zip(*parts, strict=True))), facts)


def make_examples(
    films: AblationFilms, tokenizer: Tokenizer, seed: int, tasks: Sequence[str]
) -> Iterator[Example]:
    """Examples without end, study by study, the tasks and languages in turn."""
    chooser = random.Random(seed)  # noqa: S311 - what is asked, not secrets
    number = 0
    while True:
        study, task = number % len(films.facts), tasks[number % len(tasks)]
        number += 1
        asked = task, chooser.choice(LANGUAGES)
        try:
            yield write_example(films.facts, study, asked, chooser, tokenizer)
        except ValueError:  # nothing on this study to ask for
            continue


def answer_losses(
    network: FirstreadMini, films: AblationFilms, batch: Sequence[Example]
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of the answers' tokens and whether each is the likeliest [n, t], and which tokens count [n, t]."""
    rows = torch.tensor([one.study for one in batch])
    task = torch.tensor([network.config.tasks.index(one.task) for one in batch])
    read, none = films.read.rows(rows), torch.zeros(len(batch))
    boxes = torch.tensor([one.box for one in batch])
    empty = torch.zeros_like(read.presence), none, torch.zeros_like(read.state), none
    joined = network.joiner(read, task, *empty, boxes)
    table = network.language.get_input_embeddings()
    parts, targets = [], []
    for index, one in enumerate(batch):
        film = [joined.film[index]] + ([joined.region[index]] if one.task == "identify" else [])
        parts.append(torch.cat([*film, table(torch.tensor(one.prompt + one.answer[:-1]))]))
        targets.append([PAD_ID] * (len(parts[-1]) - len(one.answer)) + one.answer)
    longest = max(map(len, targets))
    embeddings = torch.stack([functional.pad(part, (0, 0, 0, longest - len(part))) for part in parts])
    target = torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in targets])
    states = network.language.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    counted = target != PAD_ID
    logits = network.language.lm_head(states)
    losses = functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    return losses, logits.argmax(dim=-1) == target, counted


def single_config(config: ConnectorConfig) -> ConnectorConfig:
    """One expert with as many parameters as the mixture that ``config`` describes."""
    wanted = _size(Connector(config))
    low, high = 1, 64 * config.expert_hidden
    while low < high:
        middle = (low + high) // 2
        if _size(Connector(replace(config, num_experts=1, expert_hidden=middle))) < wanted:
            low = middle + 1
        else:
            high = middle
    return replace(config, num_experts=1, expert_hidden=low)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def train_arm(
    start: FirstreadMini,
    config: ConnectorConfig,
    films: AblationFilms,
    tokenizer: Tokenizer,
    steps: int,
    seed: int,
) -> FirstreadMini:
    """One arm: a fresh connector, then ``steps`` steps on the examples of ``seed``."""
    torch.manual_seed(seed)
    network = copy.deepcopy(start)
    network.joiner.connector = Connector(config)
    learned = [*network.joiner.parameters(), *network.language.parameters()]
    optimizer = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.97))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    source = make_examples(films, tokenizer, seed, _ASKED)
    network.train()
    for _ in range(steps):
        losses, _right, counted = answer_losses(network, films, [next(source) for _ in range(BATCH)])
        optimizer.zero_grad()
        torch.autograd.backward((losses * counted).sum() / counted.sum())
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def examine(network: FirstreadMini, films: AblationFilms, examples: Sequence[Example]) -> Floats:
    """Cross-entropy per token and whether the whole answer is right: [n, 2]."""
    rows = []
    for start in range(0, len(examples), BATCH):
        losses, right, counted = answer_losses(network, films, examples[start : start + BATCH])
        mean = (losses * counted).sum(dim=1) / counted.sum(dim=1)
        rows.append(torch.stack([mean, (right | ~counted).all(dim=1).float()], dim=1).numpy())
    return np.concatenate(rows)


def interval(difference: Floats, studies: NDArray[np.int64]) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval, whole studies drawn."""
    generator = np.random.default_rng(0)
    names = np.unique(studies)
    sums = np.array([[difference[studies == name].sum(), (studies == name).sum()] for name in names])
    drawn = sums[generator.integers(len(names), size=(RESAMPLES, len(names)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


def main() -> None:
    """Train both arms and print the table, then one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="the trainer's cache of rendered studies")
    parser.add_argument("--unseen", type=Path, default=None, help="folder that keeps the unseen studies")
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    start, tokenizer = load_mini(chosen.model), load_tokenizer(chosen.model)
    samples: list[ShardSample] = []
    for path in sorted((chosen.cache / "ct").glob("*.npz")):
        shard = load_shard(path)
        samples += [shard.sample(index) for index in range(len(shard))]
        if len(samples) >= chosen.films:
            break
    learned = read_films(start, samples[: chosen.films])
    kept = read_films(start, unseen_studies(chosen.studies, start.config.vision.image_size, chosen.unseen))
    source = make_examples(kept, tokenizer, 1, _ASKED)
    examples = [next(source) for _ in range(chosen.studies * len(_ASKED))]
    moe = start.config.connector
    arms = {"mixture": moe, "single": single_config(moe)}
    results = {}
    for name, config in arms.items():
        print(f"{name}: {_size(Connector(config)):,} parameters in the connector", flush=True)
        network = train_arm(start, config, learned, tokenizer, chosen.steps, chosen.seed)
        results[name] = examine(network, kept, examples)
    print(f"{chosen.steps} steps of {BATCH} texts, {len(samples[: chosen.films])} films, seed {chosen.seed}")
    _print_table(results, examples)


def _print_table(results: dict[str, Floats], examples: Sequence[Example]) -> None:
    single, mixture = results["single"], results["mixture"]
    tasks, studies = np.array([one.task for one in examples]), np.array([one.study for one in examples])
    head = f"  {'task':<17}{'n':>5}{'single':>9}{'mixture':>9}"
    print(f"{head}{'mixture - single, loss per token':>36}{'answers right':>33}")
    table: dict[str, dict[str, object]] = {}
    for task in (*_ASKED, "all"):
        rows = np.ones(len(tasks), bool) if task == "all" else tasks == task
        loss = interval((mixture - single)[rows, 0], studies[rows])
        right = interval((mixture - single)[rows, 1], studies[rows])
        table[task] = {"single": single[rows].mean(axis=0).round(4).tolist(), "loss": loss, "right": right}
        table[task]["mixture"] = mixture[rows].mean(axis=0).round(4).tolist()
        shown = [f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]" for mean, low, high in (loss, right)]
        means = single[rows, 0].mean(), mixture[rows, 0].mean()
        print(f"  {task:<17}{rows.sum():>5}{means[0]:>9.4f}{means[1]:>9.4f}{shown[0]:>36}{shown[1]:>33}")
    print(json.dumps({"ablation": table}))


if __name__ == "__main__":
    main()
