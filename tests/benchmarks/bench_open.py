"""Opening an unchanged family a second time: this checkout against an older one.

    python -m tests.benchmarks.bench_open OLD_CHECKOUT [--millions N] [--rounds N]

A causal language model with random weights, opened once by each so that whatever is kept is kept, then again in fresh
processes, in turns. The files are in the page cache. ``open_model`` alone is timed, without imports. The bar is 0.5.
 OLD_CHECKOUT needs a .venv of its own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny_text import build_tokenizer

OPEN = """
import sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from models.drafter import ModelChoice, open_model
import torch, transformers
transformers.LlamaForCausalLM
began, used = time.perf_counter(), time.process_time()
choice = ModelChoice("text-llm", Path(sys.argv[1]), accept_use_limits=True)
with open_model(choice, Path(sys.argv[2])):
    print(time.perf_counter() - began, time.process_time() - used)
"""


def write(folder: Path, millions: int) -> None:
    """A Llama of about ``millions`` of parameters, in bfloat16."""
    tokenizer = build_tokenizer()
    width, layers = 1024, max(1, millions // 13)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2816, num_hidden_layers=layers,
        num_attention_heads=16, num_key_value_heads=16, max_position_embeddings=4096,
    )  # fmt: skip
    network: Any = LlamaForCausalLM(config)
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def opened(checkout: Path, folder: Path, cache: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of one opening in a process of its own."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python), "-c", OPEN, str(folder), str(cache)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    wall, used = done.stdout.split()[-2:]
    return float(wall), float(used)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("--millions", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    sides = {"old": asked.old.resolve(), "new": Path.cwd()}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "weights"
        write(folder, asked.millions)
        time.sleep(6)  # a file of this moment is not kept
        for name, checkout in sides.items():
            opened(checkout, folder, Path(home) / name)
        for _ in range(asked.rounds):
            for name, checkout in sides.items():
                took[name].append(opened(checkout, folder, Path(home) / name))
    wall = {name: statistics.median(one[0] for one in pairs) for name, pairs in took.items()}
    used = {name: statistics.median(one[1] for one in pairs) for name, pairs in took.items()}
    for name in sides:
        spread = [one[0] for one in took[name]]
        print(f"{name}: {wall[name]:.2f} s [{min(spread):.2f}-{max(spread):.2f}], CPU {used[name]:.2f} s")
    print(
        f"second opening: {wall['new'] / wall['old']:.2f} of the old wall time, CPU {used['new'] / used['old']:.2f}"
    )
    return 0 if wall["new"] <= 0.5 * wall["old"] else 1


if __name__ == "__main__":
    sys.exit(main())
