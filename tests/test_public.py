"""What the package exports, what it imports, and in which direction."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import attnflow

NAMES = [
    "Attribution",
    "AttnflowError",
    "Certificate",
    "EMBEDDED_MODEL",
    "Estimate",
    "Explainer",
    "Flow",
    "InputError",
    "LayeredNetwork",
    "MissingExtraError",
    "ModelError",
    "Status",
    "StorageError",
    "UnsolvedError",
    "Word",
    "layered_network",
    "load",
    "maximum_flow",
    "paper_gamma",
    "paper_network",
    "pruned",
    "save",
    "shapley_values",
    "to_networkx",
]
# What each room may import of the others when it is loaded; nothing imports to its right.
ALLOWED = {
    "errors": set(),
    "embedded": set(),
    "files": {"errors"},
    "tokens": {"errors"},
    "network": {"errors"},
    "capture": {"targets", "errors"},
    "solver": {"network", "errors"},
    "flow_game": {"network", "solver", "errors"},
    "tasks": {"errors"},
    "models": {"embedded", "embeddings", "tasks", "errors"},
    "attribution": {"files", "errors"},
    "attributions": {"attribution", "errors"},
    "views": {"attribution", "attributions", "files", "errors"},
    "targets": {"errors"},
    "pictures": {"errors"},
    "placing": set(),
    "naming": {"errors"},
    "patches": {"capture", "placing", "errors"},
    "images": {"capture", "naming", "patches", "pictures", "placing", "errors"},
    "batches": {"patches", "tokens", "errors"},
    "readouts": {"solver", "attribution"},
    "choices": {"targets", "tasks", "tokens", "errors"},
    "embeddings": {"errors"},
    "continuations": {"batches", "tokens", "errors"},
    "decisions": {"choices", "naming", "patches", "targets", "tasks", "tokens", "errors"},
    "chat": {"continuations", "tokens", "errors"},
    "spans": {"decisions", "targets", "tasks", "tokens", "errors"},
    "reading": {
        *("chat", "continuations", "decisions", "models", "naming", "spans", "targets", "tasks"),
        *("tokens", "errors"),
    },
    "attention_sink": {"capture", "tasks", "tokens", "errors"},
    "coarsening": {
        *("attention_sink", "batches", "capture", "decisions", "patches", "tasks", "tokens"),
        "errors",
    },
    "asking": {
        *("batches", "capture", "choices", "coarsening", "decisions", "embeddings", "patches"),
        *("spans", "targets", "tasks", "tokens"),
    },
    "examples": {
        *("batches", "capture", "choices", "decisions", "images", "naming", "patches", "reading"),
        *("spans", "targets", "tasks", "tokens"),
    },
    "allocations": set(),
    "sizes": {"errors"},
    "lengths": {"batches", "chat", "coarsening", "images", "patches", "reading", "errors"},
    "activations": {"allocations", "batches", "capture", "lengths", "targets"},
    "estimates": {"activations", "capture", "lengths", "sizes", "solver", "tasks", "errors"},
    "options": {"capture", "coarsening", "readouts", "spans", "targets", "errors"},
    "results": {
        *("attention_sink", "attribution", "capture", "choices", "coarsening", "decisions"),
        *("examples", "network", "options", "patches", "readouts", "solver", "spans", "tasks"),
        *("tokens", "errors"),
    },
    "explainer": {
        *("asking", "attention_sink", "attribution", "attributions", "capture", "choices"),
        *("coarsening", "embedded", "embeddings", "estimates", "examples", "images", "lengths"),
        *("models", "options", "reading", "results", "spans", "targets", "tasks", "errors"),
    },
    "bench": {"capture", "network", "solver"},
    "methods": {
        *("batches", "capture", "continuations", "errors", "models", "pictures", "solver"),
        *("targets", "tasks", "tokens"),
    },
    "evaluation": {"methods", "capture", "solver", "files", "errors"},
    "known_models": set(),
    "verdict": {"capture", "known_models", "models", "tasks"},
    "cli": {"__init__", "bench", "errors", "files", "known_models"},
    "__main__": {"cli"},
    "__init__": set(),
}
# What it may import in addition when a function is called.
LATER = {
    "attribution": {"views"},
    "attributions": {"views"},
    "bench": {"embedded"},
    "cli": {
        *("explainer", "attribution", "evaluation", "methods", "models", "options", "pictures"),
        *("verdict", "views"),
    },
}
SOURCE = Path(attnflow.__file__).parent


def files_of(room):
    folder = SOURCE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [SOURCE / f"{room}.py"]


def imported(tree):
    """The rooms that the statements of a syntax tree import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "attnflow":
                for alias in node.names:
                    is_room = (SOURCE / alias.name).is_dir() or alias.name in ALLOWED
                    yield alias.name if is_room else "__init__"
            elif node.module.startswith("attnflow."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "attnflow":
                    yield (alias.name.split(".") + ["__init__"])[1]


def is_only_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports_of(room):
    """(when it is loaded, at any time) without itself and what only types need."""
    loaded, ever = set(), set()
    for file in files_of(room):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        tree.body = [node for node in tree.body if not is_only_for_types(node)]
        ever |= set(imported(tree))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                loaded |= set(imported(node))
    return loaded - {room}, ever - {room}


def test_exported_names():
    assert attnflow.__all__ == sorted(NAMES)
    assert set(dir(attnflow)) == {*NAMES, "__version__"}
    for name in NAMES:
        assert getattr(attnflow, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        attnflow.nothing  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if is_only_for_types(node))
    aliases = [(node.module, alias) for node in block.body for alias in node.names]
    assert sorted(alias.asname for _, alias in aliases) == sorted(NAMES)
    for module, alias in aliases:
        found = getattr(__import__(module, fromlist=[alias.name]), alias.name)
        assert found is getattr(attnflow, alias.name)


@pytest.mark.parametrize(
    "statement",
    (
        "import attnflow",
        "from attnflow import InputError, StorageError",
        "from attnflow.cli import main",
    ),
)
def test_import_is_light(statement):
    code = (
        f"{statement}\nimport sys\n"
        "heavy = {'torch', 'transformers', 'numpy', 'safetensors', 'tqdm'} & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_flows_need_no_transformers():
    code = (
        "from attnflow import maximum_flow, to_networkx\nimport sys\n"
        "raise SystemExit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room):
    loaded, ever = imports_of(room)
    assert loaded <= ALLOWED[room]
    assert ever <= ALLOWED[room] | LATER.get(room, set())


def test_capture_and_solver_know_nothing_of_each_other():
    assert not {"solver", "network"} & imports_of("capture")[1]
    assert "capture" not in imports_of("solver")[1] | imports_of("network")[1]


def test_only_the_rooms_for_models_know_transformers():
    knowing = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == "transformers" for name in names):
                knowing.add(file.relative_to(SOURCE).parts[0].removesuffix(".py"))
    assert knowing == {"capture", "models", "embedded", "bench", "cli", "tasks"}


def test_no_assertion_guards_a_user():
    for file in SOURCE.rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        assert not [node.lineno for node in nodes if isinstance(node, ast.Assert)], file


def test_the_architecture_page_names_a_room_behind_those_that_it_imports():
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    place = {
        name: i for i, row in enumerate(rows) for name in re.findall(r"`(\w+)(?:\.py|/)`", row)
    }
    packages = {"__init__", "__main__"}
    assert set(ALLOWED) - packages == set(place) - {"assets"}
    for room in set(ALLOWED) - packages:
        late = [one for one in ALLOWED[room] - packages if place[one] > place[room]]
        assert not late, f"{room} stands before {late}"
