"""The wheel and the sdist: what is in them, and the command from clean environments.

`make test-wheel` runs them. Environments take all that they need from the index, in the versions of
constraints.txt, and nothing from the environment that the tests run in.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SENTENCE = "although this dog is not cute, it is very smart."
# Tracked, and of no use without git or to who has an sdist.
NOT_IN_THE_SDIST = {".pre-commit-config.yaml"}
ONLY_IN_THE_SDIST = {"PKG-INFO"}

pytestmark = pytest.mark.wheel


def clean(home=None):
    """Variables of a process that sees no package but those of its own environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    kept |= {"PYTHONNOUSERSITE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return kept if home is None else kept | {"HOME": str(home)}


def run(*command, cwd, home=None):
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=clean(home), capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, the wheel that is built from it, and the wheel of the tree itself."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build")
    run(*build, "--outdir", folder, ROOT, cwd=folder)  # the wheel is made from the sdist
    run(*build, "--wheel", "--outdir", folder / "tree", ROOT, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    (of_the_tree,) = (folder / "tree").glob("*.whl")
    return sdist, wheel, of_the_tree


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tracked(under=""):
    """Files that git knows below a folder of the tree."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout, whose files to compare with")
    listed = run("git", "ls-files", "-z", "--", f"./{under}", cwd=ROOT).stdout
    return set(filter(None, listed.split("\0")))


def version_of(python):
    """Version of an interpreter, as in "3.11"; None where it makes no environments."""
    asked = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", asked], env=clean(), capture_output=True, text=True)
    return done.stdout.strip() or None


def pythons():
    """The newest interpreter of another version that the package names, where one is installed."""
    named = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.M)
    for version in sorted(named, key=lambda v: int(v[2:]), reverse=True):
        homes = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for found in filter(None, [shutil.which(f"python{version}"), *homes]):
            # pyenv has a command for each version on the path, and runs few of them.
            if version_of(found) == version != version_of(sys.executable):
                return [str(found)]
    return []


def test_the_wheel_has_the_package_and_its_licence_alone(built):
    _, wheel, _ = built
    names = contents(wheel).keys()
    about = f"{PROJECT['name']}-{PROJECT['version']}.dist-info/"
    assert {f"src/{name}" for name in names if not name.startswith(about)} == tracked("src")
    assert {name.removeprefix(about) for name in names if name.startswith(about)} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_sdist_has_what_git_has(built):
    with tarfile.open(built[0]) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    assert names - ONLY_IN_THE_SDIST == tracked() - NOT_IN_THE_SDIST


def test_the_wheel_of_the_sdist_is_that_of_the_tree(built):
    _, of_the_sdist, of_the_tree = built
    assert contents(of_the_sdist) == contents(of_the_tree)


def test_an_index_would_take_both(built):
    done = run(sys.executable, "-m", "twine", "check", "--strict", *built[:2], cwd=ROOT)
    assert done.stdout.count("PASSED") == 2


@pytest.mark.parametrize("python", [sys.executable, *pythons()], ids=version_of)
def test_the_command_from_a_clean_environment(python, built, tmp_path):
    _, wheel, _ = built
    environment, home, empty = (tmp_path / name for name in ("environment", "home", "empty"))
    home.mkdir(), empty.mkdir()
    run(python, "-m", "venv", environment, cwd=empty)
    own = environment / "bin" / "python"
    run(own, "-m", "pip", "install", "-c", ROOT / "constraints.txt", wheel, cwd=empty)
    run(own, "-m", "pip", "check", cwd=empty)
    command = environment / "bin" / "attnflow"
    version = run(command, "--version", cwd=empty, home=home).stdout
    assert version == f"attnflow {PROJECT['version']}\n"
    done = run(command, "explain", SENTENCE, "--html", "page.html", cwd=empty, home=home)
    assert done.stdout.startswith("positive 93.3 %") and "smart" in done.stdout
    assert done.stderr == "wrote page.html\n"
    assert [path.name for path in empty.iterdir()] == ["page.html"]
    page = (empty / "page.html").read_text(encoding="utf-8")
    assert "smart" in page and page.rstrip().endswith("</html>")
    where = run(own, "-c", "import attnflow; print(attnflow.__file__)", cwd=empty).stdout
    assert Path(where).is_relative_to(environment)
    shutil.rmtree(environment)  # some gigabytes
