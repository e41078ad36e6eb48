"""The report's page in a browser: the table of all texts, what opens, and hostile text."""

import base64
import gzip
import html
import json
import re
from functools import partial

import pytest
from support.browser import FRAME, needs_browser
from support.corpus_runs import Told, failed_row, random_texts, write_run
from support.pages import HOSTILE, PageReader, data_of

from attnflow.corpus.report import corpus_report
from attnflow.corpus.report.page import SCRIPTS, bar
from attnflow.errors import InputError, StorageError

# Waits until the table is there, and gives what tests need of it.
READY = """
const window = frame.contentWindow;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const wait = async (is) => { for (let i = 0; i < 2000 && !is(); i++) await pause(5); };
await wait(() => "ready" in page.documentElement.dataset);
const written = (elements) => Array.from(elements, (each) => each.textContent);
const cells = (name) => written(all(".rows-table tbody td." + name));
const texts = () => cells("text");
const status = () => one(".pager [role=status]").textContent;
const type = async (element, value) => {
  element.value = value;
  element.dispatchEvent(new window.Event("input", { bubbles: true }));
  await pause(400);
};
const choose = (name, text) => {
  const select = one(`[data-filter="${name}"]`);
  select.value = Array.from(select.options).find((each) => each.textContent === text).value;
  select.dispatchEvent(new window.Event("change", { bubbles: true }));
};
const sort = (name) => one(`[data-sort="${name}"] button`).click();
const sorted = (name) => one(`[data-sort="${name}"]`).getAttribute("aria-sort");
const opened = () => wait(() => one("dialog").open);
"""


@pytest.fixture(scope="module")
def texts():
    return [
        Told("good film", (2.0, [0.25, 0.25]), 1, "1", {"language": "en"}, {"confidence": 0.9}),
        Told("Bad film", (3.0, -1.0), 0, "1", {"language": "de"}, {"confidence": 0.6}),
        Told("😀 naïve plot", (0.5, 1.5, -0.5), 0, "0", {"language": "de"}, {"confidence": 0.75}),
        failed_row("the text is too long", "InputError"),
        *random_texts(60, seed=1),
    ]


@pytest.fixture(scope="module")
def report(texts, tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("runs") / "now", texts)
    return corpus_report(run, words=["good"], by="language", min_count=2)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    return report.to_html(tmp_path_factory.mktemp("pages") / "page.html")


def driven(browser, folder, page, body, width=1280):
    (folder / "page.html").write_bytes(page.read_bytes())
    values = {"page": "page.html", "hash": html.escape(""), "drive": READY + body, "width": width}
    frame = folder / "frame.html"
    frame.write_text(FRAME % values, encoding="utf-8")
    return json.loads(browser.result(frame, "document.title"))


@pytest.fixture
def drive(browser, tmp_path, page):
    return partial(driven, browser, tmp_path, page)


def test_page_is_balanced_and_names_the_sections(report, page):
    reader = PageReader(page.read_text(encoding="utf-8"))
    text = " ".join("".join(reader.text).split())
    assert reader.open == []
    for heading in ("Words and phrases", "What it should not rest on", "Errors against labels",
        "Texts at the extremes", "Failed rows", "All texts"):  # fmt: skip
        assert heading in text
    assert "the text is too long" in text and f"{report.accuracy.correct} of 63" in text


def test_page_fetches_nothing(page):
    reader = PageReader(page.read_text(encoding="utf-8"))
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in reader.elements}
    (policy,) = (m["content"] for m in reader.of("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'") and "'unsafe-eval'" not in policy
    assert policy.count("sha256-") == len(SCRIPTS)
    assert not [a for a in reader.of("a") if not a["href"].startswith("#")]
    assert not [src for src in reader.of("script") if "src" in src]


def test_same_results_make_the_same_page(report, page, tmp_path):
    assert report.to_html(tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_page_is_not_written_over(report, page, tmp_path):
    with pytest.raises(StorageError, match="exists already"):
        report.to_html(page)
    with pytest.raises(InputError, match="rows must be"):
        report.to_html(tmp_path / "page.html", rows=0)
    assert not (tmp_path / "page.html").exists()


def test_larger_runs_have_a_drawn_part_in_the_table(report, tmp_path):
    text = report.to_html(tmp_path / "page.html", rows=10).read_text(encoding="utf-8")
    assert data_of(text)["rows"] == 10 and "10 of 64 rows, drawn by their ids" in text
    column = re.search(r'data-column="1">([^<]*)<', text)[1]
    assert len(json.loads(gzip.decompress(base64.b64decode(column)))) == 10


def test_bars_reach_from_0_and_are_cut_off():
    assert bar(-2.0, -3.0, 1.0, 4.0) == bar(-2.0, 1.0, -3.0, 4.0)
    below = bar(-2.0, -9.0, 1.0, 4.0)
    assert (below.width, below.low, below.high, below.against) == (50.0, 0.0, 100.0, True)


@pytest.mark.slow
@pytest.mark.usefixtures("page")
class TestInBrowser:
    pytestmark = needs_browser

    def test_search_finds_text_in_any_case(self, drive):
        seen = drive(
            """const before = status();
            await type(one("[data-role=search]"), "BAD FILM");
            const found = [status(), texts()[0], one(".rows-table mark").textContent];
            await type(one("[data-role=search]"), "nowhere at all");
            return [before, found, status(), texts()];"""
        )
        before, found, nothing, none = seen
        assert before == "1–25 of 64" and "out of 64" in found[0]
        assert found[1:] == ["Bad film", "Bad film"]
        assert nothing == "No text, out of 64" and none == []

    def test_search_waits_for_a_pause(self, drive):
        seen = drive(
            """const field = one("[data-role=search]");
            let times = 0;
            const watched = new window.MutationObserver(() => { times += 1; });
            watched.observe(one(".rows-table tbody"), { childList: true });
            for (const value of ["b", "ba", "bad", "bad ", "bad f"]) {
              field.value = value;
              field.dispatchEvent(new window.Event("input"));
              await pause(20);
            }
            await pause(400);
            return times;"""
        )
        assert seen == 1

    def test_every_column_sorts_both_ways_and_back(self, drive):
        seen = drive(
            """const found = {};
            const start = texts();
            for (const head of all("[data-sort]")) {
              const name = head.dataset.sort;
              const turn = () => { sort(name); return [sorted(name), cells(name)]; };
              found[name] = [turn(), turn(), turn()[0], String(texts()) === String(start)];
            }
            return found;"""
        )
        assert {"id", "text", "predicted", "matched", "outcome", "confidence", "evenness", "size",
            "error_kind", "source_language"} <= set(seen)  # fmt: skip
        for name, (one_way, other, after, is_as_before) in seen.items():
            assert {one_way[0], other[0]} == {"ascending", "descending"}
            assert after == "none" and is_as_before
            for direction, cells in (one_way, other):
                told = [cell for cell in cells if cell]
                keys = [float(c.rstrip(" %")) for c in told] if name in (
                    "confidence", "evenness", "size") else [c.lower() for c in told]  # fmt: skip
                assert keys == sorted(keys, reverse=direction == "descending"), name
                assert cells == told + [""] * (len(cells) - len(told))

    def test_filters_combine_and_reset(self, drive):
        seen = drive(
            """choose("predicted", "negative"); choose("matched", "positive");
            const wrong = [status(), new Set(cells("outcome")).size];
            choose("source_language", "de");
            const german = cells("source_language");
            one("[data-role=reset]").click();
            const after = status();
            choose("error_kind", "InputError");
            return [wrong, german, after, texts(), status()];"""
        )
        wrong, german, after, failed, count = seen
        assert wrong[1] == 1 and wrong[0].endswith("out of 64")
        assert set(german) == {"de"} and after == "1–25 of 64"
        assert failed == ["lost"] and count == "1–1 of 1, out of 64"

    def test_pages_go_on_and_end(self, drive):
        seen = drive(
            """const turn = (name) => { one(`[data-page=${name}]`).click(); return status(); };
            const off = () => all("[data-page]").map((b) => b.disabled);
            const steps = [off(), turn("next"), turn("last"), off(), turn("previous")];
            steps.push(turn("first"));
            one(".pager select").value = "100";
            one(".pager select").dispatchEvent(new window.Event("change"));
            return [steps, status(), texts().length];"""
        )
        steps, whole, count = seen
        assert steps == [
            [True, True, False, False], "26–50 of 64", "51–64 of 64", [False, False, True, True],
            "26–50 of 64", "1–25 of 64",
        ]  # fmt: skip
        assert whole == "1–64 of 64" and count == 64

    def test_row_opens_its_explanation(self, drive):
        seen = drive(
            """all(".rows-table .open")[2].click(); await opened();
            const isAgainst = (word) => word.classList.contains("against");
            const words = all("dialog .t").map((word) => [word.textContent, isAgainst(word)]);
            const ranked = all("dialog tbody tr").map(({ children: c }) => written([c[0], c[2]]));
            const whole = one("dialog .heat").textContent, title = one("dialog h2").textContent;
            const numbers = one("dialog").textContent;
            press(one("dialog"), "ArrowRight");
            await wait(() => one("dialog h2").textContent !== title);
            const next = [one("dialog h2").textContent];
            all("dialog .head button")[2].click();
            return { words, ranked, whole, title, numbers, next, open: one("dialog").open };"""
        )
        assert seen["whole"] == "😀 naïve plot" and seen["title"] == "t2"
        assert seen["words"] == [["😀", False], ["naïve", False], ["plot", True]]
        assert seen["ranked"] == [["naïve", "+1.50"], ["😀", "+0.50"], ["plot", "−0.50"]]
        for told in ("solved", "0.4 %", "texts.tsv, row 2", "−0.25", "75.0 %", "net"):
            assert told in seen["numbers"]
        assert seen["next"][0] == "t3" and not seen["open"]

    def test_failed_row_opens_with_its_error(self, drive):
        seen = drive(
            """choose("error_kind", "InputError");
            all(".rows-table .open")[0].click(); await opened();
            const tables = all("dialog table").length;
            return [one("dialog .heat").textContent, one("dialog").textContent, tables];"""
        )
        assert seen[0] == "lost" and "the text is too long" in seen[1] and seen[2] == 0

    def test_words_of_the_sections_lead_into_the_table(self, drive):
        seen = drive(
            """one("#words a[data-search=film][data-label=negative]").click();
            const isFilm = texts().every((text) => /film/i.test(text));
            const found = [status(), new Set(cells("predicted")).size, isFilm];
            const example = one("#texts a[data-open]"), wanted = example.dataset.open;
            example.click(); await opened();
            return [found, one("dialog h2").textContent === wanted];"""
        )
        assert seen[0][1:] == [1, True] and seen[0][0].endswith("out of 64") and seen[1]

    def test_narrow_page_does_not_scroll_sideways(self, drive):
        wide = "return page.documentElement.scrollWidth <= page.documentElement.clientWidth;"
        assert drive(wide, width=420) and drive(wide, width=1280)

    def test_colours_switch(self, drive):
        seen = drive(
            """const paper = () => window.getComputedStyle(page.documentElement).backgroundColor;
            one("[data-theme-choice=dark]").click(); const dark = paper();
            one("[data-theme-choice=light]").click();
            const pressed = one("[data-theme-choice=light]").getAttribute("aria-pressed");
            return [dark, paper(), pressed];"""
        )
        assert seen[0] != seen[1] and seen[2] == "true"

    def test_hostile_text_stays_text(self, browser, tmp_path):
        words = HOSTILE.split(" ")
        bad = {"id": HOSTILE, "model": HOSTILE, "warnings": [HOSTILE], "label": HOSTILE,
            "predicted": HOSTILE}  # fmt: skip
        told = Told(
            HOSTILE,
            tuple(float(i + 1) for i in range(len(words))),
            0,
            HOSTILE,
            {HOSTILE: HOSTILE},
            bad,
        )
        other = {**bad, "id": "other"}
        texts = [told, Told(HOSTILE, told.effects, 0, HOSTILE, {HOSTILE: HOSTILE}, other)]
        texts += [failed_row(HOSTILE, "InputError")]
        run = write_run(tmp_path / "run", texts)
        report = corpus_report(run, words=[HOSTILE], by=HOSTILE, compare=run, min_count=2)
        page = report.to_html(tmp_path / "hostile.html")
        text = page.read_text(encoding="utf-8")
        reader = PageReader(text)
        assert reader.open == [] and reader.of("img") == [] and "\x1b" not in text
        seen = driven(
            browser,
            tmp_path,
            page,
            """all(".rows-table .open")[0].click(); await opened();
            return { images: all("img").length, scripts: all("script:not([type])").length,
              text: one("dialog .heat").textContent, words: all("dialog .t").length,
              title: one("dialog h2").textContent,
              cells: texts() };""",
        )
        shown = HOSTILE.replace("\x1b", "␛")
        assert seen["images"] == 0 and seen["scripts"] == len(SCRIPTS)
        assert seen["text"] == shown == seen["title"] and seen["words"] == len(words)
        assert seen["cells"][:2] == [shown] * 2
