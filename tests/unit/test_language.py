"""The decoder graph and its loop against transformers, token for token."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.decoder_graph import build_decoder, shape_of
from models.language import Floats, OnnxLanguageModel, TransformersLanguageModel, WrittenText
from models.row_batch import RowBatch

END = 1
torch.set_num_threads(1)


def small_llama(*, kv_heads: int = 4, tied: bool = True, seed: int = 0) -> LlamaForCausalLM:
    """A Llama whose greedy texts vary and end at different lengths: its embeddings are spread widely."""
    torch.manual_seed(seed)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=64,
            intermediate_size=160,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            max_position_embeddings=256,
            tie_word_embeddings=tied,
            initializer_range=0.4,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=0,
        )
    )
    return network.eval()


def onnx_twin(network: LlamaForCausalLM, threads: int = 1, batch: int = 32) -> OnnxLanguageModel:
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    shape = shape_of(network.config)
    graph = build_decoder(shape, weights).SerializeToString()
    table = weights["model.embed_tokens.weight"]
    return OnnxLanguageModel(graph, table, shape, END, threads=threads, batch=batch)


def prompts_of(lengths: Sequence[int], seed: int = 0) -> list[Floats]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((length, 64)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize(("kv_heads", "tied"), [(4, True), (2, False)])
@pytest.mark.parametrize("count", [1, 4, 16])
def test_same_tokens_as_generate(kv_heads: int, tied: bool, count: int) -> None:
    network = small_llama(kv_heads=kv_heads, tied=tied)
    prompts = prompts_of([20] * count)
    reference = TransformersLanguageModel(network, END).write(prompts, 40)
    assert len({text.ids for text in reference}) == count, (
        "the reference texts must differ for this test to mean anything"
    )
    with onnx_twin(network) as language:
        assert language.write(prompts, 40) == reference


def test_unequal_prompts_and_unequal_ends() -> None:
    network = small_llama()
    prompts = prompts_of([3, 30, 11, 11, 24, 1, 17, 29] * 3, seed=5)
    reference = TransformersLanguageModel(network, END).write(prompts, 120)
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
    together = RowBatch(session, table, shape, END, range(len(prompts)), prompts, 1).read_prompts()
    for row, prompt in enumerate(prompts):
        alone = RowBatch(session, table, shape, END, [0], [prompt], 1).read_prompts()
        np.testing.assert_array_equal(alone[0], together[row])


def test_rows_that_are_handed_over_are_written_as_they_would_have_been() -> None:
    network = small_llama()
    prompts = prompts_of([3, 30, 11, 11, 24, 1, 17, 29, 8, 8], seed=5)
    reference = TransformersLanguageModel(network, END).write(prompts, 120)
    with onnx_twin(network) as language:
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        batches = [language._batch_of(order, [prompts[row] for row in order], 120)]
        written, halved = {}, 0

        def hand_over(batch: RowBatch) -> None:
            nonlocal halved
            batches.append(batch)
            halved += 1

        for batch in batches:  # each finds a free worker at every step
            for name, ids, ended in batch.write(lambda: True, hand_over):
                written[name] = WrittenText(tuple(ids), not ended)
    assert halved > 2
    assert [written[row] for row in range(len(prompts))] == reference


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
        assert language.write([], 5) == []


def test_another_architecture_is_refused() -> None:
    config = LlamaConfig(hidden_act="gelu", attention_bias=True)
    with pytest.raises(ValueError, match="hidden_act, attention_bias"):
        shape_of(config)
