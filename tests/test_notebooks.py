"""Notebooks of examples/: as they are stored, and run from scratch by `make test-notebooks`."""

import re
from collections import Counter

import nbformat
import pytest
from support.notebooks import EXAMPLES, METADATA, NAMES, SMOLLM2, executed, stored

LARGEST = 200_000  # bytes
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# Said once on a machine, by the first solve.
COMPILING = re.compile(r"compiling the solver .*\n")
STEPS = re.compile(r"\d+ steps")  # another processor rounds otherwise, and may take one more


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def streams(notebook, name):
    texts = (
        o.get("text", "") for cell in code(notebook) for o in cell.outputs if o.get("name") == name
    )
    return "".join(texts)


def shown(cell):
    """Text that a cell prints and shows."""
    plain = (o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)
    return STEPS.sub("steps", COMPILING.sub("", "".join(plain)))


def forms(cell):
    """Forms that each value shown by a cell comes in."""
    return [sorted(output.data) for output in cell.outputs if "data" in output]


def test_every_notebook_is_known():
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_was_run_in_order_and_holds_nothing_of_a_machine(name):
    notebook = stored(name)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert [cell.execution_count for cell in code(notebook)] == [*range(1, len(code(notebook)) + 1)]
    kinds = Counter(output.output_type for cell in code(notebook) for output in cell.outputs)
    assert "error" not in kinds and kinds["execute_result"] + kinds["display_data"] >= 2
    assert streams(notebook, "stderr") == ""
    text = (EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert not re.search(r"/(?:work|tmp|root|home|Users)/| at 0x|site-packages", text)


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook_lead_somewhere(name):
    prose = "\n".join(cell.source for cell in stored(name).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)", prose)
    assert links and all((EXAMPLES / link).exists() for link in links)


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_scratch_to_what_is_stored(name, tmp_path):
    if name == "language_model" and not SMOLLM2.exists():
        pytest.skip("runs/smollm2 is missing: make smollm2")
    anew, old = executed(name, tmp_path), stored(name)
    assert COMPILING.sub("", streams(anew, "stderr")) == ""
    for new_cell, old_cell in zip(code(anew), code(old), strict=True):
        assert forms(new_cell) == forms(old_cell), old_cell.source
        now, before = shown(new_cell), shown(old_cell)
        # Spaces align numbers.
        words = [NUMBER.sub("", text).split() for text in (now, before)]
        assert words[0] == words[1], old_cell.source
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (now, before)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02)
