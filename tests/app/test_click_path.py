"""The app as somebody uses it: the command, a browser and a model, from typing to exports."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.browser import needs_browser
from support.visits import visiting

from attnflow import EMBEDDED_MODEL, load

pytest.importorskip("uvicorn")
pytestmark = needs_browser

SMOLLM2 = os.environ.get("ATTNFLOW_SMOLLM2")
SENTENCE = "although this dog is not cute, it is very smart."
EDITED = "although this dog is cute, it is not very smart."
HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>hacked=1</script> good'
PATIENCE = 500  # seconds for a test, on a machine that is busy
READY = (
    "document.getElementById('about-model').textContent && document.getElementById('work').hidden"
)
DONE = "document.getElementById('status').textContent.startsWith('Done in')"
PROBLEM = "document.getElementById('problem-words').textContent"
TITLE = (
    "document.querySelector('article:not([hidden]) .title, article:not([hidden]) h1').textContent"
)


@contextmanager
def command(*arguments):
    """The address of a running `attnflow app`."""
    app = subprocess.Popen(
        [sys.executable, "-m", "attnflow", "app", "--port", "0", *arguments],
        # Threads that wait for each other take minutes where others use the processor.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = app.stderr.readline()
        yield re.search(r"http://\S+", line)[0]
    finally:
        app.send_signal(signal.SIGINT)
        rest = app.communicate(timeout=60)[1]
    assert app.returncode == 130 and "Traceback" not in rest, rest


@pytest.fixture(scope="module")
def address():
    with command("--model", EMBEDDED_MODEL) as found:
        yield found


@pytest.fixture
def visit(browser, address):
    with visiting(browser, address, seconds=PATIENCE) as page:
        page.resize(1400, 950)
        page.wait(READY, seconds=200)
        yield page
        others = [
            each for each in page.requested if not each.startswith((address, "data:", "blob:"))
        ]
        assert not others, "nothing is asked of any other host"
        assert not page.complaints, page.complaints


def explain(page, text):
    page.evaluate("document.getElementById('status').textContent = ''")
    page.type("#text", text)
    page.click("#explain")
    page.wait(DONE, seconds=200)


def follow(page, token):
    """Click a token in the frame, and return what is said of its paths."""
    page.in_frame(
        "Array.from(document.querySelectorAll('article:not([hidden]) .heat:not([hidden]) .t'))"
        f".find((t) => t.textContent.trim() === {token!r}).id = 'chosen'"
    )
    page.click_in_frame("#chosen")
    paths = page.wait(
        "document.querySelector('article:not([hidden]) [data-paths]').textContent", frame=True
    )
    assert paths.startswith(f"{token} receives")
    return paths


def test_from_typing_to_exports(visit, tmp_path):
    explain(visit, SENTENCE)
    assert "positive" in visit.wait(TITLE, frame=True)
    assert visit.in_frame("document.querySelectorAll('.flow .link').length") > 10
    assert "layer" in follow(visit, "smart")
    # Switch the class by the form.
    visit.evaluate("document.getElementById('status').textContent = ''")
    visit.click("#choices button:nth-child(2)")
    visit.wait(DONE, seconds=200)
    visit.wait(f"{TITLE}.includes('negative')", frame=True)
    assert visit.evaluate("document.querySelectorAll('#history li').length") == 2
    # Export, by a click, as a reader has it.
    visit.download_into(tmp_path)
    visit.click("[data-form=safetensors]")
    visit.click("[data-form=json]")
    files = [tmp_path / "attnflow.safetensors", tmp_path / "attnflow.json"]
    while not all(file.exists() for file in files):
        visit.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    attributions = load(files[0])
    assert [a.label for a in attributions] == ["negative", "positive"]
    assert attributions[0].text == SENTENCE
    assert [a["label"] for a in json.loads(files[1].read_text())] == ["negative", "positive"]
    # And on the page itself, last: a frame that is loaded anew would take the answer with it.
    visit.click_in_frame(".choices a:nth-child(2)")
    visit.wait(f"{TITLE}.includes('positive')", frame=True)


def test_an_edit_shows_what_changed_and_the_history_goes_back(visit):
    explain(visit, SENTENCE)
    explain(visit, EDITED)
    visit.wait("!document.getElementById('changes').hidden")
    said = visit.evaluate("document.getElementById('changes').innerText")
    assert "not" in said and "positive" in said and "→" in said
    assert visit.evaluate("document.querySelector('#edited ins').textContent.trim()") == "not"
    visit.click("#history .compare")
    visit.wait("document.body.textContent.includes('is not cute')", frame=True)
    assert visit.in_frame("document.body.textContent.includes('is not very')")
    visit.click("#history li:nth-child(2) .open")
    visit.wait("!document.body.textContent.includes('is not very')", frame=True)
    assert visit.evaluate("document.getElementById('text').value") == SENTENCE


def test_hostile_text_is_harmless(visit):
    explain(visit, HOSTILE)
    visit.wait("document.querySelectorAll('.t').length > 5", frame=True)
    assert visit.in_frame("typeof hacked + document.images.length") == "undefined0"
    explain(visit, HOSTILE + " film")
    assert visit.evaluate("typeof hacked") == "undefined"
    assert visit.evaluate("document.querySelectorAll('#history img, #edited img').length") == 0
    # The frame is of another origin, and so reaches nothing of the app.
    assert visit.in_frame("self.origin") == "null"


def test_twenty_thousand_characters_are_refused_kindly_and_kept(visit):
    text = "a good film " * 1667
    visit.type("#text", text)
    visit.click("#explain")
    said = visit.wait(PROBLEM)
    assert "takes 512" in said and "A text too long for the model" in said
    assert visit.evaluate("document.getElementById('text').value") == text
    assert not visit.evaluate("document.getElementById('cut').hidden")


def test_a_model_that_fails_says_why_and_the_other_goes_on(visit):
    visit.evaluate("selectModel('/no/such/folder')")
    assert "/no/such/folder" in visit.wait(PROBLEM)
    visit.wait(f"document.getElementById('model').value === {EMBEDDED_MODEL!r}")
    explain(visit, SENTENCE)


def test_a_reload_loses_nothing(visit):
    explain(visit, SENTENCE)
    visit.type("#text", "half a sent")
    visit.evaluate("window.isOld = true; setTimeout(() => location.reload())")
    visit.wait("!window.isOld && document.querySelectorAll('#history li').length === 1")
    assert visit.evaluate("document.getElementById('text').value") == "half a sent"


@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out(visit, width, scheme):
    visit.resize(width, 900)
    visit.prefer(scheme)
    visit.evaluate("document.getElementById('options').open = true")
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert visit.evaluate(wide)
    light = visit.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (light == "rgb(252, 251, 249)") is (scheme == "light")


@pytest.mark.skipif(SMOLLM2 is None, reason="ATTNFLOW_SMOLLM2 names no folder of make smollm2")
def test_a_language_model_from_typing_to_exports(browser, tmp_path):
    with command("--model", SMOLLM2) as address:
        with visiting(browser, address, seconds=PATIENCE) as visit:
            visit.resize(1400, 950)
            visit.wait(READY, seconds=300)
            explain(visit, "The capital of France is")
            visit.wait(f"{TITLE}.includes('Paris')", frame=True)
            choices = visit.evaluate("document.getElementById('choices').innerText")
            assert choices.startswith("Paris") and "London" in choices
            assert "layer" in follow(visit, "France")
            visit.evaluate("document.getElementById('status').textContent = ''")
            visit.click("#choices button:nth-child(3)")
            visit.wait(DONE, seconds=200)
            chosen = visit.evaluate(
                "document.querySelector('#choices [aria-pressed=true]').innerText"
            )
            visit.wait(f"{TITLE}.includes({chosen.split()[0]!r})", frame=True)
            # A long text, that is cancelled, and what comes after it.
            visit.type("#text", "hello world and more words " * 140)
            visit.click("#explain")
            visit.wait("document.getElementById('status').textContent.startsWith('decision')")
            visit.click("#cancel")
            visit.wait("document.getElementById('status').textContent === 'Cancelled.'")
            explain(visit, "The opposite of hot is")
            visit.wait(f"{TITLE}.includes('cold')", frame=True)
            visit.download_into(tmp_path)
            visit.click("[data-form=json]")
            file = Path(tmp_path / "attnflow.json")
            while not file.exists():
                visit.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
            assert json.loads(file.read_text())[0]["label"] == " cold"
            assert not visit.complaints
