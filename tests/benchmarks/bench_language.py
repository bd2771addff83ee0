"""Drafting text on the CPU: ours against transformers ``generate``, same weights, same prompts, same tokens.

    python -m tests.benchmarks.bench_language [--weights FOLDER] [--rounds 5] [--studies 16] [--threads 0]

Both sides write the reports of the same simulated films in one process, in turn, with the end token
respected, so that rows end at different lengths; processor time is the steadier figure on a busy machine.
transformers runs with one torch thread and with every core; the better one counts. Prints studies per second,
tokens per second and ratios (medians over the rounds), our batch of 16 against ``generate`` one by one, and what
unequal lengths cost: the time of the drafts against that of the same prompts written on, whatever ends them, until
every row has the drafts' mean length. That is told of one batch alone, where the last texts leave a step with little
to do, and of batches as the pipeline writes them, so many at a time that the rows of one follow those of another;
the bar is on the second, the ends of the first and last batches included. Exits with 1 below a bar or when a token
differs.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from models.families.mini.export import load_network
from models.families.mini.mini_family import BATCHES_TOGETHER
from models.networks.mini import EOS_ID, FirstreadMini, prompt_ids
from models.runners.decoder_graph import build_decoder, shape_of
from models.runners.language import Floats, OnnxLanguageModel, TransformersLanguageModel
from models.runners.written_text import WrittenText
from models.simulation.film import MAX_VALUE, render
from pipeline.settings import ModelSettings

BATCHES = (1, 4, 16)
BAR = {1: 2.5, 4: 2.5}
ONE_BY_ONE_BAR, MOST_LOST = 8.0, 0.15
PIPELINE_BATCHES = 6
PIPELINE_BATCH: int = ModelSettings.model_fields["generate_batch"].default
NO_TOKEN = -1
Write = Callable[[list[Floats]], list[WrittenText]]


def real_prompts(network: FirstreadMini, studies: int) -> list[Floats]:
    """Prompts of simulated films: visual tokens, then the task and language tokens."""
    size = network.config.vision.image_size
    films = [render(seed, size=size, held_out=True).pixels / MAX_VALUE for seed in range(studies)]
    pixels = torch.from_numpy(np.stack(films).astype(np.float32))[:, None]
    with torch.inference_mode():
        features, _ = network.encode(pixels, network.task_index("report", studies))
        words = network.language.get_input_embeddings()(torch.tensor(prompt_ids()))
    return [torch.cat([row, words]).numpy() for row in features]


def onnx_side(network: FirstreadMini, threads: int, end: int = EOS_ID) -> OnnxLanguageModel:
    """Our path over the same weights; no row ends before its limit where ``end`` is no token."""
    weights = {name: tensor.numpy() for name, tensor in network.language.state_dict().items()}
    shape = shape_of(network.language.config)
    graph = build_decoder(shape, weights).SerializeToString()
    return OnnxLanguageModel(graph, weights["model.embed_tokens.weight"], shape, end, threads=threads)


def timed(write: Write, prompts: list[Floats], batch: int) -> tuple[float, float, list[WrittenText]]:
    """Seconds and processor seconds to write every prompt in batches of ``batch``, and the texts."""
    started, busy = time.perf_counter(), time.process_time()
    texts = [
        text for start in range(0, len(prompts), batch) for text in write(prompts[start : start + batch])
    ]
    return time.perf_counter() - started, time.process_time() - busy, texts


def compare(network: FirstreadMini, rounds: int, studies: int, threads: int) -> bool:
    """Print the table; True when every bar holds and every token is the same."""
    limit, prompts = network.config.max_new_tokens, real_prompts(network, studies)
    reference, ours = TransformersLanguageModel(network.language, EOS_ID), onnx_side(network, threads)
    cores = len(os.sched_getaffinity(0))

    def transformers_on(count: int) -> Write:
        def write(rows: list[Floats]) -> list[WrittenText]:
            torch.set_num_threads(count)
            return reference.write(rows, limit)

        return write

    sides: dict[str, Write] = {"ours": lambda rows: ours.write(rows, limit)}
    sides |= {f"transformers, {count} threads": transformers_on(count) for count in sorted({1, cores})}
    good, one_by_one = True, 0.0
    for batch in BATCHES:
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        busy: dict[str, list[float]] = {name: [] for name in sides}
        texts: dict[str, list[WrittenText]] = {}
        for _ in range(rounds):
            for name, write in sides.items():
                took, worked, texts[name] = timed(write, prompts, batch)
                seconds[name].append(took)
                busy[name].append(worked)
        tokens = sum(len(text.ids) + (not text.truncated) for text in texts["ours"])
        same = all(written == texts["ours"] for written in texts.values())
        best = min(statistics.median(values) for name, values in seconds.items() if name != "ours")
        ratio = best / statistics.median(seconds["ours"])
        one_by_one = one_by_one or best
        for name, values in seconds.items():
            middle = statistics.median(values)
            print(
                f"batch {batch:2}  {name:26} {studies / middle:8.1f} studies/s {tokens / middle:9.0f} tokens/s"
                f"  [{tokens / max(values):.0f}-{tokens / min(values):.0f}]"
                f"  {1000 * statistics.median(busy[name]) / studies:6.1f} ms of processor a study"
            )
        bar = BAR.get(batch)
        good = good and same and (bar is None or ratio >= bar)
        wanted = f" (bar {bar})" if bar else ""
        print(f"batch {batch:2}  ratio {ratio:.1f}{wanted}, tokens {'the same' if same else 'DIFFERENT'}\n")
    whole = one_by_one / statistics.median(seconds["ours"])
    print(
        f"ours, batch {BATCHES[-1]}, against generate one by one: ratio {whole:.1f} (bar {ONE_BY_ONE_BAR:.0f})"
    )
    lost = print_lost(network, ours, onnx_side(network, threads, NO_TOKEN), rounds)
    return good and whole >= ONE_BY_ONE_BAR and lost <= MOST_LOST


def print_lost(
    network: FirstreadMini, ours: OnnxLanguageModel, endless: OnnxLanguageModel, rounds: int
) -> float:
    """Print what unequal lengths cost one batch alone, and batches written as the pipeline does; gives the latter."""
    limit, prompts = network.config.max_new_tokens, real_prompts(network, PIPELINE_BATCHES * PIPELINE_BATCH)
    batches = [prompts[start : start + PIPELINE_BATCH] for start in range(0, len(prompts), PIPELINE_BATCH)]
    lost = 0.0
    for what, written, together in (
        (f"a batch of {BATCHES[-1]} alone", [prompts[: BATCHES[-1]]], 1),
        (f"a batch of {PIPELINE_BATCH} alone", batches[:1], 1),
        (
            f"{len(batches)} batches of {PIPELINE_BATCH}, {BATCHES_TOGETHER} at a time",
            batches,
            BATCHES_TOGETHER,
        ),
    ):
        lengths = [len(text.ids) for rows in written for text in ours.write(rows, limit)]
        lost = lost_to_unequal_lengths(ours, endless, written, lengths, limit, rounds, together)
        bar = f" (at most {100 * MOST_LOST:.0f} %)" if together == BATCHES_TOGETHER else ""
        print(
            f"{what}, texts of {min(lengths)}-{max(lengths)} tokens: "
            f"{100 * lost:.1f} % lost to unequal lengths{bar}"
        )
    return lost


def lost_to_unequal_lengths(
    ours: OnnxLanguageModel,
    endless: OnnxLanguageModel,
    batches: list[list[Floats]],
    lengths: list[int],
    limit: int,
    rounds: int,
    together: int,
) -> float:
    """Share of the tokens per second that ``batches`` of equal lengths write and these do not.

    Both sides keep ``together`` batches in flight, as ``flows.drain`` does: when one is done the next is begun.
    ``endless`` writes every prompt to the mean length, so that both write as many tokens at like places. The time to
    read the prompts and choose the first token is measured in the same way and taken off both.
    """
    mean = round(sum(lengths) / len(lengths))
    sides: dict[str, Write] = {
        "first": lambda rows: ours.write(rows, 1),
        "equal": lambda rows: endless.write(rows, mean),
        "drafts": lambda rows: ours.write(rows, limit),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with ThreadPoolExecutor(together) as parcels:
        for _ in range(3 * rounds):
            for name, write in sides.items():
                started = time.perf_counter()
                list(parcels.map(write, batches))
                seconds[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    equal = len(lengths) * (mean - 1) / (middle["equal"] - middle["first"])
    # an end token is chosen like any other, and the first token is in neither count
    whole = sum(lengths) / (middle["drafts"] - middle["first"])
    return 1 - whole / equal


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=Path("models/weights/firstread-mini"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--studies", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    sys.exit(0 if compare(load_network(asked.weights), asked.rounds, asked.studies, asked.threads) else 1)


if __name__ == "__main__":
    main()
