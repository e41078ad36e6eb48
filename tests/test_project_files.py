"""Files about the project agree with each other: versions, Pythons, addresses, templates."""

import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

import attnflow

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*_*.yml"))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def read_yaml(name):
    return yaml.safe_load(text(name))


def test_one_version():
    version = attnflow.__version__
    assert PROJECT["version"] == version == str(read_yaml("CITATION.cff")["version"])
    headings = re.findall(r"^## \[(.*)\](?: - (.*))?$", text("CHANGELOG.md"), re.M)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == version and date.fromisoformat(headings[1][1]) <= date.today()


def test_the_workflow_runs_what_ci_runs_on_the_pythons_of_the_classifiers():
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["check"]
    named = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.M)
    assert job["strategy"]["matrix"]["python"] == named and len(named) >= 3
    assert f">={named[0]}" == PROJECT["requires-python"]
    (step,) = [step for step in job["steps"] if "run" in step]
    assert step["run"] == ".ci/run" and step["env"] == {"PYTHON": "python${{ matrix.python }}"}
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert re.search(r"^PYTHON \?=", text("Makefile"), re.M)


def test_ci_runs_every_target_of_check():
    called = " ".join(re.findall(r"^make (.*)", text(".ci/run"), re.M)).split()
    assert called == re.search(r"^check: (.*?) ##", text("Makefile"), re.M)[1].split()


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one(form):
    own = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert own.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in own["body"] if field["type"] != "markdown"]
    names = [field["id"] for field in fields]
    assert names and len(names) == len(set(names))
    for field in own["body"]:
        assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        asked = "value" if field["type"] == "markdown" else "label"
        assert field["attributes"][asked].strip()


def test_addresses_are_of_the_repository_and_lead_to_its_files():
    home = PROJECT["urls"]["Homepage"]
    contacts = read_yaml(".github/ISSUE_TEMPLATE/config.yml")["contact_links"]
    for url in [*PROJECT["urls"].values(), *(contact["url"] for contact in contacts)]:
        assert url.startswith(home)
        for path in re.findall(r"/(?:blob|tree)/main/(.*)", url):
            assert (ROOT / path).exists(), url


def test_every_target_of_make_is_phony_and_explained():
    made = text("Makefile")
    targets = set(re.findall(r"^([a-z0-9-]+):", made, re.M))
    phony = set(re.search(r"^\.PHONY: ((?:.*\\\n)*.*)", made, re.M)[1].replace("\\", " ").split())
    assert targets == phony
    assert {line.split()[0] for line in made_help()} == targets


def made_help():
    # a make inside of `make test` would name the folder that it enters
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
