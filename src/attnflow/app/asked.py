"""A request for an explanation: what the browser sends, checked, and handed to the worker."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from attnflow.errors import InputError, shown
from attnflow.models.literals import InformationTensor

TENSORS = get_args(InformationTensor)
MERGED = ("", "word", "sentence")
MOST_MERGED = 1000  # tokens
MOST_CHARACTERS = 500_000  # of one text
MOST_NEW_TOKENS = 60
LONGEST_NAME = 500


@dataclass(frozen=True)
class Asked:
    """One request; every field has the meaning that it has in `Explainer.__call__`.

    Attributes:
        model: Name of the model: a folder, a file, a hub id, or the embedded one.
        text: The text, or the question about an image.
        pair: A second text, or "".
        system: The system message of a chat, or "".
        is_chat: The text is the message of a user, rendered by the tokenizer's template.
        target: Class or token, or "" for the predicted one.
        against: Class or token, or "".
        tensor: Information tensor.
        coarsen: "word", "sentence" or how many tokens are merged into one; "" merges none.
        bos: Put the beginning-of-text token in front.
        truncate: Cut texts that are longer than the model takes.
        position: Index of a token, or None.
        new_tokens: Number of tokens to generate and explain; 0 explains the one decision.
        others: Number of other classes or tokens that are explained besides the target.
    """

    model: str
    text: str = ""
    pair: str = ""
    system: str = ""
    is_chat: bool = False
    target: str = ""
    against: str = ""
    tensor: str = "net"
    coarsen: str | int = ""
    bos: bool = False
    truncate: bool = False
    position: int | None = None
    new_tokens: int = 0
    others: int = 2

    def __post_init__(self) -> None:
        for name in ("text", "pair", "system"):
            length = len(_checked(self, name, str))
            if length > MOST_CHARACTERS:
                raise InputError(
                    f"{name} has {length:,} characters, and the app takes {MOST_CHARACTERS:,}: "
                    "explain longer texts by `attnflow explain --file`."
                )
        for name in ("model", "target", "against"):
            if len(_checked(self, name, str)) > LONGEST_NAME:
                raise InputError(f"{name} is longer than {LONGEST_NAME} characters: shorten it.")
        for name in ("is_chat", "truncate", "bos"):
            _checked(self, name, bool)
        if self.tensor not in TENSORS:
            raise InputError(
                f"tensor must be one of {', '.join(TENSORS)}; got {shown(self.tensor)}."
            )
        if type(self.coarsen) is int:
            _check_between(self, "coarsen", 1, MOST_MERGED)
        elif self.coarsen not in MERGED:
            raise InputError(
                f"coarsen must be word, sentence, a number or empty; got {shown(self.coarsen)}."
            )
        if self.position is not None:
            _check_between(self, "position", 0, 10**6)
        _check_between(self, "new_tokens", 0, MOST_NEW_TOKENS)
        _check_between(self, "others", 0, 8)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Asked":
        """Return the request that a browser sent.

        Raises:
            InputError: A field is unknown, missing, or has no such value.
        """
        known = {field.name for field in fields(cls)}
        unknown = [name for name in record if name not in known]
        if unknown:
            raise InputError(
                f"unknown field {shown(unknown[0])}: expected {', '.join(sorted(known))}."
            )
        if "model" not in record:
            raise InputError("the request names no model.")
        return cls(**record)


def file_name(name: str) -> str:
    """Return a name of letters, digits, dots and dashes for a file that somebody dropped."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("\\", "/").rpartition("/")[2]).strip(".-")
    return safe[-60:] or "image"


def _checked(asked: Asked, name: str, kind: type) -> Any:
    value = getattr(asked, name)
    if type(value) is not kind:
        raise InputError(f"{name} must be {kind.__name__}, got {shown(value)}.")
    return value


def _check_between(asked: Asked, name: str, low: int, high: int) -> None:
    value = getattr(asked, name)
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{name} must be an integer from {low} to {high}, got {shown(value)}.")
