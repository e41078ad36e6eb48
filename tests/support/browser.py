"""Pages in a real browser, which runs without a screen and prints what it saw."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from attnflow.attribution.views.page import write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_browser = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium on the path"),
    pytest.mark.slow,
]

FRAME = """<!DOCTYPE html><meta charset="utf-8"><title>not run</title>
<style>body { margin: 0 } iframe { border: 0; width: %(width)dpx; height: 900px }</style>
<iframe src="%(page)s#%(hash)s"></iframe>
<script>
const frame = document.querySelector("iframe");
const press = (element, key) => element.dispatchEvent(new frame.contentWindow.KeyboardEvent(
  "keydown", { key, bubbles: true, cancelable: true }));
frame.onload = () => {
  const page = frame.contentDocument;
  const all = (selector) => Array.from(page.querySelectorAll(selector));
  const one = (selector) => page.querySelector(selector);
  document.title = JSON.stringify((() => { %(drive)s })());
};
</script>"""


def chromium(folder: Path, page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=4000",
        *arguments,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def driven(folder: Path, attributions, body: str, *, fragment: str = "", width: int = 1280):
    """Load attributions in a frame, run a function body there, and return what it returns."""
    write(attributions, folder / "page.html", overwrite=True)
    values = {"page": "page.html", "hash": html.escape(fragment), "drive": body, "width": width}
    frame = folder / "frame.html"
    frame.write_text(FRAME % values, encoding="utf-8")
    done = chromium(folder, frame, "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.S).group(1)
    return json.loads(html.unescape(title))
