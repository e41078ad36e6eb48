"""Values that no argument expects: numbers of thousands of digits, NaN, odd texts and tensors."""

import math

import numpy as np
import torch

from attnflow import AttnflowError


class Odd:
    """An object of a kind that nobody knows."""


def _deep():
    value = []
    for _ in range(3000):
        value = [value]
    return value


VALUES = {
    "five thousand digits": lambda: 10**5000,
    "minus five thousand digits": lambda: -(10**5000),
    "four hundred digits": lambda: 10**400,
    "beyond 64 bits": lambda: 2**63,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-1": lambda: -1,
    "0": lambda: 0,
    "True": lambda: True,
    "a half": lambda: 0.5,
    "the least float": lambda: 5e-324,
    "a long text": lambda: "x" * 10**5,
    "NUL": lambda: "a\0b",
    "half a surrogate": lambda: "\ud800",
    "an empty text": lambda: "",
    "bytes": lambda: b"ab",
    "an empty list": list,
    "an empty dict": dict,
    "a list 3000 deep": _deep,
    "texts": lambda: ["a", "b\0"],
    "a list of digits": lambda: [10**5000],
    "a pair of digits": lambda: (10**5000, 10**5000),
    "an iterator": lambda: iter([10**5000]),
    "a set": lambda: {1},
    "a complex number": lambda: 1j,
    "a class": lambda: int,
    "an object": Odd,
    "a meta tensor": lambda: torch.ones(1, device="meta"),
    "a tensor of nan": lambda: torch.tensor(math.nan),
    "a sparse tensor": lambda: torch.eye(2).to_sparse(),
    "a nested tensor": lambda: torch.nested.nested_tensor([torch.ones(2)]),
    "an array": lambda: np.ones((2, 2)),
    "an array of objects": lambda: np.array([Odd()]),
}


def faults(call, keyword):
    """Errors of a call, over every value, that are not one readable line of ours."""
    found = []
    for name, value in VALUES.items():
        try:
            call(**{keyword: value()})
        except AttnflowError as error:
            if "\n" in str(error) or len(str(error)) > 600:
                found.append(f"{name}: {len(str(error))} characters: {error!s:.100}")
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error!s:.200}")
    return found
