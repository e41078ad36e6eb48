"""The package's exported names, its imports, and their direction."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import attnflow

NAMES = [
    "Attribution",
    "AttnflowError",
    "Certificate",
    "CorpusFunction",
    "CorpusReport",
    "CorpusRun",
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
    "batch_function",
    "corpus_report",
    "explain_corpus",
    "find_family",
    "layered_network",
    "load",
    "maximum_flow",
    "paper_gamma",
    "paper_network",
    "pruned",
    "save",
    "shapley_values",
    "to_dataframe",
    "to_html",
    "to_networkx",
]
# Packages in the order of their imports; those of one row know nothing of each other.
ORDER = (
    {"errors"},
    {"forks", "checks", "progress", "versions"},
    {"files", "capture", "solver"},
    {"models", "attribution", "one_writer"},
    {"inputs"},
    {"explainer", "methods"},
    {"app", "corpus"},
    {"evaluation"},
    {"cli"},
    {"__main__"},
)
ROOT = (
    *("errors", "forks", "checks", "progress", "versions", "files", "one_writer"),
    *("__init__", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
SOURCE = Path(attnflow.__file__).parent
TESTS = Path(__file__).parent
BENCHMARKS = TESTS.parent / "benchmarks"


@cache
def parsed(file):
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def modules():
    """Every source file with its dotted name below `attnflow` and its syntax tree."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append((name, parsed(file)))
    return found


@cache
def dotted_names(tree):
    """Dotted names of what a syntax tree imports, inside functions too."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


@cache
def imported(tree):
    """Names below `attnflow` that a syntax tree imports.

    Names that no file has, such as those of functions, are shortened to the module they are in;
    "" stands for the package itself, as in `import attnflow`.
    """
    names = (name.partition(".") for name in dotted_names(tree))
    return [module_of(inner) for package, _, inner in names if package == "attnflow"]


@cache
def module_of(name):
    while name:
        path = SOURCE / name.replace(".", "/")
        if path.is_dir() or path.with_suffix(".py").is_file():
            return name
        name = name.rpartition(".")[0]
    return ""  # the package's own __init__


def is_only_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


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
        "from attnflow.attribution.views.sanitize import for_terminal",  # an error's message
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


def test_the_root_holds_the_packages_alone():
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"}
    files = {path.stem for path in SOURCE.glob("*.py")}
    assert folders == set().union(*ORDER) - {*ROOT} - {"__init__"}
    assert files == {*ROOT}
    assert (SOURCE / "py.typed").is_file(), "type checkers ignore annotations without it"


def test_imports_point_one_way():
    """A package imports those of lower rows; the package's own names are for users alone."""
    upwards = [
        f"{module} imports {name or 'attnflow'}"
        for module, tree in modules()
        for name in imported(tree)
        if module and not may_import(module.split(".")[0], name.split(".")[0])
    ]
    assert not upwards


def may_import(package, other):
    if other == "":  # `__version__`
        return package in ("app", "cli")
    return package == other or LEVEL[other] < LEVEL[package]


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: set(imported(tree)) - {module} for module, tree in modules() if module}
    while graph:
        free = {module for module, names in graph.items() if not names & set(graph)}
        assert free, f"a circle among {sorted(graph)}"
        graph = {module: names for module, names in graph.items() if module not in free}


def test_only_packages_of_models_know_transformers():
    knowing = {
        module.split(".")[0]
        for module, tree in modules()
        if any(name.split(".")[0] == "transformers" for name in dotted_names(tree))
    }
    assert knowing == {"capture", "models", "cli"}


def test_no_assertion_guards_a_user():
    for file in SOURCE.rglob("*.py"):
        nodes = ast.walk(parsed(file))
        assert not [node.lineno for node in nodes if isinstance(node, ast.Assert)], file


def test_the_architecture_page_has_a_row_for_each_package_in_the_order_of_imports():
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    names = [re.search(r"`(\w+)/`", row)[1] for row in rows if "/`" in row]
    assert [LEVEL[name] for name in names] == sorted(LEVEL[name] for name in names)
    assert sorted(names) == sorted(set(LEVEL) - {*ROOT} - {"__init__"})


def test_tests_share_builders_by_support_alone():
    """No test imports a module of tests, a conftest or a benchmark."""
    benchmarks = {"benchmarks", *(file.stem for file in BENCHMARKS.glob("*.py"))}
    wrong = [
        f"{file.relative_to(TESTS)} imports {name}"
        for file in sorted(TESTS.rglob("*.py"))
        for name in dotted_names(parsed(file))
        if name.split(".")[0] in benchmarks or any(map(is_of_tests, name.split(".")))
    ]
    assert not wrong


def is_of_tests(name):
    return name == "conftest" or name.startswith("test_")


def test_every_folder_of_tests_has_the_name_of_a_package():
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()} - {"__pycache__", "support"}
    assert folders == set().union(*ORDER) - {*ROOT} - {"__init__"}
    assert not list((TESTS / "support").glob("test_*.py"))


QUESTIONS = re.compile("(What|Of|Whether|Where|How|Which|Why|Who)\\b", re.I)
# The bracket spares formulas, such as `to[i] += x`.
PARTS = re.compile("(When|From|By|As|If|With|Without|At|To|In|Not|Also)\\b(?!\\[)", re.I)


def docstrings_that_begin_otherwise(tree):
    return [
        text.splitlines()[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
        and (QUESTIONS.match(text := ast.get_docstring(node) or "") or PARTS.match(text))
    ]


def test_docstrings_begin_with_a_verb_or_a_noun_phrase():
    """Plain English: none begins with a question word or a preposition ("Whether it is so")."""
    assert not {
        module: wrong
        for module, tree in modules()
        if (wrong := docstrings_that_begin_otherwise(tree))
    }


def test_names_and_docstrings_of_tests_begin_so_too():
    files = [*TESTS.rglob("*.py"), *BENCHMARKS.rglob("*.py")]
    assert not {
        file: wrong for file in files if (wrong := docstrings_that_begin_otherwise(parsed(file)))
    }
    names = [
        node.name
        for file in files
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert names and not [
        name for name in names if QUESTIONS.match(name.removeprefix("test_").split("_")[0])
    ]
