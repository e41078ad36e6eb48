"""Run the notebooks of examples/ from scratch, and store their outputs.

    python tests/support/notebooks.py              all of them, in place
    python tests/support/notebooks.py solver       one of them

`make notebooks` runs it. Nothing of the machine is stored: no paths, times or versions.
"""

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SMOLLM2 = ROOT / "runs/smollm2"
NAMES = ("classifier", "language_model", "evaluate", "solver")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Bars are for who waits. tqdm misses ipywidgets, which Jupyter brings and the tests do without.
VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",
    "TQDM_DISABLE": "1",
}
TIMEOUT = 600  # seconds for a cell; the first may compile the solver


def stored(name: str) -> NotebookNode:
    """Return a notebook as it lies in examples/."""
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def executed(name: str, folder: Path) -> NotebookNode:
    """Run a notebook in a copy of examples/ below a folder, and return it with new outputs.

    Raises:
        CellExecutionError: A cell raises.
    """
    shutil.copytree(EXAMPLES, folder / "examples")
    if SMOLLM2.exists():
        (folder / "runs").mkdir()
        (folder / "runs/smollm2").symlink_to(SMOLLM2.resolve())
    notebook = stored(name)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=["--log-level=40"],  # without what Jupyter says of itself
        resources={"metadata": {"path": str(folder / "examples")}},
        timeout=TIMEOUT,
        coalesce_streams=True,
        record_timing=False,  # times of cells would differ at every run
    ).execute(env=os.environ | VARIABLES)
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        with TemporaryDirectory() as folder:
            notebook = executed(name, Path(folder))
        nbformat.validate(notebook)
        nbformat.write(notebook, EXAMPLES / f"{name}.ipynb")
        print(f"wrote examples/{name}.ipynb")


if __name__ == "__main__":
    main()
