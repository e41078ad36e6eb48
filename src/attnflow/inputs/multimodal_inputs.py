"""Texts with images of a call, read for one vision-language model.

The processor's chat template, or the user, puts placeholders where the images stand; the processor
replaces each by as many tokens as its image has (`placeholders`). A token of an image is a token
like any other, with a region of the image instead of characters (`image_regions`). The marks that
template and processor write count as special tokens.

Batches hold what the decoder reads (`capture.decoder_inputs`), each example by itself, so that
images of any sizes fit into one. Texts without images are read as by `TextInputs`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from attnflow.capture.decoder_inputs import decoder_inputs
from attnflow.capture.input_names import DEEPSTACK
from attnflow.capture.weights import pass_dtype
from attnflow.errors import InputError, ModelError
from attnflow.inputs.chat import (
    Content,
    RenderedChat,
    append_reply,
    is_chat,
    listed,
    place_in_chat,
    render_chat,
)
from attnflow.inputs.continuation import concatenate, decode_suffix
from attnflow.inputs.example import ReadExamples
from attnflow.inputs.given import Given
from attnflow.inputs.image_file import SourceImage, open_image, with_channels
from attnflow.inputs.image_regions import regions_of
from attnflow.inputs.offsets import Span, token_offsets
from attnflow.inputs.per_example import ExampleLabels
from attnflow.inputs.placeholders import Expanded, check_count, expand, placeholder_of
from attnflow.inputs.text import EncodedText, check_unicode, place_tokens, special_ids
from attnflow.inputs.text_inputs import TextInputs
from attnflow.inputs.words import word_ids
from attnflow.models.tasks import Task

# Axis of the tokens in inputs of the decoder, counted from the last.
_TOKEN_AXIS = {"inputs_embeds": 2, DEEPSTACK: 2}


@dataclass(frozen=True)
class _Prompt:
    """A text or chat with its placeholders.

    Attributes:
        chat: The text as the processor reads it, and what of it is the user's.
        roles: The role of each message of a chat; else ().
        owners: The message of each image of a chat, by the parts of its messages; else ().
    """

    chat: RenderedChat
    roles: tuple[str, ...] = ()
    owners: tuple[int, ...] = ()


class MultimodalInputs(TextInputs):
    """Reads texts and images of a call for one vision-language model.

    Attributes:
        processor: Its processor, with a tokenizer and an image processor; None: texts alone.
    """

    def __init__(self, model: Any, processor: Any, tokenizer: Any, task: Task) -> None:
        """Take a model with its processor, and its tokenizer.

        Args:
            model: A vision-language model of transformers.
            processor: Its processor, or None.
            tokenizer: The processor's tokenizer, or another, or None.
            task: The task of the model.
        """
        super().__init__(model, tokenizer, task)
        self.processor = processor

    def read(self, given: Given) -> ReadExamples[EncodedText]:
        """Encode the texts of a call with their images.

        Raises:
            InputError: Texts and images do not go together, or cannot be explained.
            ModelError: Processor and model do not belong together.
            StorageError: The file of an image cannot be read.
        """
        texts = [] if given.texts is None else listed(given.texts)
        if given.images is None and not any(map(self._has_places, texts)):
            return super().read(given)
        self._check(given)
        images = _images_of(given.images, len(texts))
        is_single = isinstance(given.texts, str) or is_chat(given.texts)
        labels = ExampleLabels([text if isinstance(text, str) else "" for text in texts])
        examples = []
        for i, (text, some) in enumerate(zip(texts, images, strict=True)):
            with labels.about(i):
                if some or self._has_places(text):
                    examples.append(self.encode_with_images(text, some))
                else:
                    examples.append(self.encode(text))
        return ReadExamples(examples, is_single, "text")

    def encode_with_images(self, text: Any, images: Sequence[Any]) -> EncodedText:
        """Encode one text or chat with its images.

        Args:
            text: A text or chat, with a place for each image; a text without any gets them in front
                of it, by the chat template where there is one.
            images: Images as for `open_image`, in the order of their places.

        Raises:
            InputError, ModelError, StorageError: As `read`.
        """
        sources = [open_image(image) for image in images]
        prompt = self._prompt(text, len(sources))
        expanded = expand(self.processor, prompt.chat.text, [with_channels(s, 3) for s in sources])
        is_image = [i == self._image_token for i in expanded.ids]
        counts = _counts(expanded, is_image)
        encoded = self._placed(prompt, expanded, is_image, counts)
        if not sources:
            return encoded
        regions = regions_of(self.processor, self.model.config, sources, expanded.visual, counts)
        names, boxes = iter(regions.names), iter(regions.boxes)
        tokens = tuple(
            next(names) if image else token
            for token, image in zip(encoded.tokens, is_image, strict=True)
        )
        dtype = pass_dtype(self.model)
        return replace(
            encoded,
            tokens=tokens,
            visual={
                name: value.to(dtype) if value.is_floating_point() else value
                for name, value in expanded.visual.items()
            },
            image=regions.picture,
            regions=tuple(next(boxes) if image else None for image in is_image),
        )

    def collate(self, examples: Sequence[EncodedText]) -> dict[str, Tensor]:
        """The decoder's inputs of a batch, on the model's device, padded on the right."""
        if not any(example.visual for example in examples):
            return super().collate(examples)
        rows = [self._decoder_inputs(example) for example in examples]
        longest = max(row["attention_mask"].shape[1] for row in rows)
        axes = max(row["position_ids"].ndim for row in rows)
        by_axes = sorted(rows, key=lambda row: row["position_ids"].ndim)
        everything = {name: value for row in by_axes for name, value in row.items()}
        rows = [_alike(row, everything, axes) for row in rows]
        return {
            name: torch.cat(
                [_padded(row[name], longest, _TOKEN_AXIS.get(name, 1)) for row in rows],
                dim=1 if name == "position_ids" and axes == 3 else 0,
            )
            for name in everything
        }

    def baseline(self, examples: Sequence[EncodedText], inputs: Mapping[str, Tensor]) -> Tensor:
        """The baseline of texts; what an image's tokens could be replaced by is not known.

        Raises:
            InputError: There are images.
            ModelError: As of texts.
        """
        if "inputs_embeds" in inputs:
            raise InputError(
                "a token of an image has no other in its place, so that it can be hidden and not "
                "replaced, as tensor 'bcf' and targets that are functions would: give tensor='net' "
                "and a token as target, or stages=() (--stages none), or tensor='cf'."
            )
        return super().baseline(examples, inputs)

    @property
    def _image_token(self) -> int | None:
        """Id of the token that stands for a part of an image."""
        token = getattr(self.model.config, "image_token_id", None)
        return None if token is None else int(token)

    def _has_places(self, text: Any) -> bool:
        """Return whether a text is for this reader: it has places for images, or parts."""
        if self.processor is None:
            return False
        if is_chat(text):
            return any(
                isinstance(message, Mapping) and isinstance(message.get("content"), list)
                for message in text
            )
        return isinstance(text, str) and placeholder_of(self.processor) in text

    def _check(self, given: Given) -> None:
        """Check that nothing is given that does not go with images."""
        if self.processor is None:
            raise InputError(
                f"{type(self.model).__name__} has no image processor here to read images with: "
                "give its processor, Explainer(model, processor), or load both with "
                "Explainer.from_pretrained from a folder with preprocessor_config.json."
            )
        if given.texts is None:
            raise InputError(
                f"{type(self.model).__name__} writes about images: give a text with them, such as "
                "a question."
            )
        for name in ("pair", "input_ids", "bos", "truncate"):
            value = getattr(given, name)
            if value is not None and value is not False:
                raise InputError(
                    f"{name} is for texts without images: leave it out. The processor writes the "
                    "tokens of texts with images."
                )

    def _prompt(self, text: Any, images: int) -> _Prompt:
        """The text or chat with its placeholders, as the template writes it."""
        placeholder = placeholder_of(self.processor)
        template = getattr(self.processor, "chat_template", None)
        template = template or getattr(self.tokenizer, "chat_template", None)
        messages = text
        if not is_chat(text):
            _check_text(text)
            if placeholder in text or not template:
                whole = text if placeholder in text else placeholder * images + text
                check_count(whole, placeholder, images)
                start = len(whole) - len(text)
                contents = _around(whole, placeholder, [Content(0, start, len(whole))])
                return _Prompt(RenderedChat(whole, contents))
            parts = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
            messages = [{"role": "user", "content": parts}]
        if not template:
            raise InputError(
                f"{type(self.processor).__name__} has no chat template, so it does not say how "
                f"messages become a text: write the prompt as a text with {placeholder} for images."
            )
        # Templates of processors read contents in parts.
        messages = [_in_parts(message) for message in messages]
        try:
            chat = render_chat(self.tokenizer, messages, generates=True, template=template)
        except InputError as error:
            if is_chat(text):
                raise
            # The messages are ours: it is the template that does not know images.
            raise InputError(
                f"the chat template of {type(self.processor).__name__} takes no images ({error}): "
                f"write {placeholder} into the text where they stand, or set "
                "processor.chat_template."
            ) from error
        check_count(chat.text, placeholder, images)
        contents = _around(chat.text, placeholder, chat.contents)
        roles = tuple(message["role"] for message in messages)
        owners = tuple(
            i for i, m in enumerate(messages) for part in m["content"] if part["type"] == "image"
        )
        return _Prompt(RenderedChat(chat.text, contents), roles, owners)

    def _placed(
        self,
        prompt: _Prompt,
        expanded: Expanded,
        is_image: Sequence[bool],
        counts: Sequence[int],
    ) -> EncodedText:
        """The expanded text as an example whose image tokens have no characters."""
        chat, roles = prompt.chat, prompt.roles
        placeholder = placeholder_of(self.processor)
        ids = expanded.ids
        if self.limit is not None and len(ids) > self.limit:
            raise InputError(
                f"text and images have {len(ids)} tokens and the model takes {self.limit}: give a "
                "shorter text, smaller images, or fewer."
            )
        names = self.tokenizer.convert_ids_to_tokens(ids)
        tokens = [str(i) if name is None else name for i, name in zip(ids, names, strict=True)]
        added = special_ids(self.tokenizer)
        typed = [i in added or image for i, image in zip(ids, is_image, strict=True)]
        spans = token_offsets(expanded.offsets, expanded.text, tokens, typed)
        given = expanded.offsets or spans
        marks = [any(a < end and start < b for start, end in expanded.replaced) for a, b in given]
        contents = [_moved(c, chat.text, placeholder, expanded.replaced) for c in chat.contents]
        placements = place_in_chat(expanded.text, contents, spans)
        if roles:
            special = [p.message is None or t for p, t in zip(placements, typed, strict=True)]
        else:
            special = list(typed)
        special = [
            not image and (is_special or mark)
            for image, is_special, mark in zip(is_image, special, marks, strict=True)
        ]
        if all(s or image for s, image in zip(special, is_image, strict=True)):
            raise InputError("the text has only special tokens besides images: write a question.")
        unplaced = [s or image for s, image in zip(special, is_image, strict=True)]
        offsets = tuple(
            (0, 0) if none else p.span for none, p in zip(unplaced, placements, strict=True)
        )
        shown = RenderedChat(expanded.text, tuple(contents)).shown
        if not roles:
            shown, offsets = _in_one_line(expanded.text, contents, offsets)
        encoded = EncodedText(
            text=shown,
            inputs={"input_ids": ids, **expanded.inputs},
            tokens=tuple(tokens),
            offsets=offsets,
            special=tuple(special),
            word_ids=_words(shown, offsets, special, is_image),
            expanded=expanded.text,
        )
        self._check_vocabulary(encoded)
        if not roles:
            return encoded
        message_ids = [p.message for p in placements]
        if len(prompt.owners) == len(counts):
            owners = np.repeat(prompt.owners, counts).tolist()
            for token, owner in zip(np.flatnonzero(is_image), owners, strict=True):
                message_ids[token] = owner
        else:  # a text of the chat has a placeholder in it
            message_ids = _messages_around(message_ids, is_image)
        return replace(encoded, message_ids=tuple(message_ids), roles=roles)

    def _append(self, text: EncodedText, ids: list[int]) -> EncodedText:
        if not text.visual:
            return super()._append(text, ids)
        if self._image_token in ids:
            raise InputError(
                f"the continuation has {placeholder_of(self.processor)!r}, the place of an image, "
                "and there is no image for it: give images and their places in the text."
            )
        if text.roles:
            whole = append_reply(self.tokenizer, text, ids)
        else:
            suffix = decode_suffix(self.tokenizer, text.inputs["input_ids"], ids)
            whole = concatenate(text, place_tokens(self.tokenizer, suffix, ids), text.inputs, "")
        # What is written after an image is text.
        inputs = {name: [*values, *[0] * len(ids)] for name, values in text.inputs.items()}
        inputs["input_ids"] = [*text.inputs["input_ids"], *ids]
        regions = (*text.regions, *[None] * len(ids))
        is_image = [region is not None for region in regions]
        words = _words(whole.text, whole.offsets, whole.special, is_image)
        return replace(whole, inputs=inputs, regions=regions, word_ids=words)

    def _decoder_inputs(self, example: EncodedText) -> dict[str, Tensor]:
        lists = {name: torch.tensor([values]) for name, values in example.inputs.items()}
        lists["attention_mask"] = torch.ones_like(lists["input_ids"])
        try:
            return decoder_inputs(self.model, {**lists, **example.visual})
        except (ValueError, IndexError, RuntimeError) as error:
            raise ModelError(
                f"{type(self.model).__name__} does not take what its processor made of text and "
                f"images: {error!s:.200} Load both from one folder."
            ) from error


def _images_of(images: Any, texts: int) -> list[list[Any]]:
    """The images of each text.

    Raises:
        InputError: There are as many as fit to no text.
    """
    one = images is None or _is_image(images)
    several = [] if images is None else [images] if one else list(images)
    if texts == 1:
        if len(several) == 1 and not _is_image(several[0]):
            several = list(several[0])
        return [[image for image in several if image is not None]]
    if one:
        return [several] * texts
    if len(several) != texts:
        raise InputError(
            f"images must be one for all texts or, for {texts} texts, as many: an image or a list "
            f"of images each; got {len(several)}."
        )
    return [[] if some is None else [some] if _is_image(some) else list(some) for some in several]


def _is_image(value: Any) -> bool:
    """Return whether this is one image, and no sequence of them."""
    if isinstance(value, str | Path | SourceImage):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim < 4
    return not isinstance(value, Iterable)


def _check_text(text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        came = "an empty text" if isinstance(text, str) else type(text).__name__
        raise InputError(f"a text with images must be a string, such as a question; got {came}.")
    check_unicode(text, "the text")


def _in_parts(message: Any) -> Any:
    """The message with its content in parts, where it is a string."""
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
        return message
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _around(text: str, placeholder: str, contents: Sequence[Content]) -> tuple[Content, ...]:
    """The contents without placeholders, which may stand in them; a content may become several."""
    parts = []
    for content in contents:
        start = content.start
        for part in text[content.start : content.end].split(placeholder):
            if part.strip() or placeholder not in text[content.start : content.end]:
                parts.append(Content(content.message, start, start + len(part)))
            start += len(part) + len(placeholder)
    return tuple(parts)


def _moved(content: Content, text: str, placeholder: str, replaced: Sequence[Span]) -> Content:
    """A content of the text where it is once placeholders are replaced."""
    before = text[: content.start].count(placeholder)
    grown = sum(end - start - len(placeholder) for start, end in replaced[:before])
    return Content(content.message, content.start + grown, content.end + grown)


def _in_one_line(
    text: str, contents: Sequence[Content], offsets: Sequence[Span]
) -> tuple[str, tuple[Span, ...]]:
    """The parts of a text around its images without lines between them, and offsets in it."""
    parts = [text[content.start : content.end] for content in contents]
    starts = np.cumsum([0, *(len(part) + 1 for part in parts)])[: len(parts)]
    # Of each offset the number of line breaks before it that are no part of the text.
    breaks = [max(int((starts <= start).sum()) - 1, 0) for start, _ in offsets]
    moved = zip(offsets, breaks, strict=True)
    return "".join(parts), tuple((start - by, end - by) for (start, end), by in moved)


def _counts(expanded: Expanded, is_image: Sequence[bool]) -> list[int]:
    """Tokens of each image."""
    if expanded.offsets is None:
        # Without places: images of one text have as many tokens each.
        total, images = sum(is_image), len(expanded.replaced)
        return [total // images] * images if images else []
    starts = [a for (a, _), image in zip(expanded.offsets, is_image, strict=True) if image]
    return [sum(start <= a < end for a in starts) for start, end in expanded.replaced]


def _words(
    text: str, offsets: Sequence[Span], special: Sequence[bool], is_image: Sequence[bool]
) -> tuple[int | None, ...]:
    """Words of a text; a token of an image belongs to none."""
    unplaced = [s or image for s, image in zip(special, is_image, strict=True)]
    return tuple(word_ids(text, offsets, unplaced))


def _messages_around(
    message_ids: Sequence[int | None], is_image: Sequence[bool]
) -> list[int | None]:
    """The message of each token: an image is of the message after it, or before it at the end."""
    found = list(message_ids)
    for at in range(len(found)):
        if is_image[at]:
            after = (m for m in message_ids[at:] if m is not None)
            before = (m for m in reversed(message_ids[:at]) if m is not None)
            found[at] = next(after, next(before, None))
    return found


def _alike(
    row: Mapping[str, Tensor], everything: Mapping[str, Tensor], axes: int
) -> dict[str, Tensor]:
    """The decoder's inputs of one example, with all that other examples of a batch have.

    A text without images has one position for each token, which is that on every axis, and adds
    nothing in early layers.
    """
    whole = dict(row)
    if whole["position_ids"].ndim < axes:
        count = everything["position_ids"].shape[0]
        whole["position_ids"] = whole["position_ids"].expand(count, 1, -1)
    if "token_type_ids" in everything and "token_type_ids" not in whole:
        whole["token_type_ids"] = torch.zeros_like(whole["attention_mask"])
    if DEEPSTACK in everything and DEEPSTACK not in whole:
        levels = everything[DEEPSTACK].shape[1]
        whole[DEEPSTACK] = torch.zeros_like(whole["inputs_embeds"])[:, None].repeat(1, levels, 1, 1)
    return whole


def _padded(values: Tensor, length: int, axis: int) -> Tensor:
    """The values with zeros after the last token, up to `length` tokens; `axis` from the last."""
    missing = length - values.shape[-axis]
    return pad(values, (*([0, 0] * (axis - 1)), 0, missing))
