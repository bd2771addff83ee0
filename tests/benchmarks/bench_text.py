"""Text of a brought family on the CPU: this checkout against an older one, and against transformers itself.

    python -m tests.benchmarks.bench_text OLD_CHECKOUT [--layers N] [--studies N] [--tokens N] [--rounds N]
        [--kept FOLDER [--side NAME ...]] [--first]

A Qwen2.5-VL with random weights (24 layers of the width of Qwen2.5-0.5B: 494 million parameters of text), a film a
study. Each side answers in a process of its own, in turns; the films are encoded before the clock starts. Printed are
the seconds to the last token and to the first token of a whole batch, with those of CPU, and whether the tokens are the
same (an older checkout may ask in other words). transformers has two sides: ``generate`` in batches of 16 on the
network as it loads it, and its continuous batching, which takes no images: the same language model without them reads
prompts of the same length. The bars are 0.5 of the old time for the whole, 0.6 to the first token, and no more than
transformers' time. OLD_CHECKOUT needs a .venv.

``--kept`` keeps network and results in FOLDER, so that sides can be run one after another, on other days too, and what
is there is not run again. ``--first`` leaves the whole texts out: the time to the first token alone, of 16 studies.
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
if side in ("transformers", "continuous"):
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
    if side in ("transformers", "continuous"):
        family._batch = 16
    took, parts = {}, [("first", 1), ("first", 1)] + [("whole", tokens)] * (tokens > 1)
    network = family._loaded.network
    if side == "continuous":
        prompts, generate = [], network.generate
        network.generate = lambda **given: (
            prompts.extend(row[kept.bool()].tolist() for row, kept in zip(given["input_ids"], given["attention_mask"])),
            generate(**given),
        )[1]
        family._limit = 1
        family.answer(features, [Request()] * studies)
        import torch, transformers
        stored = network.config.text_config.to_dict() | {"model_type": "qwen2"}
        own = {name: value for name, value in stored.items() if name not in ("rope_parameters", "layer_types")}
        config = transformers.Qwen2Config(**own)
        with torch.device("meta"):
            plain = transformers.Qwen2ForCausalLM(config)
        plain.model.load_state_dict(network.model.language_model.state_dict(), assign=True)
        plain.lm_head.weight = plain.model.embed_tokens.weight
        plain.model.rotary_emb = type(plain.model.rotary_emb)(config)
        plain.eval()
        most = transformers.ContinuousBatchingConfig(max_memory_percent=0.1)
    for name, limit in parts:
        family._limit = limit
        written.clear()
        began, used = time.perf_counter(), time.process_time()
        if side == "continuous":
            settings = transformers.GenerationConfig(
                max_new_tokens=limit, do_sample=False, eos_token_id=-1, pad_token_id=0
            )
            done = plain.generate_batch(prompts, generation_config=settings, continuous_batching_config=most)
            written.extend(one.generated_tokens for one in done.values())
        else:
            family.answer(features, [Request()] * studies)
        took[name] = (time.perf_counter() - began, time.process_time() - used)
    print(json.dumps({"took": took, "rows": sorted(written)}))
"""
SIDES = ("old", "new", "transformers", "continuous")


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


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, list[Any]]:
    """What each side measured, by round; what ``folder`` keeps of these sizes is not measured again."""
    weights, here = folder / f"weights-{asked.layers}", Path.cwd()
    if not weights.exists():
        write(weights, asked.layers)
    found: dict[str, list[Any]] = {name: [] for name in SIDES}
    for number in range(asked.rounds):
        for name in SIDES:
            sizes = (asked.layers, asked.studies, asked.tokens, number)
            kept = folder / f"{name}-{'-'.join(map(str, sizes))}.json"
            if not kept.exists() and name in asked.side:
                checkout = asked.old.resolve() if name == "old" else here
                told = answered(name, checkout, weights, folder / f"cache-{name}", asked)
                kept.write_text(json.dumps(told))
            if kept.exists():
                found[name].append(json.loads(kept.read_text()))
    return {name: rounds for name, rounds in found.items() if rounds}


def report(found: dict[str, list[Any]]) -> bool:
    """Print the table; True where no bar between sides that were measured is missed."""
    same = {name: rounds[0]["rows"] == found["new"][0]["rows"] for name, rounds in found.items()}
    middle = {
        (name, part): [statistics.median(one["took"][part][kind] for one in rounds) for kind in (0, 1)]
        for name, rounds in found.items()
        for part in rounds[0]["took"]
    }
    held = []
    for part, word, bar in (("whole", "last", 0.5), ("first", "first", 0.6)):
        for name in found:
            if (name, part) not in middle:
                continue
            (wall, used), mine = middle[name, part], middle["new", part]
            tokens = "other prompts" if name == "continuous" else ("the same" if same[name] else "OTHERS")
            print(
                f"to the {word} token, {name}: {wall:.2f} s, CPU {used:.2f} s; new is {mine[0] / wall:.2f} of it, CPU "
                f"{mine[1] / used:.2f}; tokens: {tokens}"
            )
            if name == "old":
                held.append(mine[0] <= bar * wall)
            elif name != "new" and part == "whole":
                held.append(mine[0] <= wall)
    return all(held) and same.get("transformers", True)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    for name, usual in (("--layers", 24), ("--studies", 16), ("--tokens", 200), ("--rounds", 1)):
        parser.add_argument(name, type=int, default=usual)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--side", action="append", choices=SIDES)
    parser.add_argument("--first", action="store_true")
    asked = parser.parse_args()
    asked.side = asked.side or SIDES
    asked.tokens = 1 if asked.first else asked.tokens
    if asked.kept:
        asked.kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        found = measure(asked.kept or Path(home), asked)
    if "new" not in found:
        return 1  # nothing to compare with yet
    return 0 if report(found) else 1


if __name__ == "__main__":
    sys.exit(main())
