"""The page of a continuation in a real browser: tokens are chosen, sources light up."""

import pytest
from support.browser import needs_browser
from support.example_attributions import REVIEW, continuation_of

pytestmark = needs_browser

SEEN = """
const heat = all(".written .heat .t").map((t) => Number(t.style.getPropertyValue("--h")));
const now = all("article").map((a) => !a.hidden).indexOf(true);
const current = all(".heat [aria-current]").map((t) => t.textContent);
const rows = all("tbody tr[aria-current]").map((r) => Number(r.dataset.row));
return { heat, now, current, rows, about: one(".tip").textContent };"""


@pytest.fixture
def found():
    return continuation_of()


def is_shown(seen, found, row):
    shares = found[row].shares
    assert seen["now"] == row and seen["rows"] == [row]
    assert seen["current"] == [found[row].label]
    # On the scale of all explained tokens, so that two of them can be compared.
    assert seen["heat"] == pytest.approx((shares / found.matrix.max()).tolist(), abs=0.006)


def test_the_first_token_is_shown_at_first(drive, found):
    is_shown(drive([found], SEEN), found, 0)


def test_a_click_on_a_token(drive, found):
    is_shown(drive([found], 'all(".explained")[2].click();' + SEEN), found, 2)


def test_focus_by_the_keyboard(drive, found):
    keys = """all(".written .heat .t")[0].focus();
    press(page.activeElement, "End"); press(page.activeElement, "ArrowLeft");"""
    seen = drive([found], keys + SEEN)
    is_shown(seen, found, 2)
    assert seen["about"] == "smart is what is explained"


def test_a_row_of_the_matrix_and_an_address(drive, found):
    is_shown(drive([found], 'all("tbody tr[data-row] a")[3].click();' + SEEN), found, 3)
    is_shown(drive([found], SEEN, fragment="text=1"), found, 1)


def test_a_cell_names_both_tokens_and_the_share(drive, found):
    said = drive(
        [found],
        """const cell = one("tr[data-row='1']").cells[3];
        cell.dispatchEvent(new frame.contentWindow.Event("pointerover", { bubbles: true }));
        return { said: one(".tip").textContent,
          lit: all("th.lit, .t.lit").map((e) => e.textContent),
          places: all(".lit").filter((e) => !e.closest("[hidden]")).map((e) => e.tagName).sort() };
        """,
    )
    share = f"{100 * found[1].shares[3]:.1f} %".replace("0.0 %", "< 0.1 %")
    assert said["said"].startswith("“very” rests on “dog”: ")
    assert set(said["lit"]) == {"dog", "very"}
    # In the text, at the head of the column, and in the rows of both matrix and ranking.
    assert said["places"] == ["SPAN", "TH", "TH", "TR", "g"], said["places"]
    assert said["said"].endswith((share, "0.0 %"))


def test_a_source_stays_followed_with_another_token(drive, found):
    seen = drive(
        [found],
        """all(".written .heat .t")[3].click();
        const traced = all(".traced").length;
        all(".explained")[1].click();
        const after = all("article:not([hidden]) .traced").length;
        press(page.body, "Escape");
        return { traced, after, last: all("article:not([hidden]) .traced").length };""",
    )
    assert seen["traced"] > 0 and seen["after"] > 0 and seen["last"] == 0


def test_arrow_keys_and_buttons_go_from_token_to_token(drive, found):
    seen = drive(
        [found],
        """const now = () => all("article").map((a) => !a.hidden).indexOf(true);
        const steps = [];
        press(page.body, "ArrowRight"); press(page.body, "ArrowRight"); steps.push(now());
        press(page.body, "ArrowLeft"); steps.push(now());
        one("[data-step='1']").click(); steps.push(now());
        for (let i = 0; i < 9; i++) press(page.body, "ArrowRight");
        steps.push(now(), one("[data-step='1']").disabled, one("[data-step='-1']").disabled);
        return steps;""",
    )
    assert seen == [2, 1, 2, len(found) - 1, True, False]


@pytest.mark.parametrize("width", [400, 1280])
def test_two_hundred_tokens_scroll_in_their_sheet_alone(drive, width):
    seen = drive(
        [continuation_of(REVIEW, 60, layers=2)],
        """const sheet = one(".sheet"), head = one("thead"), name = one("tr[data-row='40'] th");
        const box = sheet.getBoundingClientRect();
        return { page: page.documentElement.scrollWidth, wide: sheet.scrollWidth,
          visible: sheet.clientWidth, scrolled: sheet.scrollLeft,
          top: head.getBoundingClientRect().y - box.y,
          left: name.getBoundingClientRect().x - box.x };
        """,
        fragment="text=40",
        width=width,
    )
    assert seen["page"] <= width and seen["wide"] > seen["visible"] and seen["scrolled"] > 0
    assert abs(seen["top"]) <= 2 and abs(seen["left"]) <= 2  # headings stay in sight


def test_text_and_continuation_by_link(drive, make, found):
    body = """return { written: all(".written").map((s) => !s.hidden),
    now: all("article").map((a) => !a.hidden).indexOf(true),
    current: all(".chooser a").map((a) => a.hasAttribute("aria-current")) };"""
    first = drive([make(), found], body)
    assert first == {"written": [False], "now": 0, "current": [True, False]}
    second = drive([make(), found], body, fragment="text=3")
    assert second == {"written": [True], "now": 3, "current": [False, True]}
