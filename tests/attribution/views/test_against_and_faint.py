"""Tokens that speak against a decision, and flows that carry little: in every view, and safely."""

import re
from dataclasses import replace

import numpy as np
import pytest

from attnflow.attribution.views import notebook, page, terminal
from attnflow.attribution.views.verdict import sentence
from attnflow.errors import InputError

HOSTILE = '<img src=x onerror="alert(1)">\x1b[2J'


@pytest.fixture
def signed(short):
    """The sentence with *not* and *cute* against it."""
    numbers = np.where(short.scores > 0, short.scores, 0.0) / short.scores.max()
    for i, token in enumerate(short.tokens):
        if token in ("not", "cute"):
            numbers[i] = -3.0 if token == "not" else -0.5
    scores = np.where(numbers < 0, 0.0, short.scores)  # nothing flows to what opposes
    return replace(
        short,
        tensor="net",
        scores=scores,
        contributions=numbers,
        signed_scores=numbers,
        explained=2.5,
    )


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


def test_words_name_what_speaks_against(make):
    """The numbers of a word's tokens are summed, as its scores are."""
    a = make("an extraordinary film")
    assert [a.tokens[i] for i in (2, 3)] == ["extrao", "rdinary"]
    signed = replace(a, tensor="net", signed_scores=np.array([0.0, 1, -2, 0.5, -1, 0]))
    for name, shown in views(signed).items():
        text = " ".join(re.sub("<[^>]*>", " ", shown).split())
        against = text[text.rindex("−1.500") - 20 :]
        assert "extraordinary −1.500" in against and "−2.000" not in text, name
        assert against.index("−1.500") < against.index("−1.000"), name


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


def test_a_sentence_says_what_a_decision_rests_on(signed):
    best, share = signed.top(1)[0][0], signed.shares.max()
    assert share < 0.5  # so that it takes several
    wanted = "“not” speaks against."
    for name, shown in views(signed).items():
        plain = " ".join(re.sub("<[^>]*>", "", shown).split())
        opening = "Mostly" if "Mostly" in plain else "Spread over"
        assert opening in plain and best in plain, name
        assert (wanted in plain) or (name == "page" and "not speaks against." in plain), name


def one_word(attribution, *shares):
    """The same text with these shares at its first words, and nothing else."""
    scores = np.zeros(len(attribution))
    ordinary = np.flatnonzero(~attribution.special)
    scores[ordinary[: len(shares)]] = shares
    return replace(attribution, scores=scores, edges=None, raw_scores=None)


def test_the_sentence_names_as_few_as_make_half(short):
    a, b, c, d = (short.tokens[i] for i in np.flatnonzero(~short.special)[:4])
    assert sentence(one_word(short, 0.8, 0.2)) == f"Mostly “{a}” (80.0 %)."
    found = sentence(one_word(short, 0.4, 0.3, 0.2, 0.1))
    assert found == f"Mostly “{a}” (40.0 %) and “{b}” (30.0 %)."
    spread = sentence(one_word(short, *[0.125] * 8))
    assert spread.startswith(f"Spread over 8 words, first “{a}” (12.5 %), “{b}” (12.5 %) and “{c}”")
    assert f"“{d}”" not in spread


def test_no_sentence_where_little_flows(faint, short):
    assert sentence(faint) == "" and sentence(one_word(short)) == ""
    assert "Mostly" not in "".join(views(faint).values())


def test_opposing_pieces_have_a_colour_and_a_line_of_their_own(signed):
    page = views(signed)["page"]
    cells = re.findall(r'class="t against"[^>]*style="--h:([\d.]+)"[^>]*>(\w+)<', page)
    assert ("1.00", "not") in cells and {word for _, word in cells} == {"not", "cute"}
    heats = {word: float(heat) for heat, word in cells}
    assert heats["cute"] == pytest.approx(0.5 / 3, abs=0.01)
    notebook = views(signed)["notebook"]
    # The third is in the key of the colours.
    assert notebook.count("underline dotted") == 3 and "rgba(36,112,196,0.60)" in notebook


def test_a_piece_that_much_flow_reaches_keeps_its_colour(signed):
    """A small effect against does not hide the share that a ranking puts first."""
    place = signed.tokens.index("cute")
    scores = np.where(np.arange(len(signed)) == place, signed.scores.max(), signed.scores)
    cells = re.findall(
        r'class="t against"[^>]*>(\w+)<', views(replace(signed, scores=scores))["page"]
    )
    assert set(cells) == {"not"}


def test_a_terminal_marks_what_speaks_against(signed):
    """Blue and underlined; a raised minus where there is no colour; each with its meaning."""
    coloured = terminal.render(signed, color=True, width=90)
    assert set(re.findall(r"\x1b\[4;48;5;\d+;38;5;16m(\w+)\x1b", coloured)) == {"not", "cute"}
    assert "16mspeaks against\x1b" in coloured
    plain = terminal.render(signed, color=False, width=90)
    # A mark cannot be faint, so that weak ones have none.
    assert re.search("not[¹²³]?⁻ cute", plain) and "\n⁻ speaks against\n" in plain
    positive = terminal.render(replace(signed, signed_scores=signed.scores), color=False)
    assert "⁻" not in positive.split("\n\n")[1]


def test_places_of_a_writing_model_do_not_speak_against(signed):
    """The first token and the one that is read hold mostly what their place gives them."""
    numbers = -np.ones(len(signed))
    written = replace(
        signed, task="text-generation", position=len(signed) - 2, signed_scores=numbers
    )
    ordinary = [i for i in range(len(signed)) if not signed.special[i]]
    cells = re.findall(r'class="t against" data-t="(\d+)"', views(written)["page"])
    assert {int(i) for i in cells} == set(ordinary) - {ordinary[0], len(signed) - 2}
    assert {
        int(i)
        for i in re.findall(
            r'class="t against" data-t="(\d+)"',
            views(replace(signed, signed_scores=numbers))["page"],
        )
    } == set(ordinary)


def test_equal_words_are_one_in_the_sentence(make):
    repeated = make("thin plot, thin jokes, thin")
    scores = np.array([1.0 if t == "thin" else 0.0 for t in repeated.tokens])
    scores[list(repeated.tokens).index("plot")] = 1.0
    found = sentence(replace(repeated, scores=scores, edges=None, raw_scores=None))
    assert found == "Mostly “thin” (75.0 %, 3 times)."


def test_the_sentence_says_where_special_tokens_took_nearly_all(short):
    scores = short.scores.copy()
    scores[0] = 99 * scores[~short.special].sum()
    taken = sentence(replace(short, scores=scores))
    assert taken.startswith("Special tokens took 99.") and ", of the rest " in taken
    assert not sentence(short).startswith("Special")
