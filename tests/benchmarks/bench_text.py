"""Text of a brought family on the CPU: this checkout against an older one, and against transformers itself.

    python -m tests.benchmarks.bench_text OLD_CHECKOUT [--layers N] [--studies N] [--tokens N] [--rounds N]

A Qwen2.5-VL with random weights (24 layers of the width of Qwen2.5-0.5B: 494 million parameters of text), a film a
study. Each side answers in a process of its own, in turns; the films are encoded before the clock starts. Printed are
the seconds to the last token and to the first token of a whole batch, with those of CPU, and whether the tokens are the
same. transformers' side is ``generate`` in batches of 16 on the network as it loads it. The bars are 0.5 of the
old time for the whole, 0.6 to the first token, and no more than transformers' time. OLD_CHECKOUT needs a .venv.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils.logging import disable_progress_bar

from tests.tiny_qwen import build_tokenizer, write_qwen

SIDE = """
import json, os, sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import numpy as np
from models.drafter import ModelChoice, Request, open_model
from pipeline.study import ImageSet, InstanceRef, StudyImage
import models.families.native.chat as chat
side, folder, cache = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
studies, tokens = int(sys.argv[4]), int(sys.argv[5])
written, given = [], []
own = chat.until_end
chat.until_end = lambda row, ends: (written.append(list(row)), own(row, ends))[1]
if side == "transformers":
    import models.runners.packed_products as packed
    packed.can_pack = lambda: False
films = []
for number in range(studies):
    noise = np.random.default_rng(number).random((420, 336 + 28 * (number % 3)), np.float32)
    ref = InstanceRef("1.2", "1.3", f"1.4.{number}")
    films.append(ImageSet("1.2", (StudyImage(ref, 0, noise, *noise.shape, None, "DX", "CHEST", "PA", "MONOCHROME2"),)))
with open_model(ModelChoice("lingshu-7b", folder, accept_use_limits=True), cache) as opened:
    family = getattr(opened, "family", opened)
    features = [one for film in films for one in family.encode([film])]
    if side == "transformers":
        family._batch = 16
    took = {}
    for name, limit in (("first", 1), ("first", 1), ("whole", tokens)):
        family._limit = limit
        written.clear()
        began, used = time.perf_counter(), time.process_time()
        family.answer(features, [Request()] * studies)
        took[name] = (time.perf_counter() - began, time.process_time() - used)
    print(json.dumps({"took": took, "rows": sorted(written)}))
"""


def write(folder: Path, layers: int) -> None:
    """The network, in bfloat16, its tokenizer and its preprocessing."""
    write_qwen(folder, "qwen2.5-vl", 600_000)
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored["text_config"].pop("layer_types", None)
    stored["text_config"] |= {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": layers, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    }  # fmt: skip
    stored["vision_config"] |= {"out_hidden_size": 896}
    stored["tie_word_embeddings"] = True
    disable_progress_bar()
    torch.manual_seed(1)
    network: Any = transformers.Qwen2_5_VLForConditionalGeneration(transformers.Qwen2_5_VLConfig(**stored))
    network.to(torch.bfloat16).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


def answered(side: str, checkout: Path, folder: Path, cache: Path, asked: argparse.Namespace) -> Any:
    """What one side measured in a process of its own."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python), "-c", SIDE, side, str(folder), str(cache), str(asked.studies), str(asked.tokens)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    for name, usual in (("--layers", 24), ("--studies", 16), ("--tokens", 200), ("--rounds", 3)):
        parser.add_argument(name, type=int, default=usual)
    asked = parser.parse_args()
    here = Path.cwd()
    sides = {"old": asked.old.resolve(), "new": here, "transformers": here}
    found: dict[str, list[Any]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "weights"
        write(folder, asked.layers)
        for _ in range(asked.rounds):
            for name, checkout in sides.items():
                found[name].append(answered(name, checkout, folder, Path(home) / name, asked))
    same = {name: rounds[0]["rows"] == found["new"][0]["rows"] for name, rounds in found.items()}
    figures = {
        (name, part, kind): statistics.median(one["took"][part][kind] for one in rounds)
        for name, rounds in found.items()
        for part in ("first", "whole")
        for kind in (0, 1)
    }
    for part, word in (("whole", "last"), ("first", "first")):
        for name in sides:
            wall, used = figures[name, part, 0], figures[name, part, 1]
            share = figures["new", part, 0] / wall
            print(
                f"to the {word} token, {name}: {wall:.2f} s, CPU {used:.2f} s; new is {share:.2f} of it, CPU "
                f"{figures['new', part, 1] / used:.2f}; tokens {'the same' if same[name] else 'OTHERS'}"
            )
    fast = figures["new", "whole", 0] <= 0.5 * figures["old", "whole", 0]
    first = figures["new", "first", 0] <= 0.6 * figures["old", "first", 0]
    never = figures["new", "whole", 0] <= figures["transformers", "whole", 0]
    return 0 if fast and first and never and all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
