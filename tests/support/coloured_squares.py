"""A small LLaVA that is trained to name the colour of one of two squares, left or right.

The one layer of its vision tower does nothing, so that no patch is known at another: what the
decoder reads of a square it reads at the square's own token. So the regions that an answer rests on
are known, and explanations can be held to them. Training takes a minute and a half on one core.
"""

from dataclasses import dataclass

import numpy as np
import torch
import transformers

from support.tiny_vlms import SPECIAL, VOCABULARY, processor_of, tokenizer

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230)}
SIDES = ("left", "right")
GROUND, NOTHING, EMPTY = 110, "here", 0.25  # the answer where the side asked for has no square
CELLS, CELL = 4, 6  # rows and columns of regions, and pixels of each


@dataclass(frozen=True)
class Scene:
    """An image with two squares, and a question about one of them.

    image     `(h, w, 3)` uint8
    text      the question
    answer    the colour of the square that is asked for, or NOTHING
    asked     row and column of that square
    other     row and column of the other one
    """

    image: np.ndarray
    text: str
    answer: str
    asked: tuple[int, int]
    other: tuple[int, int]


def scene(rng):
    """A scene at random, with squares of different colours, one in each half.

    In a quarter of the scenes the half asked for is empty: without these, a model could answer by
    what it does not see.
    """
    image = np.full((CELLS * CELL, CELLS * CELL, 3), GROUND, np.uint8)
    colours = rng.permutation(list(COLOURS))[:2]
    places = [(int(rng.integers(CELLS)), int(rng.integers(CELLS // 2)) + half) for half in (0, 2)]
    for (row, column), colour in zip(places, colours, strict=True):
        at = (slice(row * CELL, (row + 1) * CELL), slice(column * CELL, (column + 1) * CELL))
        image[at] = COLOURS[colour]
    side = int(rng.integers(2))
    text = f"what colour is {SIDES[side]} ? <image>"
    answer = str(colours[side])
    if rng.random() < EMPTY:
        row, column = places[side]
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = GROUND
        answer = NOTHING
    return Scene(image, text, answer, places[side], places[1 - side])


def processor():
    """The processor of these images."""
    side = CELLS * CELL
    made = processor_of("llava")
    made.image_processor.crop_size = {"height": side, "width": side}
    made.image_processor.size = {"shortest_edge": side}
    made.patch_size = CELL
    made.chat_template = None
    return made


def untrained():
    """The model before training."""
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        text_config=dict(
            model_type="llama",
            vocab_size=VOCABULARY,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        vision_config=dict(
            model_type="clip_vision_model",
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=CELLS * CELL,
            patch_size=CELL,
        ),
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_layer=-1,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if "vision_tower" in name and ("out_proj" in name or "fc2" in name):
            parameter.data.zero_()
            parameter.requires_grad = False
        if "position_embedding" in name:  # as large as what a patch gives
            parameter.data.normal_(std=0.3)
    return model


def trained(steps=900, batch=64):
    """The trained model, and its accuracy on scenes that it has not seen."""
    model, read, rng = untrained(), processor(), np.random.default_rng(0)
    names = tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, steps)
    ids = {}
    for side in SIDES:
        text = f"what colour is {side} ?{'<image>' * CELLS**2}"
        ids[side] = names(text, return_tensors="pt")["input_ids"]

    def inputs(scenes):
        pixels = read.image_processor([s.image for s in scenes], return_tensors="pt")
        rows = torch.cat([ids[s.text.split()[3]] for s in scenes])
        answers = torch.tensor([names.convert_tokens_to_ids(s.answer) for s in scenes])
        return dict(input_ids=rows, pixel_values=pixels["pixel_values"]), answers

    for _ in range(steps):
        given, answers = inputs([scene(rng) for _ in range(batch)])
        logits = model(**given, logits_to_keep=1).logits[:, -1]
        loss = torch.nn.functional.cross_entropy(logits, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        given, answers = inputs([scene(rng) for _ in range(256)])
        found = model(**given, logits_to_keep=1).logits[:, -1].argmax(-1)
    return model, float((found == answers).float().mean())
