"""Chats: messages with roles, as the tokenizer's own template writes them for the model.

The template puts words and marks of its own around every message. To tell both apart it is
rendered twice: as it is, and with a mark in the place of every content; what stands between the
marks is the template's. Its tokens count as special ones do: they have scores, and no rank.

A chat that ends with the assistant's message is one that the model goes on with, as in
transformers' pipelines; after any other message its own begins. Read next: tokens.py.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnflow.errors import InputError, needs
from attnflow.inputs.continuation import behind, rest_of
from attnflow.inputs.offsets import spans_in
from attnflow.inputs.text import EncodedText, placed, special_ids
from attnflow.inputs.token_ids import of_ids
from attnflow.inputs.words import word_ids

Messages = Sequence[Mapping[str, str]]

ASSISTANT = "assistant"
_MARK = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True)
class _Content:
    """The characters `start:end` of the rendered chat that are a message's."""

    message: int
    start: int
    end: int


def is_chat(texts: Any) -> bool:
    """Whether this is one chat: a list of dicts."""
    listed = isinstance(texts, Sequence) and not isinstance(texts, str)
    return listed and any(isinstance(message, Mapping) for message in texts)


def encode_chat(
    tokenizer: Any, messages: Messages, *, limit: int | None, writes: bool
) -> EncodedText:
    """Tokenize a chat, and place every token in its message.

    The text of the result has the contents alone, as the template leaves them, each on a line.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: Dicts with `role` and `content`, both strings.
        limit: Most tokens that the model takes, or None.
        writes: Whether the model is to write what comes next.

    Raises:
        InputError: There is no template, it refuses the messages or changes one beyond
            recognition, or the chat is malformed or too long.
        MissingExtraError: jinja2, which renders templates, is not installed.
    """
    _check(messages)
    rendered = _rendered(tokenizer, messages, writes)
    contents = _contents(tokenizer, messages, rendered, writes)
    fast = bool(getattr(tokenizer, "is_fast", False))
    encoding = tokenizer(
        rendered, add_special_tokens=False, return_offsets_mapping=fast, verbose=False
    )
    ids = list(encoding["input_ids"])
    if limit is not None and len(ids) > limit:
        raise InputError(
            f"the chat has {len(ids)} tokens and the model takes {limit}: leave messages out."
        )
    tokens = tokenizer.convert_ids_to_tokens(ids)
    added = special_ids(tokenizer)
    typed = [i in added for i in ids]
    spans = spans_in(encoding.get("offset_mapping"), rendered, tokens, typed)
    found = _placed(rendered, contents, spans)
    message_ids = tuple(message for message, _ in found)
    special = tuple(m is None or t for m, t in zip(message_ids, typed, strict=True))
    if all(special):
        raise InputError("the chat's messages have no tokens of their own: nothing to explain.")
    text = "\n".join(rendered[content.start : content.end] for content in contents)
    offsets = tuple((0, 0) if s else span for s, (_, span) in zip(special, found, strict=True))
    names = [name for name in tokenizer.model_input_names if name in encoding]
    return EncodedText(
        text=text,
        inputs={name: list(encoding[name]) for name in names},
        tokens=tuple(tokens),
        offsets=offsets,
        special=special,
        word_ids=tuple(word_ids(text, offsets, special)),
        message_ids=message_ids,
        roles=tuple(message["role"] for message in messages),
    )


def replied(tokenizer: Any, chat: EncodedText, ids: Sequence[int]) -> EncodedText:
    """The chat with more tokens behind it: the assistant's last message, or the rest of it."""
    known = chat.inputs["input_ids"]
    goes_on = chat.message_ids[-1] is not None
    if goes_on:
        reply = placed(tokenizer, rest_of(tokenizer, known, ids), ids)
    else:
        reply = of_ids(tokenizer, ids, None)
    whole = behind(chat, reply, {"input_ids": [*known, *ids]}, "" if goes_on else "\n")
    roles = chat.roles if goes_on else (*chat.roles, ASSISTANT)
    own = tuple(None if special else len(roles) - 1 for special in reply.special)
    return replace(whole, message_ids=(*chat.message_ids, *own), roles=roles)


def _check(messages: Messages) -> None:
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InputError(
                f"message {index} must be a dict with 'role' and 'content', got {message!r:.80}."
            )
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise InputError(
                    f"message {index} must have a {key} that is a string: expected "
                    f'{{"role": "user", "content": "..."}}, got {dict(message)!r:.120}.'
                )
        if _MARK.search(message["content"]):
            raise InputError(f"message {index} has characters U+E000 and U+E001: leave them out.")
    if not any(message["content"].strip() for message in messages):
        raise InputError("every message of the chat is empty: there is nothing to explain.")


def _rendered(tokenizer: Any, messages: Messages, writes: bool) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{type(tokenizer).__name__} has no chat template, so it does not say how messages "
            "become a text: set tokenizer.chat_template, or write the prompt as a text."
        )
    with needs("chats need jinja2", extra="chat"):
        from jinja2 import TemplateError
    goes_on = writes and messages[-1]["role"] == ASSISTANT
    try:
        rendered: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=writes and not goes_on,
            continue_final_message=goes_on,
        )
    except (TemplateError, ValueError) as error:
        raise InputError(f"the tokenizer's chat template refuses these messages: {error}") from None
    return rendered


def _contents(tokenizer: Any, messages: Messages, rendered: str, writes: bool) -> list[_Content]:
    """Where the messages' contents stand, in the order in which the template writes them."""
    marked = _rendered(
        tokenizer,
        [{**message, "content": f"\ue000{i}\ue001"} for i, message in enumerate(messages)],
        writes,
    )
    first, *rest = _MARK.split(marked)
    order, between = [int(i) for i in rest[::2]], rest[1::2]
    for i, message in enumerate(messages):
        if i not in order:
            warnings.warn(
                f"the chat template leaves message {i} ({message['role']}) out: the model does not "
                "see it.",
                stacklevel=6,
            )
    found = _between(messages, rendered, first, list(zip(order, between, strict=True)))
    return found or [_only_place(messages, i, rendered) for i in order]


def _between(
    messages: Messages, rendered: str, first: str, parts: Sequence[tuple[int, str]]
) -> list[_Content]:
    """The contents between the template's own parts; none where the template wrote others.

    Args:
        messages: Of the chat.
        rendered: The chat.
        first: What the template writes before any content.
        parts: Every content's message, and what the template writes behind it.
    """
    found, at = [], len(first)
    if not rendered.startswith(first):
        return []
    for message, following in parts:
        content = messages[message]["content"]
        forms = (content, content.strip(), content.lstrip(), content.rstrip())
        fitting = [form for form in forms if rendered.startswith(form + following, at)]
        if not fitting:
            return []
        found.append(_Content(message, at, at + len(fitting[0])))
        at += len(fitting[0] + following)
    return found if at == len(rendered) else []


def _only_place(messages: Messages, index: int, rendered: str) -> _Content:
    """The one place where a message stands, of a template that looks into contents."""
    content = messages[index]["content"].strip()
    if rendered.count(content) != 1:
        raise InputError(
            f"the chat template changes message {index} ({content!r:.60}), or writes it more than "
            "once, so that its tokens cannot be told from the template's: give the message as the "
            "template leaves it, or the whole prompt as a text."
        )
    start = rendered.index(content)
    return _Content(index, start, start + len(content))


def _placed(
    rendered: str, contents: Sequence[_Content], spans: Sequence[tuple[int, int]]
) -> list[tuple[int | None, tuple[int, int]]]:
    """For each token its message, None for the template's, and its place in the contents alone."""
    found: list[tuple[int | None, tuple[int, int]]] = []
    for start, end in spans:
        line = 0
        own: tuple[int | None, tuple[int, int]] = (None, (0, 0))
        for content in contents:
            first, last = max(start, content.start), min(end, content.end)
            if first < last and rendered[first:last].strip():
                shift = line - content.start
                own = (content.message, (first + shift, last + shift))
                break
            line += content.end - content.start + 1
        found.append(own)
    there = [end > start for start, end in spans]
    return [
        (message if there[i] else _inside_of(found, there, i), span)
        for i, (message, span) in enumerate(found)
    ]


def _inside_of(
    found: Sequence[tuple[int | None, tuple[int, int]]], there: Sequence[bool], index: int
) -> int | None:
    """The message on both sides of a token without a place: of white space, say."""
    before = next((found[i][0] for i in reversed(range(index)) if there[i]), None)
    after = next((found[i][0] for i in range(index + 1, len(found)) if there[i]), None)
    return before if before == after else None
