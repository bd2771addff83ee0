"""A small Llava with random weights as its authors would publish it: what `transformers serve` shows images to."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.tiny_text import build_tokenizer

VISION_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_llava(folder: Path) -> Path:
    """Save a Llava of a few thousand weights with tokenizer, template and preprocessing; gives the folder."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = VISION_TEMPLATE
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    words = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=4,
        eos_token_id=2,
        pad_token_id=5,
    )
    torch.manual_seed(0)
    image_token: Any = tokenizer.convert_tokens_to_ids("<image>")
    network: Any = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=words, image_token_index=image_token)
    ).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(10 if parameter.dim() > 1 else 1)
    network.save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=VISION_TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder
