"""Checks of arguments that functions of many packages take."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from attnflow.errors import InputError, shown


def check_name(option: str, value: Any, names: Iterable[str]) -> None:
    """Check that a value is one of some names.

    Raises:
        InputError: It is another name, or not a string.
    """
    names = tuple(names)
    if not isinstance(value, str) or value not in names:
        raise InputError(f"{option} must be one of {', '.join(names)}, got {shown(value)}.")


def check_switch(option: str, value: Any) -> None:
    """Check that a value is True or False.

    Raises:
        InputError: It is another, such as the string "False", which Python takes for true.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{option} must be True or False, got {shown(value)}.")


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of Python or numpy; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_count(option: str, value: Any) -> None:
    """Check that a value is an integer of at least 1.

    Raises:
        InputError: It is none; True and False are none either.
    """
    if not is_integer(value) or value < 1:
        raise InputError(f"{option} must be an integer of at least 1, got {shown(value)}.")


def check_dense(name: str, value: Any) -> None:
    """Check that a value is a tensor of numbers that lie one after the other.

    Raises:
        InputError: It is no tensor, or is nested, sparse, quantised or on the device "meta".
    """
    import torch  # not above: saved attributions are read without it

    if not isinstance(value, torch.Tensor):
        raise InputError(f"{name} must be a torch tensor, got {type(value).__name__}.")
    kinds = {"nested": value.is_nested, "quantised": value.is_quantized, "meta": value.is_meta}
    kind = next((kind for kind, holds in kinds.items() if holds), None)
    if kind is None and value.layout != torch.strided:
        kind = "sparse"
    if kind is not None:
        raise InputError(f"{name} must be a dense tensor with numbers, got a {kind} one.")
