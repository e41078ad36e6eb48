"""The extras that errors name are those of the package."""

import re
import tomllib
from pathlib import Path

import attnflow

ROOT = Path(__file__).parents[1]


def test_every_extra_that_an_error_names_exists():
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    found = {"evaluation"}
    for source in Path(attnflow.__file__).parent.rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        found |= set(re.findall(r'needs\("[^"]*", "(\w+)"\)', text))
        found |= set(re.findall(r"attnflow\[(\w+)\]", text))
    assert {"backends", "images"} <= found and found <= extras
