"""The decoder of a Llama-type language model as one ONNX graph with a key-value cache in place.

Graph inputs, for a batch of n rows and s new positions:

    embeddings       float32 [n, s, width]                  token or visual embeddings
    last             int64   [n]                            position of each row's last real embedding, 0..s-1
    seqlens_k        int32   [n]                            length of each row with the new positions, minus
    one total_length     int32   []                             longest length of the batch with the new
    positions past_key_I, past_value_I      float32 [n, kv_heads, capacity, head_width] for each layer I

and outputs ``next`` int64 [n], the most likely next token, ``logits`` float32 [n, vocabulary] and
present_key_I and present_value_I, which are to be bound to the very memory of the past ones (com.microsoft
GroupQueryAttention writes only the new positions then).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]
OPSET, MICROSOFT_OPSET, IR_VERSION = 17, 1, 10


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The numbers of a Llama-type decoder that fix its graph."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    positions: int
    rope_theta: float
    norm_epsilon: float


class LlamaLikeConfig(Protocol):
    """What is read of a transformers configuration; its fields are checked in :func:`shape_of`."""

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values."""
        ...


def shape_of(config: LlamaLikeConfig) -> DecoderShape:
    """Read a transformers LlamaConfig. Raises ValueError for a variant that this graph does not compute."""
    stored = config.to_dict()
    rope = stored.get("rope_parameters") or stored.get("rope_scaling") or {}
    unlike = [
        name
        for name, wrong in (
            ("model_type", stored.get("model_type") != "llama"),
            ("hidden_act", stored.get("hidden_act") != "silu"),
            ("attention_bias", stored.get("attention_bias", False)),
            ("mlp_bias", stored.get("mlp_bias", False)),
            ("rope_type", rope.get("rope_type", "default") != "default"),
        )
        if wrong
    ]
    if unlike:
        raise ValueError(f"no decoder graph for this language model: unlike Llama in {', '.join(unlike)}")
    heads = stored["num_attention_heads"]
    return DecoderShape(
        vocabulary=stored["vocab_size"],
        width=stored["hidden_size"],
        layers=stored["num_hidden_layers"],
        heads=heads,
        kv_heads=stored["num_key_value_heads"],
        head_width=stored.get("head_dim") or stored["hidden_size"] // heads,
        positions=stored["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta") or stored.get("rope_theta") or 10000.0),
        norm_epsilon=float(stored["rms_norm_eps"]),
    )


def build_decoder(shape: DecoderShape, weights: Weights) -> onnx.ModelProto:
    """The graph for ``weights``, named as in ``LlamaForCausalLM.state_dict()``. Raises KeyError for a missing one."""
    graph = _Graph()
    cosine, sine = rotary_tables(shape)
    graph.constant("cosine", cosine)
    graph.constant("sine", sine)
    graph.constant("one", np.asarray([1], np.int64))
    graph.add("Unsqueeze", ["last", "one"], ["last.column"])
    residual, normed = "embeddings", graph.first_norm(shape, weights)
    for layer in range(shape.layers):
        residual, normed = _layer(graph, shape, weights, layer, residual, normed)
    _head(graph, weights, normed)
    return helper.make_model(
        helper.make_graph(
            graph.nodes, "decoder", _inputs(shape), _outputs(shape), initializer=graph.constants
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", MICROSOFT_OPSET)],
        ir_version=IR_VERSION,
        producer_name="firstread",
    )


def rotary_tables(shape: DecoderShape) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines [positions, head_width / 2] as transformers computes them, in float32."""
    exponents = np.arange(0, shape.head_width, 2, dtype=np.float32) / np.float32(shape.head_width)
    frequencies = np.float32(1) / np.power(np.float32(shape.rope_theta), exponents)
    angles = np.outer(np.arange(shape.positions, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(
        self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> str:
        name = f"{kind}:{outputs[0]}"
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def product(self, name: str, states: str, weight: NDArray[np.float32]) -> str:
        """``states`` times the transposed torch ``weight`` [out, in]."""
        return self.add("MatMul", [states, self.constant(f"{name}.weight", weight.T)], [name])

    def last_position(self, states: str) -> str:
        """[n, 1, width] of each row's last real position: after the last layer's cache no other one is needed."""
        picked = self.add("GatherND", [states, "last.column"], [f"{states}.picked"], batch_dims=1)
        return self.add("Unsqueeze", [picked, "one"], [f"{states}.last"])

    def first_norm(self, shape: DecoderShape, weights: Weights) -> str:
        scale = self.constant("norm.0", weights["model.layers.0.input_layernorm.weight"])
        return self.add(
            "SimplifiedLayerNormalization",
            ["embeddings", scale],
            ["normed.0"],
            axis=-1,
            epsilon=shape.norm_epsilon,
            stash_type=1,
        )

    def skip_norm(
        self, name: str, added: str, residual: str, scale: NDArray[np.float32], epsilon: float
    ) -> tuple[str, str]:
        """Add ``added`` to ``residual``; returns the sum and its root-mean-square norm."""
        outputs = [f"normed.{name}", "", "", f"residual.{name}"]
        inputs = [added, residual, self.constant(f"norm.{name}", scale)]
        self.add("SkipSimplifiedLayerNormalization", inputs, outputs, "com.microsoft", epsilon=epsilon)
        return outputs[3], outputs[0]


def _layer(
    graph: _Graph, shape: DecoderShape, weights: Weights, layer: int, residual: str, normed: str
) -> tuple[str, str]:
    at = f"model.layers.{layer}."
    joined = np.concatenate([weights[f"{at}self_attn.{part}_proj.weight"] for part in "qkv"])
    packed = graph.product(f"qkv.{layer}", normed, joined)
    past = [f"past_key_{layer}", f"past_value_{layer}"]
    graph.add(
        "GroupQueryAttention",
        [packed, "", "", *past, "seqlens_k", "total_length", "cosine", "sine"],
        [f"attended.{layer}", f"present_key_{layer}", f"present_value_{layer}"],
        "com.microsoft",
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        do_rotary=1,
        rotary_interleaved=0,
    )
    attended = f"attended.{layer}"
    if layer + 1 == shape.layers:
        attended, residual = graph.last_position(attended), graph.last_position(residual)
    mixed = graph.product(f"mixed.{layer}", attended, weights[f"{at}self_attn.o_proj.weight"])
    scale = weights[f"{at}post_attention_layernorm.weight"]
    residual, normed = graph.skip_norm(f"{layer}.mlp", mixed, residual, scale, shape.norm_epsilon)
    gate = graph.product(f"gate.{layer}", normed, weights[f"{at}mlp.gate_proj.weight"])
    rise = graph.product(f"rise.{layer}", normed, weights[f"{at}mlp.up_proj.weight"])
    curve = graph.add("QuickGelu", [gate], [f"curve.{layer}"], "com.microsoft", alpha=1.0)
    gated = graph.add("Mul", [curve, rise], [f"gated.{layer}"])
    fed = graph.product(f"fed.{layer}", gated, weights[f"{at}mlp.down_proj.weight"])
    following = f"model.layers.{layer + 1}.input_layernorm.weight"
    scale = weights[following if layer + 1 < shape.layers else "model.norm.weight"]
    return graph.skip_norm(f"{layer + 1}", fed, residual, scale, shape.norm_epsilon)


def _head(graph: _Graph, weights: Weights, normed: str) -> None:
    head = weights.get("lm_head.weight")
    scores = graph.product("scores", normed, weights["model.embed_tokens.weight"] if head is None else head)
    graph.add("Squeeze", [scores, "one"], ["logits"])
    graph.add("ArgMax", ["logits"], ["next"], axis=-1, keepdims=0)


def _inputs(shape: DecoderShape) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", "s", shape.width]),
        helper.make_tensor_value_info("last", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["n"]),
        helper.make_tensor_value_info("total_length", TensorProto.INT32, []),
        *_cache(shape, "past"),
    ]


def _outputs(shape: DecoderShape) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info("next", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", shape.vocabulary]),
        *_cache(shape, "present"),
    ]


def _cache(shape: DecoderShape, when: str) -> list[onnx.ValueInfoProto]:
    dims: list[str | int | None] = ["n", shape.kv_heads, "capacity", shape.head_width]
    return [
        helper.make_tensor_value_info(f"{when}_{part}_{layer}", TensorProto.FLOAT, dims)
        for layer in range(shape.layers)
        for part in ("key", "value")
    ]
