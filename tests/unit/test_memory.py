"""What fits, with free memory given as numbers."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from models.catalog import list_models, show
from models.families.checked_weights import check_brought
from models.families.guarded import GuardedFamily
from models.families.registry import open_family
from models.family import Answer, Features, Request, Task
from models.model_choice import ModelChoice
from models.weight_loading.memory import (
    GIB,
    DecoderSize,
    FreeMemory,
    Need,
    Precision,
    check_memory,
    choose_precision,
    decoder_size,
    explaining_out_of_memory,
    free_memory,
    is_out_of_memory,
    what_fits,
)
from pipeline.errors import ConfigurationError, StopRun
from tests.tiny_qwen import write_qwen
from tests.tiny_text import write_text_model

YI_34B = DecoderSize(layers=60, kv_heads=8, head_width=128, positions=4096)


def gpu(gib: float) -> FreeMemory:
    return FreeMemory("cuda", int(gib * GIB))


def need_of(model: str, precision: Precision, batch: int = 1) -> Need:
    return Need(round(show(model).parameters * 1e9), precision, YI_34B, batch)


@pytest.mark.parametrize(
    ("free", "words", "not_words"),
    [
        (78, 'model.precision = "int8" would fit', "int4"),
        (24, 'model.precision = "int4" would fit', "int8"),
        (12, "nothing smaller fits here", "model.precision"),
    ],
)
def test_medrega_on_a_gpu(free: float, words: str, not_words: str) -> None:
    with pytest.raises(ConfigurationError, match=r"medrega needs about .* GiB of the GPU's memory") as caught:
        check_memory("medrega", need_of("medrega", Precision.BF16), gpu(free))
    assert words in caught.value.message
    assert not_words not in caught.value.message
    assert "endpoint" in caught.value.message
    check_memory("medrega", need_of("medrega", Precision.BF16), gpu(96))


def test_a_smaller_batch_is_offered() -> None:
    need = need_of("lingshu-7b", Precision.BF16, batch=32)
    with pytest.raises(ConfigurationError, match=r"model.generate_batch = 8 would fit"):
        check_memory("lingshu-7b", need, gpu(22))


def test_a_cpu_is_not_offered_what_it_cannot_do() -> None:
    with pytest.raises(
        ConfigurationError, match=r'main memory.*model.precision = "bf16" would fit'
    ) as caught:
        check_memory("lingshu-7b", need_of("lingshu-7b", Precision.FP32), FreeMemory("cpu", 20 * GIB))
    assert "int" not in caught.value.message.replace("endpoint", "")


@pytest.mark.parametrize(
    "free", [gpu(gib) for gib in (1, 8, 16, 24, 48, 80, 1000)], ids=lambda one: f"{one.bytes >> 30}"
)
def test_what_is_offered_fits(free: FreeMemory) -> None:
    for entry in list_models():
        need = Need(round(entry.parameters * 1e9), Precision.BF16)
        if need.total <= free.bytes:
            check_memory(entry.id, need, free)
            continue
        advice = what_fits(need, free)
        for precision in (Precision.INT8, Precision.INT4):
            if f'"{precision}" would fit' in advice:
                assert Need(need.parameters, precision).total <= free.bytes


@pytest.mark.parametrize(
    ("setting", "on_gpu", "chosen"),
    [("auto", False, Precision.FP32), ("auto", True, Precision.BF16), ("bf16", False, Precision.BF16)],
)
def test_precisions(setting: str, on_gpu: bool, chosen: Precision) -> None:
    assert choose_precision(setting, on_gpu=on_gpu) is chosen


@pytest.mark.parametrize(("setting", "advice"), [("fp8", "one of auto"), ("", "one of auto")])
def test_precisions_that_cannot_be_had(setting: str, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        choose_precision(setting, on_gpu=False)


def test_eight_bits_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="bitsandbytes"):
        choose_precision("int8", on_gpu=True)


def test_the_decoder_of_a_configuration() -> None:
    text = {"num_hidden_layers": 60, "num_key_value_heads": 8, "num_attention_heads": 56, "hidden_size": 7168}
    assert decoder_size({"text_config": {**text, "max_position_embeddings": 4096}}) == YI_34B
    assert decoder_size({"n_layer": 2, "n_head": 4, "n_embd": 32}) == DecoderSize(2, 4, 8, 0)
    assert decoder_size({"text_config": [], "num_hidden_layers": True}) == DecoderSize()
    # two numbers of two bytes per layer, head, width and position
    assert YI_34B.cache_bytes(2, 100) == 2 * 2 * 60 * 8 * 128 * 2 * 100


def test_running_out_says_what_would_fit() -> None:
    need = need_of("medrega", Precision.BF16)
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("can't allocate memory: x"),
    ):
        said = pytest.raises(StopRun, match=r'ran out of memory: model.precision = "int8" would fit')
        with said, explaining_out_of_memory("medrega", need, gpu(96)):
            raise error
    with pytest.raises(RuntimeError, match="another"), explaining_out_of_memory("medrega", need, gpu(96)):
        raise RuntimeError("another fault")


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_a_brought_model_is_weighed_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_text_model(tmp_path)
    check_brought(show("text-llm"), folder, precision="auto", sha256="")
    assert free_memory().bytes > GIB
    monkeypatch.setattr("models.families.checked_weights.free_memory", lambda: FreeMemory("cpu", 1000))
    with pytest.raises(ConfigurationError, match="text-llm needs about"):
        check_brought(show("text-llm"), folder, precision="auto", sha256="")


def test_the_runner_of_a_tower_is_weighed_where_it_is_named(tmp_path: Path) -> None:
    folder, entry = write_qwen(tmp_path / "qwen", "qwen2.5-vl"), show("lingshu-7b")
    plain, named = (
        check_brought(entry, folder, precision="fp32", sha256="", runner=runner).need
        for runner in ("", "openvino-cpu")
    )
    with safe_open(folder / "model.safetensors", framework="np") as held:
        tower = sum(held.get_tensor(name).size for name in held.keys() if "visual" in name)  # noqa: SIM118
    assert named.total - plain.total == 2 * 4 * tower > 0
    fits = FreeMemory("cpu", plain.total)
    with pytest.raises(ConfigurationError, match=r"without model\.require_runner it would fit"):
        check_memory("lingshu-7b", named, fits)
    check_memory("lingshu-7b", plain, fits)


def test_a_family_that_runs_out_says_what_would_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_text_model(tmp_path)
    family = open_family(
        show("text-llm"), ModelChoice("text-llm", folder, accept_use_limits=True, precision="bf16"), tmp_path
    )
    assert isinstance(family, GuardedFamily)
    assert family.parts["precision"] == "bfloat16"
    requests = [Request(Task.TEXT_QA, question="Why?")] * 8
    with family:
        features = family.encode([])
        assert features == []
        nothing = [Features((), {})] * 8

        def fail(*given: object) -> list[Answer]:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(family.family, "answer", fail)
        with pytest.raises(StopRun, match=r"text-llm ran out of memory: .*endpoint") as caught:
            family.answer(nothing, requests)
        assert caught.value.code == "memory"


def test_running_out_while_loading_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object, **named: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("models.families.text.text_family.load_text_model", fail)
    with pytest.raises(StopRun, match="ran out of memory"):
        open_family(
            show("text-llm"),
            ModelChoice("text-llm", write_text_model(tmp_path), accept_use_limits=True),
            tmp_path,
        )
