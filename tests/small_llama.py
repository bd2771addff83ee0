"""A small Llama with random weights, its twin on ONNX Runtime, and prompts for both."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.runners.decoder_graph import build_decoder, shape_of
from models.runners.language import Floats, OnnxLanguageModel, TransformersLanguageModel
from models.runners.written_text import WrittenText

END = 1
NO_TOKEN = -1


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
    network.eval()
    return network


def onnx_twin(
    network: LlamaForCausalLM, threads: int = 1, batch: int = 32, end: int = END
) -> OnnxLanguageModel:
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    shape = shape_of(network.config)
    graph = build_decoder(shape, weights).SerializeToString()
    table = weights["model.embed_tokens.weight"]
    return OnnxLanguageModel(graph, table, shape, end, threads=threads, batch=batch)


def prompts_of(lengths: Sequence[int], seed: int = 0) -> list[Floats]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((length, 64)).astype(np.float32) for length in lengths]


def references(network: LlamaForCausalLM, prompts: Sequence[Floats], limit: int) -> list[WrittenText]:
    """What transformers writes for each prompt, all in one padded batch."""
    return TransformersLanguageModel(network, END).write(prompts, limit)


def cut(text: WrittenText, limit: int) -> WrittenText:
    """``text`` as it would have been with a lower limit: its end token counts as one."""
    return WrittenText(text.ids[:limit], truncated=text.truncated or len(text.ids) >= limit)
