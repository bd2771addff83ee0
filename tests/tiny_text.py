"""Small causal language models with random weights and a real byte-level tokenizer, saved in the published format."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from models.catalog import CatalogEntry, State
from models.family import Task
from pipeline.report import Language

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "</s>", "<s>", "<pad>", "[INST]", "[/INST]")
CORPUS = (
    "User: Assistant: system user assistant You are a helpful assistant.",
    "There is a small left pleural effusion. No pneumothorax. The heart is enlarged. findings present side zone",
    'impression severity {"name": "effusion", "present": true, "side": "left"} [vqa] [refer] [identify] [caption]',
    "请根据以下影像所见写出影像结论。左侧少量胸腔积液。心影增大。",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
POSITIONS = 1024


def build_tokenizer(vocabulary: int = 420, eos: str = "<|im_end|>") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the special tokens of every text family."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, bos_token="<s>", pad_token="<pad>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_network(kind: str, vocabulary: int, seed: int = 0) -> Any:
    """A random network whose greedy texts vary: ``kind`` is llama, gemma2, qwen2 or bloom."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": 4,
        "eos_token_id": 2,
        "pad_token_id": 5,
    }
    if kind == "llama":
        network: Any = LlamaForCausalLM(LlamaConfig(**shape))
    elif kind == "gemma2":
        network = Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=8, sliding_window=64))
    elif kind == "qwen2":
        network = Qwen2ForCausalLM(Qwen2Config(**shape))
    else:
        network = BloomForCausalLM(
            BloomConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                n_layer=2,
                n_head=4,
                eos_token_id=2,
                bos_token_id=4,
                pad_token_id=5,
            )
        )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                # a tied embedding grown too would make every token repeat itself
                parameter.mul_(1 if "word_embeddings" in name else 40 if kind == "bloom" else 10)
    return network.eval()


def write_text_model(folder: Path, kind: str = "llama", seed: int = 0) -> Path:
    """Save network and tokenizer as their authors do; gives the folder."""
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    build_network(kind, len(tokenizer), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def text_entry(model_id: str) -> CatalogEntry:
    """A catalogue entry of a text family, in both languages."""
    return CatalogEntry(
        id=model_id,
        name=model_id,
        state=State.BRING_WEIGHTS,
        adapter="causal-lm",
        version="1",
        licence="",
        use_limits="",
        acknowledge=False,
        tasks=(Task.SUMMARIZE, Task.STRUCTURED, Task.TEXT_QA),
        languages=(Language.ENGLISH, Language.CHINESE),
        modalities=(),
        views=(),
        images=0,
        box_convention="",
        preprocessing="",
        prompts="text.toml",
        parameters=0.0,
        network_class="",
    )
