"""Text stays readable on every ground: at least 4.5 to 1, in light and in dark."""

import re
from importlib.resources import files

import pytest

from attnflow.attribution.views.ansi import _COLD, _HOT, _PALE, _PALE_AGAINST
from attnflow.attribution.views.text_heatmap import STRONGEST_TINT, TINT

STYLE = (files("attnflow.attribution.views") / "page_assets" / "page.css").read_text()
PAIRS = dict(re.findall(r"--([\w-]+): light-dark\(([^)]+)\)", STYLE))


def colour(name, theme):
    code = PAIRS[name].split(",")[theme == "dark"].strip().lstrip("#")
    return [int(code[i : i + 2], 16) for i in (0, 2, 4)]


def mixed(ground, top, share):
    return [a + (b - a) * share for a, b in zip(ground, top, strict=True)]


def luminance(rgb):
    linear = [c / 3294.6 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_knows_its_ends():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_on_any_heat(theme):
    paper, hot, ink = (colour(name, theme) for name in ("paper", "hot", "ink"))
    grounds = [mixed(paper, hot, step / 20) for step in range(21)]
    assert min(contrast(ink, ground) for ground in grounds) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_heat_grows_steadily_in_lightness(theme):
    paper, hot = colour("paper", theme), colour("hot", theme)
    steps = [contrast(paper, mixed(paper, hot, step / 20)) for step in range(21)]
    assert steps == sorted(steps) and steps[-1] > 2


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "raised"])
@pytest.mark.parametrize("text", ["ink", "quiet"])
def test_words_on_their_grounds(theme, ground, text):
    assert contrast(colour(text, theme), colour(ground, theme)) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("mark", ["flow", "flow-ink", "focus"])
def test_marks_stand_out_from_the_paper(theme, mark):
    assert contrast(colour(mark, theme), colour("paper", theme)) >= 3


@pytest.mark.parametrize(
    ("text", "ground"), [((0, 0, 0), (255, 255, 255)), ((225,) * 3, (24,) * 3)]
)
def test_fragment_in_light_and_dark_notebooks(text, ground):
    assert contrast(text, mixed(ground, TINT, STRONGEST_TINT)) >= 4.5


@pytest.mark.parametrize("ground", [_PALE, _HOT, _PALE_AGAINST, _COLD])
def test_terminal_letters(ground):
    assert contrast((0, 0, 0), ground) >= 4.5
