"""The README and the pages of the site run as they stand, and print what they show.

`make test-smollm2` runs what needs a language model too.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.code_blocks import (
    ROOT,
    SMOLLM2,
    Session,
    blocks_of,
    check_output,
    commands_of,
    furnish,
    is_set_up,
    run_command,
)

PAGES = (
    "README.md",
    "docs/index.md",
    "docs/getting-started.md",
    "docs/reading.md",
    "docs/classifiers.md",
    "docs/many-texts.md",
    "docs/corpus.md",
    "docs/corpus-report.md",
    "docs/evaluating.md",
    "docs/faq.md",
    "docs/images.md",
    "docs/language-models.md",
    "docs/long.md",
    "docs/page.md",
    "docs/solver.md",
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HOME = PROJECT["urls"]["Homepage"]
RAW = HOME.replace("github.com", "raw.githubusercontent.com")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHOWN = [case for block in BLOCKS if block.language == "console" for case in commands_of(block)]
IN_README = {
    command
    for block in blocks_of("README.md")
    if block.language == "console"
    for command, _ in commands_of(block)
}
COMMANDS = [  # each once, with the outputs of all pages that show it
    pytest.param(
        command,
        [output for other, output in SHOWN if other == command],
        # Seconds each: those of the README are in every run.
        marks=[] if command in IN_README else pytest.mark.pages,
        id=command,
    )
    for command in dict.fromkeys(command for command, _ in SHOWN)
]
SAVING = {  # the command that saves a file, by the file's name
    name: case.values[0]
    for case in COMMANDS
    for name in re.findall(r"--save (\S+)", case.values[0])
}
quiet = pytest.mark.filterwarnings("ignore")  # hints to users, of the models that stand in


@pytest.fixture(scope="module")
def random_models(tmp_path_factory):
    """The folder of examples/random_models.py, made as a user makes it."""
    folder = tmp_path_factory.mktemp("models")
    script = ROOT / "examples/random_models.py"
    subprocess.run([sys.executable, script], cwd=folder, check=True, capture_output=True)
    return folder / "runs/random"


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page(page, tmp_path, monkeypatch, random_models):
    furnish(tmp_path, random_models)
    monkeypatch.chdir(tmp_path)
    session = Session()
    for block in blocks_of(page):
        if block.language == "python":
            printed = session.run(block)
            if printed is not None and block.output is not None:
                check_output(block.output, printed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "outputs"), [case for case in COMMANDS if not is_set_up(case.values[0])]
)
def test_a_command_of_a_page(command, outputs, tmp_path, random_models):
    if "runs/smollm2" in command and SMOLLM2 is None:
        pytest.skip("ATTNFLOW_SMOLLM2 names no folder of make smollm2")
    furnish(tmp_path, random_models)
    for run in re.findall(r"--(?:report|compare) (\S+)", command):
        run_command(making(run, command.split()[1]), tmp_path)
    if command.startswith("attnflow show "):
        for name in command.split("show ")[1].split(" --")[0].split():
            run_command(SAVING[name], tmp_path)
    printed = run_command(command, tmp_path)
    for output in outputs:
        check_output(output, printed)
    for name in re.findall(r"--(?:html|json|jsonl|csv|save|output) (\S+\.\w+)", command):
        assert (tmp_path / name).stat().st_size > 0


def making(run, subcommand):
    """Return the command, of the same kind, that makes the run that another one reports on."""
    whole = re.compile(rf"attnflow {subcommand} .*--out {run}( |$)")
    return next(command for command, _ in SHOWN if whole.match(command))


@pytest.mark.parametrize("command", [case.values[0] for case in COMMANDS])
def test_a_set_up_names_what_there_is(command):
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    if command.startswith("make "):
        assert command.split()[1] in targets
    if command.startswith("git clone"):
        assert command.split()[2] == HOME
    for extra in re.findall(r"\[(\w+(?:,\w+)*)\]'", command):
        assert set(extra.split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_wheel_that_the_readme_installs_is_the_one_that_is_built():
    wheels = set(re.findall(r"dist/\S+?\.whl", README))
    assert wheels == {f"dist/attnflow-{PROJECT['version']}-py3-none-any.whl"}


def test_the_readme_can_stand_on_an_index():
    """All its links are absolute, and those into the repository lead to a file and a heading."""
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert len(links) > 30 and all(link.startswith("https://") for link in links)
    for link in links:
        if not link.startswith((HOME, RAW)):
            continue
        path, _, anchor = re.sub(rf"^({HOME}/(blob|tree)|{RAW})/main/", "", link).partition("#")
        assert (ROOT / path).exists(), link
        assert not anchor or anchor in headings_of(ROOT / path), link


def headings_of(page: Path):
    """Return the anchors that the headings of a page have."""
    titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_first_screen_is_plain():
    """Name, picture, install, a command, five lines of Python, a language model; no jargon."""
    first = README[: README.index("\n## ")]
    assert first.count("![") == 1 and first.count("```console") == 3
    (python,) = re.findall(r"```python\n(.*?)```", first, re.S)
    assert len([line for line in python.splitlines() if line]) == 5
    for word in ("tensor", "capacit", "certif", "barrier", "maximum", "logit", "bcf", "Shapley"):
        assert word not in first
