"""The decoder graph and its loop against transformers, token for token."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from models.runners.decoder_graph import build_decoder, shape_of
from models.runners.language import Floats, OnnxLanguageModel
from models.runners.row_batch import RowBatch, TextRow
from models.runners.written_text import WrittenText
from tests.small_llama import END, NO_TOKEN, cut, onnx_twin, prompts_of, references, small_llama

torch.set_num_threads(1)


@pytest.mark.parametrize(("kv_heads", "tied"), [(4, True), (2, False)])
@pytest.mark.parametrize("count", [1, 4, 16])
def test_same_tokens_as_generate(kv_heads: int, tied: bool, count: int) -> None:
    network = small_llama(kv_heads=kv_heads, tied=tied)
    prompts = prompts_of([20] * count)
    reference = references(network, prompts, 40)
    assert len({text.ids for text in reference}) == count, (
        "the reference texts must differ for this test to mean anything"
    )
    with onnx_twin(network) as language:
        assert language.write(prompts, 40) == reference


def test_unequal_prompts_and_unequal_ends() -> None:
    network = small_llama()
    prompts = prompts_of([3, 30, 11, 11, 24, 1, 17, 29] * 3, seed=5)
    reference = references(network, prompts, 120)
    lengths = {len(text.ids) for text in reference}
    assert len(lengths) > 4, "rows must leave the batch at different steps"
    assert any(not text.truncated for text in reference)
    with onnx_twin(network) as language:
        assert language.write(prompts, 120) == reference


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    network = small_llama(seed=3)
    prompts = prompts_of([5, 18, 18, 40, 9, 18, 2, 33, 18, 18, 21, 8, 18, 30, 12, 18], seed=9)
    with onnx_twin(network, threads=2) as language:
        together = language.write(prompts, 60)
        alone = [language.write([prompt], 60)[0] for prompt in prompts]
        assert alone == together
    with onnx_twin(network, batch=3) as language:
        assert language.write(prompts, 60) == together


def test_logits_of_a_row_are_the_same_bits_in_any_batch() -> None:
    network = small_llama(seed=3)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    shape = shape_of(network.config)
    session = ort.InferenceSession(
        build_decoder(shape, weights).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    table = weights["model.embed_tokens.weight"]
    prompts = prompts_of(sorted([18] * 9 + [4, 4, 30, 1, 7, 7, 7]), seed=2)

    def read(prompts: Sequence[Floats]) -> Floats:
        batch = RowBatch(session, table, shape, END)
        batch.join([TextRow(prompt, 1) for prompt in prompts])
        return batch.read_prompts()

    together = read(prompts)
    for row, prompt in enumerate(prompts):
        alone = read([prompt])
        np.testing.assert_array_equal(alone[0], together[row])


PROMPTS = 24
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 4), st.integers(1, 90)),
        st.tuples(st.just("step"), st.integers(1, 25), st.just(0)),
        st.tuples(st.just("halve"), st.just(0), st.just(0)),
    ),
    min_size=4,
    max_size=20,
)


@pytest.fixture(scope="module")
def network() -> LlamaForCausalLM:
    return small_llama()


@pytest.fixture(scope="module")
def prompts() -> list[Floats]:
    return prompts_of([3, 30, 11, 11, 24, 1, 17, 29] * (PROMPTS // 8), seed=5)


@pytest.fixture(scope="module")
def reference(network: LlamaForCausalLM, prompts: list[Floats]) -> list[WrittenText]:
    return references(network, prompts, 120)


@pytest.fixture(scope="module")
def language(network: LlamaForCausalLM) -> Iterator[OnnxLanguageModel]:
    with onnx_twin(network) as language:
        yield language


@settings(max_examples=40, deadline=None)
@given(plan=STEPS)
def test_rows_that_join_leave_or_are_handed_over_at_any_step(
    language: OnnxLanguageModel, prompts: list[Floats], reference: list[WrittenText], plan: list[Any]
) -> None:
    batches = [language._open_batch()]
    rows: list[TextRow] = []
    done: list[TextRow] = []
    for what, count, limit in plan:
        batch = batches[-1]
        if what == "join":
            joining = [
                TextRow(prompts[len(rows) + more], limit)
                for more in range(count)
                if len(rows) + more < PROMPTS
            ]
            rows += joining
            batch.join(joining)
        for _ in range(count if what == "step" or what == "join" else 0):
            done += [row for one in batches if one.rows for row in one.step()]
        if what == "halve" and len(batch.rows) > 1:
            batches.append(language._open_batch())
            batch.give_half(batches[-1])
    while any(batch.rows for batch in batches):
        done += [row for batch in batches if batch.rows for row in batch.step()]
    assert len(done) == len(rows), "each row leaves once"
    for row, text in zip(rows, reference, strict=False):
        assert WrittenText(tuple(row.ids), not row.ended) == cut(text, row.limit)


def test_memory_begins_small_and_grows_with_rows_and_their_lengths(network: LlamaForCausalLM) -> None:
    prompts = prompts_of([20, 3, 9, 40, 40, 90], seed=7)
    with onnx_twin(network, end=NO_TOKEN) as language:
        alone = language.write(prompts, 160)
        batch = language._open_batch()
        rows = [TextRow(prompt, 160) for prompt in prompts]
        sizes = []
        for joining in (rows[:1], rows[1:3], rows[3:]):
            batch.join(joining)
            for _ in range(15):
                assert not batch.step()
            sizes.append((batch._memory.places, batch._memory.capacity))
        while batch.rows:
            batch.step()
    assert sizes == [(1, 64), (3, 64), (6, 128)]
    assert (batch._memory.places, batch._memory.capacity) == (6, 256), "no more than the model has positions"
    assert [tuple(row.ids) for row in rows] == [text.ids for text in alone]


@pytest.mark.parametrize(("threads", "batch"), [(1, 16), (2, 3), (3, 16)])
def test_calls_at_the_same_time_get_the_texts_of_calls_one_by_one(
    network: LlamaForCausalLM,
    prompts: list[Floats],
    reference: list[WrittenText],
    threads: int,
    batch: int,
) -> None:
    calls = [(start, 1 + start % 5, 7 + 11 * (start % 9)) for start in range(PROMPTS - 5)] * 3
    with onnx_twin(network, threads, batch) as language, ThreadPoolExecutor(len(calls)) as callers:
        writing = [
            callers.submit(language.write, prompts[start : start + count], limit)
            for start, count, limit in calls
        ]
        for (start, count, limit), written in zip(calls, writing, strict=True):
            assert written.result(60) == [cut(text, limit) for text in reference[start : start + count]]


def test_the_limit_is_flagged() -> None:
    network = small_llama()
    prompts = prompts_of([12, 7, 30])
    with onnx_twin(network) as language:
        full = language.write(prompts, 150)
        cut = language.write(prompts, 5)
    for whole, part in zip(full, cut, strict=True):
        assert part.ids == whole.ids[:5]
        assert part.truncated == (len(whole.ids) > 5 or whole.truncated)
    assert any(text.truncated for text in cut)


def test_logits_agree_with_torch() -> None:
    network = small_llama(kv_heads=2)
    prompts = prompts_of([14, 14])
    with torch.no_grad():
        expected = network(inputs_embeds=torch.from_numpy(np.stack(prompts))).logits[:, -1].numpy()
    with onnx_twin(network) as language:
        got = language.first_logits(prompts)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


def test_what_does_not_fit_is_refused() -> None:
    with onnx_twin(small_llama()) as language:
        with pytest.raises(ValueError, match="do not fit"):
            language.write(prompts_of([200]), 57)
        with pytest.raises(ValueError, match="empty"):
            language.write(prompts_of([4, 0]), 5)
        with pytest.raises(ValueError, match="not \\[length, 64\\]"):
            language.write([np.zeros((4, 65), np.float32)], 5)
        assert language.write([], 5) == []


def test_another_architecture_is_refused() -> None:
    config = LlamaConfig(hidden_act="gelu", attention_bias=True)
    with pytest.raises(ValueError, match="hidden_act, attention_bias"):
        shape_of(config)
