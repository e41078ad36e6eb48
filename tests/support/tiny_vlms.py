"""A tiny random vision-language model of every family that is tested, with its processor.

Processors are built from parts, with image processors that need Pillow alone. No hub is needed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from support.tiny_models import randomised

WORDS = "what is this colour here a red green blue square where left right top bottom".split()
SPECIAL = """
<pad> <s> </s> <unk> <image> <row_1_col_1> <row_1_col_2> <row_2_col_1> <row_2_col_2> <global-img>
<fake_token_around_image> <end_of_utterance> <|vision_start|> <|vision_end|> <|image_pad|>
<|video_pad|> <start_of_image> <end_of_image> <image_soft_token> <user> <assistant>
""".split()
VOCABULARY = len(SPECIAL) + len(WORDS) + 4
SIDE = 24  # pixels of an image

_TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    max_position_embeddings=256,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    tie_word_embeddings=False,
)
_TOWER = dict(
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=SIDE,
    patch_size=8,
    num_channels=3,
)
_NORM = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
_ROTARY = dict(rope_type="default", rope_theta=10000.0, mrope_section=[1, 1, 0])


def _template(mark, *, before="", after=""):
    """A chat template of that mark of an image, which takes contents in parts."""
    return (
        "{% for message in messages %}<{{ message['role'] }}>"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        + before
        + mark
        + after
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )


def tokenizer(**more):
    """A tokenizer of whole words."""
    names = [*SPECIAL, *WORDS, "?", ":", "\n", "assistant"]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    roles = dict(pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", **more)
    others = {f"mark_{i}": name for i, name in enumerate(SPECIAL) if name not in roles.values()}
    named = {"extra_special_tokens": {**more, **others}}
    return PreTrainedTokenizerFast(tokenizer_object=made, **roles, **named)


def _id(name):
    return SPECIAL.index(name)


@dataclass(frozen=True)
class TinyVLM:
    """One entry of the table.

    kind        of the model's classes in transformers
    config      settings of its config
    grids       rows and columns of each picture of an image of `SIDE` by `SIDE` pixels
    """

    kind: str
    config: dict[str, Any]
    grids: tuple[tuple[int, int], ...]


_QWEN_TOWER = dict(
    depth=2,
    hidden_size=8,
    intermediate_size=12,
    num_heads=2,
    patch_size=4,
    spatial_merge_size=2,
    temporal_patch_size=2,
    out_hidden_size=16,
)
_QWEN = dict(
    image_token_id=_id("<|image_pad|>"),
    video_token_id=_id("<|video_pad|>"),
    vision_start_token_id=_id("<|vision_start|>"),
    vision_end_token_id=_id("<|vision_end|>"),
)
_QWEN_TEXT = dict(_TEXT, rope_parameters=_ROTARY)
_IDEFICS = dict(
    text_config=dict(_TEXT, model_type="llama"),
    vision_config=dict(_TOWER, patch_size=4, image_size=16),
    scale_factor=2,
    image_token_id=_id("<image>"),
    pad_token_id=0,
    tie_word_embeddings=False,
)

VLMS = {
    "llava": TinyVLM(
        "Llava",
        dict(
            text_config=dict(_TEXT, model_type="llama"),
            vision_config=dict(_TOWER, model_type="clip_vision_model"),
            image_token_index=_id("<image>"),
            vision_feature_layer=-1,
        ),
        ((3, 3),),
    ),
    "gemma3": TinyVLM(
        "Gemma3",
        dict(
            text_config=dict(_TEXT, query_pre_attn_scalar=4, sliding_window=6),
            vision_config=dict(_TOWER, patch_size=6),
            image_token_index=_id("<image_soft_token>"),
            boi_token_index=_id("<start_of_image>"),
            eoi_token_index=_id("<end_of_image>"),
            mm_tokens_per_image=4,
        ),
        ((2, 2),),
    ),
    "qwen2_5_vl": TinyVLM(
        "Qwen2_5_VL",
        dict(
            _QWEN,
            text_config=_QWEN_TEXT,
            vision_config=dict(_QWEN_TOWER, window_size=16, fullatt_block_indexes=[1]),
        ),
        ((3, 3),),
    ),
    "qwen3_vl": TinyVLM(
        "Qwen3VL",
        dict(
            _QWEN,
            text_config=_QWEN_TEXT,
            vision_config=dict(
                _QWEN_TOWER, num_position_embeddings=16, deepstack_visual_indexes=[0, 1]
            ),
        ),
        ((3, 3),),
    ),
    "idefics3": TinyVLM("Idefics3", _IDEFICS, ((4, 4), (2, 2))),
    "smolvlm": TinyVLM("SmolVLM", _IDEFICS, ((4, 4), (2, 2))),
}


def build_vlm(family, *, biases=True, dtype=torch.float32, **options):
    """A random model in evaluation mode."""
    torch.manual_seed(11)
    tiny = VLMS[family]
    config = getattr(transformers, f"{tiny.kind}Config")(**{**tiny.config, **options})
    model = getattr(transformers, f"{tiny.kind}ForConditionalGeneration")(config)
    return randomised(model, biases).to(dtype).eval()


class QwenProcessor:
    """The processor of Qwen2.5-VL and Qwen3-VL for images, called as theirs are.

    Theirs have video processors, which need torchvision; this one writes the same tokens without.
    """

    image_token = "<|image_pad|>"

    def __init__(self, image_processor, tokenizer, chat_template):
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.chat_template = chat_template

    def __call__(self, images=None, text=None, return_tensors=None):
        pixels = self.image_processor(images=sum(images, []), return_tensors=return_tensors)
        counts = iter((pixels["image_grid_thw"].prod(-1) // 4).tolist())
        (whole,) = text
        parts = whole.split(self.image_token)
        whole = parts[0] + "".join(self.image_token * next(counts) + part for part in parts[1:])
        encoding = self.tokenizer([whole], return_tensors=return_tensors)
        types = (encoding["input_ids"] == _id(self.image_token)).long()
        return {**encoding, **pixels, "mm_token_type_ids": types}


def processor_of(family):
    """The processor of a family, from parts."""
    if family == "llava":
        images = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, **_NORM
        )
        return transformers.LlavaProcessor(
            images,
            tokenizer(),
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=_template("<image>"),
        )
    if family == "gemma3":
        images = transformers.Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}, **_NORM)
        marks = dict(
            boi_token="<start_of_image>",
            eoi_token="<end_of_image>",
            image_token="<image_soft_token>",
        )
        return transformers.Gemma3Processor(
            images,
            tokenizer(**marks),
            image_seq_length=4,
            chat_template=_template("<start_of_image>"),
        )
    if family in ("qwen2_5_vl", "qwen3_vl"):
        images = transformers.Qwen2VLImageProcessorPil(
            patch_size=4,
            merge_size=2,
            temporal_patch_size=2,
            size={"shortest_edge": 8 * 8, "longest_edge": 64 * 64},
            **_NORM,
        )
        template = _template("<|image_pad|>", before="<|vision_start|>", after="<|vision_end|>")
        return QwenProcessor(images, tokenizer(), template)
    kind = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[family]
    images = getattr(transformers, f"{kind}ImageProcessorPil")(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, **_NORM
    )
    # SmolVLM's processor, which has a video processor, writes the same tokens as this one.
    return transformers.Idefics3Processor(
        images, tokenizer(), image_seq_len=4, chat_template=_template("<image>")
    )


def picture(seed=0, height=SIDE, width=SIDE):
    """`(height, width, 3)` uint8, an image at random."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def processed(family, text="what is this ?", images=None):
    """The processor's output for a text, in a chat, and its images."""
    processor = processor_of(family)
    images = [picture()] if images is None else images
    parts = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
    rendered = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}],
        chat_template=processor.chat_template,
        tokenize=False,
        add_generation_prompt=True,
    )
    return processor(text=[rendered], images=[images], return_tensors="pt")
