"""Chats: messages with roles, as the tokenizer's own template renders them for the model.

The template puts words and marks of its own around every message. To tell both apart the chat is
rendered twice: as it is, and with a mark instead of every content. All that stands between the
marks is the template's. Its tokens count as special tokens: they have scores, and no rank.

A chat that ends with the assistant's message is continued, as in transformers' pipelines; after any
other message the assistant's own begins. Read next: text.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jinja2 import TemplateError
from torch import Tensor

from attnflow.errors import InputError, shown, warn
from attnflow.inputs.continuation import concatenate, decode_suffix
from attnflow.inputs.offsets import Span, token_offsets
from attnflow.inputs.text import EncodedText, model_inputs, place_tokens, special_ids
from attnflow.inputs.token_ids import encode_ids
from attnflow.inputs.tokenizing import encoded
from attnflow.inputs.words import word_ids

Messages = Sequence[Mapping[str, Any]]

ASSISTANT = "assistant"
_MARK = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True)
class Content:
    """The characters `start:end` of the rendered chat that are a message's."""

    message: int
    start: int
    end: int


@dataclass(frozen=True)
class RenderedChat:
    """A chat as its template renders it.

    Attributes:
        text: The rendered chat.
        contents: The messages' texts in it, in the template's order.
    """

    text: str
    contents: tuple[Content, ...]

    @property
    def shown(self) -> str:
        """The contents alone, each on a line."""
        return "\n".join(self.text[content.start : content.end] for content in self.contents)


@dataclass(frozen=True)
class Placement:
    """The place of one token.

    Attributes:
        message: Index of its message, None for a token of the template's.
        span: Its characters in the contents alone, each content on a line.
    """

    message: int | None
    span: Span = (0, 0)


def is_chat(texts: Any) -> bool:
    """Return whether this is one chat: a list of dicts."""
    is_list = isinstance(texts, Sequence) and not isinstance(texts, str)
    return is_list and any(isinstance(message, Mapping) for message in texts)


def listed(texts: Any) -> list[Any]:
    """Return texts, or what stands for them, in a list; one text or chat alone becomes a list."""
    is_one = isinstance(texts, str) or is_chat(texts) or not isinstance(texts, Iterable)
    # Its numbers are no texts, and one of no axis cannot be gone through.
    is_one = is_one or isinstance(texts, Tensor)
    return [texts] if is_one else list(texts)


def render_chat(
    tokenizer: Any, messages: Messages, *, generates: bool, template: str | None = None
) -> RenderedChat:
    """Render a chat by its template, and find the messages' texts in it.

    Args:
        tokenizer: A tokenizer.
        messages: Dicts with `role` and `content`, a string; with a `template` of a processor also a
            list of parts, {"type": "image"} or {"type": "text", "text": "..."}.
        generates: True where the model generates after the chat.
        template: A chat template in place of the tokenizer's.

    Raises:
        InputError: There is no template, it refuses the messages or changes one beyond
            recognition, or the chat is malformed.
    """
    _check(messages, in_parts=template is not None)
    render = partial(_render, tokenizer, generates=generates, template=template)
    rendered = render(messages)
    return RenderedChat(rendered, tuple(_contents(render, messages, rendered)))


def encode_chat(
    tokenizer: Any, messages: Messages, *, limit: int | None, generates: bool
) -> EncodedText:
    """Tokenize a chat, and place every token in its message.

    The text of the result has the contents alone, as the template leaves them, each on a line.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: Dicts with `role` and `content`, both strings.
        limit: Most tokens that the model takes, or None.
        generates: True where the model generates after the chat.

    Raises:
        InputError: There is no template, it refuses the messages or changes one beyond
            recognition, or the chat is malformed or too long.
    """
    chat = render_chat(tokenizer, messages, generates=generates)
    rendered = chat.text
    fast = bool(getattr(tokenizer, "is_fast", False))
    # The template has written the special tokens already.
    encoding = encoded(
        tokenizer, rendered, add_special_tokens=False, return_offsets_mapping=fast, verbose=False
    )
    ids = list(encoding["input_ids"])
    # Not cut: at its end are the marks after which the model answers.
    if limit is not None and len(ids) > limit:
        raise InputError(
            f"the chat has {len(ids)} tokens and the model takes {limit}: leave messages out."
        )
    tokens = tokenizer.convert_ids_to_tokens(ids)
    added = special_ids(tokenizer)
    typed = [i in added for i in ids]
    spans = token_offsets(encoding.get("offset_mapping"), rendered, tokens, typed)
    placements = place_in_chat(rendered, chat.contents, spans)
    # A special token inside a message (an end mark typed by hand) keeps its message.
    message_ids = tuple(placement.message for placement in placements)
    special = tuple(m is None or t for m, t in zip(message_ids, typed, strict=True))
    if all(special):
        raise InputError("the chat's messages have no tokens of their own: nothing to explain.")
    text = chat.shown
    offsets = tuple(
        (0, 0) if is_special else placement.span
        for is_special, placement in zip(special, placements, strict=True)
    )
    return EncodedText(
        text=text,
        inputs=model_inputs(tokenizer, encoding),
        tokens=tuple(tokens),
        offsets=offsets,
        special=special,
        word_ids=tuple(word_ids(text, offsets, special)),
        message_ids=message_ids,
        roles=tuple(message["role"] for message in messages),
    )


def append_reply(tokenizer: Any, chat: EncodedText, ids: Sequence[int]) -> EncodedText:
    """The chat with more tokens after it: the assistant's last message, or the rest of it."""
    prompt = chat.inputs["input_ids"]
    is_open = chat.message_ids[-1] is not None  # the assistant's message is not finished
    if is_open:
        reply = place_tokens(tokenizer, decode_suffix(tokenizer, prompt, ids), ids)
    else:
        reply = encode_ids(tokenizer, ids, None)
    inputs = {"input_ids": [*prompt, *ids]}
    whole = concatenate(chat, reply, inputs, "" if is_open else "\n")
    roles = chat.roles if is_open else (*chat.roles, ASSISTANT)
    reply_ids = tuple(None if special else len(roles) - 1 for special in reply.special)
    return replace(whole, message_ids=(*chat.message_ids, *reply_ids), roles=roles)


def texts_of(messages: Messages) -> list[tuple[int, str]]:
    """Index of the message, and the text, of every content or text part of a content."""
    texts = []
    for index, message in enumerate(messages):
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts += [(index, part["text"]) for part in parts if part["type"] == "text"]
    return texts


def _with_texts(messages: Messages, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The messages with other texts in the places of `texts_of`."""
    left = iter(texts)

    def changed(content: Any) -> Any:
        if isinstance(content, str):
            return next(left)
        return [
            {**part, "text": next(left)} if part["type"] == "text" else dict(part)
            for part in content
        ]

    return [{**message, "content": changed(message["content"])} for message in messages]


def _check(messages: Messages, *, in_parts: bool) -> None:
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InputError(
                f"message {index} must be a dict with 'role' and 'content', got {shown(message)}."
            )
        has_parts = in_parts and isinstance(message.get("content"), list)
        for key in ("role", "content"):
            if not isinstance(message.get(key), str) and not (key == "content" and has_parts):
                raise InputError(
                    f"message {index} must have a {key} that is a string: expected "
                    f'{{"role": "user", "content": "..."}}, got {shown(dict(message), 120)}.'
                )
        if has_parts:
            for part in message["content"]:
                _check_part(index, part)
    texts = texts_of(messages)
    for index, text in texts:
        if _MARK.search(text):
            raise InputError(f"message {index} has characters U+E000 and U+E001: leave them out.")
    if not any(text.strip() for _, text in texts):
        raise InputError("every message of the chat is empty: there is nothing to explain.")


def _check_part(index: int, part: Any) -> None:
    """Check a part of a message: a text, or the place of an image."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return
    if kind == "image":
        if set(part) == {"type"}:
            return
        raise InputError(
            f"message {index} has an image in it: write {{'type': 'image'}} in its place, and give "
            "the image itself in images= (in the command --image)."
        )
    raise InputError(
        f"message {index} has a part that is not read here: expected {{'type': 'image'}} or "
        f"{{'type': 'text', 'text': '...'}}, got {shown(part, 80)}. Videos and sounds are not "
        "explained."
    )


def _render(tokenizer: Any, messages: Messages, *, generates: bool, template: str | None) -> str:
    if template is None and not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{type(tokenizer).__name__} has no chat template, so it does not say how messages "
            "become a text: set tokenizer.chat_template, or write the prompt as a text."
        )
    # As in transformers' pipelines: an assistant's last message is a beginning to be continued.
    is_open = generates and messages[-1]["role"] == ASSISTANT
    own = {} if template is None else {"chat_template": template}
    try:
        return tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=generates and not is_open,
            continue_final_message=is_open,
            **own,
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise InputError(f"the tokenizer's chat template refuses these messages: {error}") from None


def _contents(
    render: Callable[[Messages], str], messages: Messages, rendered: str
) -> list[Content]:
    """The contents of the messages in the rendered chat, in the template's order."""
    texts = texts_of(messages)
    # Private-use characters: no template looks for them, and no message may hold them.
    marked = render(_with_texts(messages, [f"\ue000{i}\ue001" for i in range(len(texts))]))
    first, *rest = _MARK.split(marked)
    order, following = [int(i) for i in rest[::2]], rest[1::2]
    for i, (message, _) in enumerate(texts):
        if i not in order:
            warn(
                f"the chat template leaves message {message} ({messages[message]['role']}) out: "
                "the model does not see it."
            )
    # A template that looks into contents writes other parts around marks; then each is searched.
    contents = _contents_between(texts, rendered, first, list(zip(order, following, strict=True)))
    return contents or [_only_place(*texts[i], rendered) for i in order]


def _contents_between(
    texts: Sequence[tuple[int, str]], rendered: str, first: str, parts: Sequence[tuple[int, str]]
) -> list[Content]:
    """The contents between the template's own parts; none where the template wrote other parts.

    Args:
        texts: Texts of the chat, each with its message.
        rendered: The rendered chat.
        first: The template's text before any content.
        parts: For every content its number, and the template's text after it.
    """
    contents, at = [], len(first)
    if not rendered.startswith(first):
        return []
    for number, following in parts:
        message, content = texts[number]
        # Templates may strip contents on one side or both.
        forms = (content, content.strip(), content.lstrip(), content.rstrip())
        fitting = [form for form in forms if rendered.startswith(form + following, at)]
        if not fitting:
            return []
        contents.append(Content(message, at, at + len(fitting[0])))
        at += len(fitting[0] + following)
    return contents if at == len(rendered) else []


def _only_place(index: int, text: str, rendered: str) -> Content:
    """The one place of a message's text, for a template that looks into contents."""
    content = text.strip()
    if rendered.count(content) != 1:
        raise InputError(
            f"the chat template changes message {index} ({shown(content, 60)}), or writes it "
            "more than once, so that its tokens cannot be told from the template's: give the "
            "message as the template leaves it, or the whole prompt as a text."
        )
    start = rendered.index(content)
    return Content(index, start, start + len(content))


def place_in_chat(
    rendered: str, contents: Sequence[Content], spans: Sequence[Span]
) -> list[Placement]:
    """Place each token in its message; one of white space in the message on both its sides."""
    placements = [_place_one(rendered, contents, span) for span in spans]
    is_placed = [end > start for start, end in spans]
    return [
        placement
        if is_placed[i]
        else replace(placement, message=_message_around(placements, is_placed, i))
        for i, placement in enumerate(placements)
    ]


def _place_one(rendered: str, contents: Sequence[Content], span: Span) -> Placement:
    line = 0  # where the content's line begins
    for content in contents:
        first, last = max(span[0], content.start), min(span[1], content.end)
        if first < last and rendered[first:last].strip():
            shift = line - content.start
            return Placement(content.message, (first + shift, last + shift))
        line += content.end - content.start + 1
    return Placement(None)


def _message_around(
    placements: Sequence[Placement], is_placed: Sequence[bool], index: int
) -> int | None:
    """The message of the nearest placed tokens, if it is the same on both sides."""
    before = next((placements[i].message for i in reversed(range(index)) if is_placed[i]), None)
    following = range(index + 1, len(placements))
    after = next((placements[i].message for i in following if is_placed[i]), None)
    return before if before == after else None
