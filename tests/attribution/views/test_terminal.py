"""The heat map for a terminal: safe, aligned, and readable with and without colour."""

import dataclasses
import re
import unicodedata

import numpy as np
import pytest
from support.example_attributions import REVIEW, image_of

from attnflow.attribution.views.ansi import Style
from attnflow.attribution.views.sanitize import columns
from attnflow.attribution.views.terminal import render
from attnflow.errors import InputError

ANSI = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture
def terminal(monkeypatch):
    """Standard output that claims to be a terminal without limits on colour."""
    for name in ("NO_COLOR", "COLORTERM", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    return monkeypatch


def test_plain_form_shows_text_ranks_and_certificate(short):
    shown = render(short, color=False, width=80)
    assert "\x1b" not in shown
    best = short.top(1)[0][0]
    assert f"{best}¹" in shown
    assert "positive 97.1 %" in shown
    assert "at most 0.8 % below the maximum" in shown and "conservation 3.1 × 10⁻¹⁶" in shown
    assert str(short) == render(short)


def test_ranking_follows_the_scores(make):
    attribution = make(REVIEW, seed=3)
    tokens = render(attribution, granularity="token", color=False, width=80)
    rows = re.findall(r"^ +\d+  (\S+)", tokens, re.M)
    assert rows == [name for name, _ in attribution.top(10)]
    words = sorted(attribution.words(), key=lambda word: -word.score)
    rows = re.findall(r"^ +\d+  (\S+)", render(attribution, color=False, width=80), re.M)
    assert rows == [word.text for word in words[:10]]


def test_words_are_shown_unless_tokens_are_asked_for(make):
    """A word sums its tokens; the patches of an image are no words."""
    attribution = make("an extraordinary film")
    assert len(attribution.tokens) > len(attribution.words()) + 2
    assert "extraordinary" in render(attribution, color=False).split("\n\n")[2]
    tokens = render(attribution, granularity="token", color=False).split("\n\n")[2]
    assert "extraordinary" not in tokens and "extrao" in tokens
    assert render(attribution, color=False) == render(attribution, granularity="word", color=False)
    image = image_of((2, 3))
    assert render(image, color=False) == render(image, granularity="token", color=False)


def test_colours_only_where_they_are_wanted(terminal, short):
    assert "48;5;" in render(short)
    assert "\x1b" not in render(short, color=False)
    terminal.setenv("COLORTERM", "truecolor")
    assert "48;2;" in render(short)
    terminal.setenv("NO_COLOR", "1")
    assert "\x1b" not in render(short)
    assert "\x1b" in render(short, color=True)


def test_no_terminal_no_colour(terminal, short):
    terminal.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert "\x1b" not in render(short)


def test_hottest_piece_has_the_hottest_ground(terminal, short):
    terminal.setenv("COLORTERM", "truecolor")
    best = short.top(1)[0][0]
    assert f"\x1b[48;2;246;128;36;38;2;0;0;0m{best}" in render(short)


@pytest.mark.parametrize("depth", ["256", "truecolor"])
def test_grounds_for_and_against_differ_in_hue_and_by_a_line(depth):
    """Blue has the most of blue, orange the least, at every heat; blue alone is underlined."""
    style = Style(depth)
    for heat in (0.06, 0.3, 0.6, 1.0):
        supporting = ground_of(style.heat("word", heat))
        opposing = ground_of(style.heat("word", heat, against=True))
        assert supporting[0] > supporting[1] > supporting[2], (heat, supporting)
        assert opposing[2] > opposing[0] and opposing[1] >= opposing[0], (heat, opposing)
    assert style.heat("a", 0.5, against=True).startswith("\x1b[4;48;")
    assert "[4;" not in style.heat("a", 0.5)
    assert style.heat("a", 0.01) == "a" and "48;" in style.heat("a", 0.01, against=True)


def ground_of(printed):
    """Red, green and blue of a ground; of 256 colours in steps of the cube from 16 on."""
    numbers = [int(n) for n in printed[2 : printed.index("m")].split(";")]
    at = numbers.index(48)
    if numbers[at + 1] == 2:
        return tuple(numbers[at + 2 : at + 5])
    step = numbers[at + 2] - 16
    return step // 36, step // 6 % 6, step % 6


def test_hostile_text_cannot_drive_the_terminal(make):
    hostile = "red \x1b[31m \x1b]0;title\x07 \x9b2J \u202eback \r over \x08 half \ud800"
    attribution = make(hostile, labels=("no", "yes\x1b[2J"), model="m\x1b[1A")
    attribution = dataclasses.replace(
        attribution, tokens=("[CLS]\x1b", *attribution.tokens[1:]), tensor="cf\x9b"
    )
    for color in (False, True):
        shown = ANSI.sub("", render(attribution, color=color))
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)
        assert "␛" in shown
        shown.encode("utf-8")


@pytest.mark.parametrize("width", [40, 60, 100])
@pytest.mark.parametrize("color", [False, True])
def test_lines_of_text_fit_the_width(make, width, color):
    attribution = make(REVIEW + " 这 部 电影 非常 精彩 " * 9, seed=3)
    shown = ANSI.sub("", render(attribution, color=color, width=width)).split("\n")
    body = shown[2 : next(i for i, line in enumerate(shown) if line.startswith("  1  "))]
    assert max(map(columns, body)) <= width
    assert body.count("") == 3  # around the text, and after the sentence


@pytest.mark.parametrize("text", ["这部电影非常精彩，我很喜欢。" * 9, "이 영화는 정말 좋았다 " * 9])
def test_text_without_blanks_fits_the_width_too(make, text):
    """Lines end between wide characters, and no line begins with a mark that closes."""
    attribution = by_character(make(), text)
    shown = render(attribution, color=False, width=40).split("\n\n")[1].split("\n")
    assert 34 <= max(map(columns, shown)) <= 40
    plain = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]", "", "".join(shown)).removeprefix("[CLS]").removesuffix("[SEP]")
    assert plain.replace(" ", "") == text.replace(" ", "")
    assert not any(line.startswith(("，", "。")) for line in shown)


def by_character(attribution, text):
    """An attribution of a text whose every visible character is a token and a word."""
    places = [i for i, character in enumerate(text) if not character.isspace()]
    count = len(places)
    return dataclasses.replace(
        attribution,
        text=text,
        tokens=("[CLS]", *(text[i] for i in places), "[SEP]"),
        offsets=((0, 0), *((i, i + 1) for i in places), (0, 0)),
        special=np.array([True, *[False] * count, True]),
        word_ids=(None, *range(count), None),
        scores=np.arange(count + 2, dtype=float),
        edges=None,
    )


def test_decomposed_korean_takes_the_columns_of_its_syllables():
    assert columns(unicodedata.normalize("NFD", "한국어")) == columns("한국어") == 6


def test_bars_align_next_to_wide_characters(make):
    attribution = make("这 部 电影 a bb ccc", seed=5)
    rows = [r for r in render(attribution, color=False).split("\n") if re.match(r" +\d+  ", r)]
    assert columns("电影") == 4 and columns("e\u0301") == 1
    assert len(rows) == 6 and len({columns(row) for row in rows}) == 1


def test_zero_scores_and_truncation(short):
    zero = dataclasses.replace(short, scores=np.zeros(14), edges=None, truncated=3)
    shown = render(zero, color=False)
    assert "nan" not in shown and "last 3 tokens" in shown


def test_an_empty_flow_says_what_that_means(short):
    proof = dataclasses.replace(short.certificate, status="empty")
    empty = dataclasses.replace(short, scores=np.zeros(14), edges=None, certificate=proof)
    assert "every score is 0" in render(empty, color=False)
    assert "every score is 0" not in render(short, color=False)


def test_wrong_arguments_are_refused(short):
    with pytest.raises(InputError, match="granularity"):
        render(short, granularity="letter")
    with pytest.raises(InputError, match="width"):
        render(short, width=3)
