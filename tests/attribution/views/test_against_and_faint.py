"""Tokens that speak against a decision, and flows that carry little: in every view, and safely."""

from dataclasses import replace

import numpy as np
import pytest

from attnflow.attribution.views import notebook, page, terminal
from attnflow.errors import InputError

HOSTILE = '<img src=x onerror="alert(1)">\x1b[2J'


@pytest.fixture
def signed(short):
    """The sentence with *not* and *cute* against it."""
    numbers = np.where(short.scores > 0, short.scores, 0.0) / short.scores.max()
    for i, token in enumerate(short.tokens):
        if token in ("not", "cute"):
            numbers[i] = -3.0 if token == "not" else -0.5
    return replace(short, tensor="net", contributions=numbers, signed_scores=numbers, explained=2.5)


@pytest.fixture
def faint(signed):
    return replace(signed, certificate=replace(signed.certificate, value=0.004))


def views(attribution):
    return {
        "terminal": terminal.render(attribution, color=False, width=90),
        "notebook": notebook.render(attribution),
        "page": page.render([attribution]),
    }


def test_tokens_against_it_are_named_strongest_first(signed):
    assert signed.top_against(1) == [("not", -3.0)]
    assert [name for name, _ in signed.top_against()] == ["not", "cute"]
    for name, shown in views(signed).items():
        text = " ".join(shown.split())
        assert "not" in text and "−3.000" in text and "−0.5000" in text, name
        assert text.index("−3.000") < text.index("−0.5000")
    terminal = " ".join(views(signed)["terminal"].split())
    assert "speaks against: not −3.000, cute −0.5000 explained number 2.500" in terminal
    total = signed.contributions.sum()
    assert signed.remainder == pytest.approx(signed.explained - total)
    assert f"contributions add up to {'−' if total < 0 else ''}{abs(total):.3f}" in terminal


def test_little_that_speaks_against_is_left_out(signed):
    small = np.where(signed.signed_scores < -1, -0.01, signed.signed_scores.clip(min=-0.01))
    for shown in views(replace(signed, signed_scores=small)).values():
        assert "−0.01" not in shown


def test_without_signs_nothing_speaks_against(short):
    with pytest.raises(InputError, match="has no signs"):
        short.top_against()
    for shown in views(short).values():
        assert 'class="opposing"' not in shown and "speaks against:" not in shown


def test_its_names_are_escaped(signed):
    i = signed.tokens.index("not")
    text = signed.text.replace("not", HOSTILE)
    tokens = tuple(HOSTILE if k == i else token for k, token in enumerate(signed.tokens))
    offsets = tuple((0, 0) for _ in tokens)
    hostile = replace(signed, text=text, tokens=tokens, offsets=offsets)
    shown = views(hostile)
    assert "\x1b" not in "".join(shown.values())
    assert "<img src=x" not in shown["page"] and "<img src=x" not in shown["notebook"]


def test_a_faint_flow_is_said_to_be_so_and_has_no_colour(signed, faint):
    assert faint.is_faint and not signed.is_faint and faint.carried == 0.004
    for name, shown in views(faint).items():
        assert "ittle flow: 0.4 % of what the layers could carry" in " ".join(shown.split()), name
    for shown in views(signed).values():
        assert "ittle flow" not in shown
    assert "\x1b[48" in terminal.render(signed, color=True, width=90)
    assert "\x1b[48" not in terminal.render(faint, color=True, width=90)
    assert 'class="faint"' in views(faint)["page"]
    assert "rgba(128,128,128" in views(faint)["notebook"]


def test_only_balanced_layers_tell_how_much_a_flow_carries(faint):
    assert replace(faint, tensor="cf").carried is None
    assert not replace(faint, tensor="agf").is_faint
