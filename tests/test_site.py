"""The site of docs/: strict, complete, without network at view time. `make docs` installs it."""

import functools
import http.server
import importlib
import re
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import yaml
from support.browser import Browser, needs_browser
from support.code_blocks import ROOT

PACKAGES = ("attnflow", "attnflow.evaluation", "attnflow.methods")
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
ZENSICAL = shutil.which("zensical", path=str(ROOT / ".venv/bin")) or shutil.which("zensical")
needs_zensical = pytest.mark.skipif(ZENSICAL is None, reason="no zensical: make docs installs it")
FETCHED = re.compile(
    r"<(?:script|img|source|iframe|video|audio)\b[^>]*\ssrc=\"([^\"]*)\""
    r"|<link\b(?=[^>]*rel=\"(?:stylesheet|icon|preload|preconnect|dns-prefetch)\")[^>]*href=\"([^\"]*)\""
)


def in_navigation(entries):
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from in_navigation(value) if isinstance(value, list) else [value]


def build(folder):
    command = [ZENSICAL, "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what the site is made from, with the pages of the notebooks."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("notebooks"))
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for name in ("src", "examples"):
        (folder / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, folder / "docs/notebooks.py"], check=True)
    return folder


@pytest.fixture(scope="module")
def site(project):
    done = build(project)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "site"


def test_every_page_and_notebook_is_in_the_navigation():
    named = [x for x in in_navigation(yaml.safe_load(CONFIG)["nav"]) if not x.startswith("http")]
    pages = {p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")}
    pages = {page.as_posix() for page in pages if page.parts[0] != "notebooks"}
    pages |= {f"notebooks/{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb")}
    assert sorted(named) == sorted(pages)


def test_the_theme_asks_nobody():
    """Fonts and stars would be fetched from others in each reader's browser."""
    config = yaml.safe_load(CONFIG)
    assert config["theme"]["font"] is False and "repo_url" not in config


@pytest.mark.slow
@needs_zensical
def test_no_page_fetches_from_another_place(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for script_or_image, link in FETCHED.findall(page.read_text(encoding="utf-8")):
            address = script_or_image or link
            assert not re.match(r"(https?:)?//", address), f"{page.name}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(.?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
@needs_zensical
def test_every_public_name_is_in_the_reference(site):
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            assert f'id="{package}.{name}"' in text, f"{package}.{name}"
    for name in ("joined", "check_accuracy"):
        assert f'id="attnflow.solver.{name}"' in text


@pytest.mark.slow
@needs_zensical
@pytest.mark.parametrize(
    "fault", ("[x](nothing.md)", "[x](long.md#nothing)", "::: attnflow.Nothing")
)
def test_a_broken_link_or_name_is_an_error(project, site, fault):
    page = project / "docs/index.md"
    before = page.read_text(encoding="utf-8")
    page.write_text(f"{before}\n\n{fault}\n", encoding="utf-8")
    kept = project / "kept"
    site.rename(kept)
    try:
        assert build(project).returncode != 0
    finally:
        page.write_text(before, encoding="utf-8")
        shutil.rmtree(site, ignore_errors=True)
        kept.rename(site)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def address(site):
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_zensical
@pytest.mark.parametrize("page", ("index.html", "api/index.html", "notebooks/classifier.html"))
class TestInABrowser:
    pytestmark = needs_browser

    def test_all_comes_from_one_server(self, tmp_path, address, page):
        browser = Browser(tmp_path)
        opened = SimpleNamespace(as_uri=lambda: f"{address}/{page}")
        names = "performance.getEntriesByType('resource').map((entry) => entry.name).join('\\n')"
        try:
            fetched = browser.result(opened, names).splitlines()
        finally:
            browser.close()
        fetched = [name for name in fetched if not name.startswith("data:")]
        assert len(fetched) >= 4 and all(name.startswith(address) for name in fetched)
