"""The bar: after two seconds, where somebody sees it, with the unit that tells most."""

import subprocess
import sys
import time
from types import ModuleType

import pytest
from support.text_models import PROMPT

from attnflow import progress
from attnflow.explainer import call_progress


def test_the_bar_appears_after_a_while_and_before_the_first_unit(monkeypatch, capsys):
    monkeypatch.setattr(progress, "DELAY", 0.1)
    with progress.bar(3, unit="text", show=True) as advance:
        assert capsys.readouterr().err == ""
        time.sleep(0.4)
        assert "0/3" in capsys.readouterr().err
        time.sleep(0.2)
        advance(2)
        assert "2/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kernel", "widgets", "module"),
    [(True, True, "notebook"), (True, False, "std"), (False, True, "std")],
)
def test_a_notebook_has_a_bar_with_widgets_or_without(monkeypatch, kernel, widgets, module):
    """Nothing warns where ipywidgets is missing: tests turn warnings into errors."""
    if kernel:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    else:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if widgets else None)
    monkeypatch.delitem(sys.modules, "tqdm.notebook", raising=False)
    assert progress._bar_type().__module__ == f"tqdm.{module}"
    assert progress._is_watched() or not kernel


def test_transformers_bars_do_not_warn_in_a_notebook_without_widgets():
    """tqdm.auto warns at its import, which is transformers' own."""
    code = (
        "import sys\nfrom types import ModuleType, SimpleNamespace\n"
        "names = ('ipykernel', 'ipykernel.zmqshell')\n"
        "sys.modules |= {name: ModuleType(name) for name in names} | {'ipywidgets': None}\n"
        "shell = SimpleNamespace(config={'IPKernelApp': {}})\n"
        "sys.modules['IPython'] = SimpleNamespace(get_ipython=lambda: shell)\n"
        "import attnflow\nattnflow.Explainer\nassert 'tqdm.auto' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "IProgress" not in done.stderr, done.stderr


def test_work_that_is_soon_done_shows_none(capsys):
    with progress.bar(3, unit="text", show=True) as advance:
        advance(3)
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.parametrize(("terminal", "shown"), ((True, True), (False, False)))
def test_only_where_somebody_sees_it(monkeypatch, capsys, terminal, shown):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: terminal, raising=False)
    with progress.bar(2, unit="text") as advance:
        time.sleep(0.1)
        advance(1)
    assert ("1/2" in capsys.readouterr().err) is shown


@pytest.mark.parametrize(
    ("texts", "options", "unit", "total"),
    (
        (PROMPT, {}, "stage", 4),
        (PROMPT, {"stages": ()}, "stage", 1),
        (PROMPT, {"tensor": "cf"}, "stage", 1),
        (PROMPT, {"continuation": " good dog"}, "token", 2),
        ([PROMPT, "the film"], {}, "text", 2),
        (PROMPT, {"target": ["good", "bad", "dog"]}, "token", 3),
    ),
)
def test_the_unit_and_its_number(writer, monkeypatch, texts, options, unit, total):
    seen, done = [], []

    class Bar:
        def __init__(self, total, *, unit, show):
            seen.append((unit, total, show))

        def __enter__(self):
            return done.append

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(call_progress, "bar", Bar)
    writer(texts, **options)
    assert seen == [(unit, total, None)] and sum(done) == total


def test_a_function_is_told_and_no_bar_shown(writer, capsys, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    told = []
    writer([PROMPT, "the film"], progress=told.append, batch_size=1, tensor="cf")
    assert told == [1, 1] and capsys.readouterr().err == ""
    writer(PROMPT, progress=False)
    assert capsys.readouterr().err == ""
    writer(PROMPT, progress=True)
    assert "stage" in capsys.readouterr().err
