"""The code of docs/fitting-in.md runs as it stands, where the libraries it imports are there."""

import ast
import re
from pathlib import Path

import pytest
from support.text_models import language_model

from attnflow import Explainer

PAGE = (Path(__file__).parents[1] / "docs/fitting-in.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", 1) for section in PAGE.split("\n## "))
BLOCKS = [
    pytest.param(code, id=f"{title}-{number}")
    for title, section in SECTIONS.items()
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", section, re.S | re.M))
]


def imported(code):
    """Packages that a block imports, at its top."""
    nodes = ast.parse(code).body
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def run(code, names):
    exec(compile(code, "docs/fitting-in.md", "exec"), names)


@pytest.fixture(scope="module")
def names(reader):
    """Names that the first block defines, and the explainer of a language model."""
    defined = {"speaker": Explainer(language_model(), reader)}
    run(BLOCKS[0].values[0], defined)
    return defined


def test_the_page_has_its_blocks():
    packages = set().union(*(imported(block.values[0]) for block in BLOCKS))
    expected = {"attnflow", "pandas", "matplotlib", "shap", "captum", "inseq", "datasets"}
    assert packages == expected | {"wandb", "mlflow"}


@pytest.mark.filterwarnings("ignore")  # of the libraries, about each other
@pytest.mark.parametrize("code", BLOCKS[1:])
def test_a_block_of_the_page(code, names, tmp_path, monkeypatch):
    for package in imported(code):
        pytest.importorskip(package)
    if "captum" in imported(code):
        pytest.importorskip("IPython")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # no server is there
    before = set(names)
    run(code, names)
    assert set(names) >= before
    for written in re.findall(r'"([\w-]+\.(?:csv|png|json|html|safetensors))"', code):
        assert (tmp_path / written).stat().st_size > 0
