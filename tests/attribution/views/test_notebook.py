"""Forms for notebooks: words and tokens, classes, the flow, lists and continuations; no scripts."""

import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from support.browser import BROWSER
from support.example_attributions import REVIEW, attribution_of, continuation_of, image_of
from support.hostile_files import MARKUP, assert_inert
from support.pages import PageReader

from attnflow.attribution import Results
from attnflow.attribution.attribution import load, save
from attnflow.attribution.views import notebook, notebook_flow
from attnflow.attribution.views.flow_picture import flow_picture

TINTED = re.compile(
    r'<(?:span|mark) style="color:inherit;background:rgba\(226,92,20,([\d.]+)\)[^>]*>([^<]*)<'
)
# Of the tags that GitHub keeps (its library html-pipeline), those that are used; no style stays.
KEPT_BY_GITHUB = {"b", "br", "details", "div", "mark", "small", "span", "summary"}
KEPT_BY_GITHUB |= {"table", "td", "th", "tr"}


class AsOnGitHub(HTMLParser):
    """The text of a notebook's output, with the tags that GitHub keeps."""

    def __init__(self, html):
        super().__init__()
        self.text, self.marked, self._tag = "", [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._tag = tag if tag in KEPT_BY_GITHUB else ""

    def handle_data(self, data):
        self.text += data
        if self._tag == "mark":
            self.marked.append(data)
            self._tag = ""


def details(html):
    """Parts that can be opened, by the words to press."""
    parts = re.findall(r"<details><summary><small>(.*?)</small></summary>(.*?)</details>", html)
    return dict(parts)


def test_words_are_shown_and_tokens_on_demand():
    a = attribution_of("an extraordinary film")
    html = a._repr_html_()
    assert list(details(html)) == ["Tokens", "The flow", "Certificate"]
    before = html[: html.index("<details>")]
    words = {text: float(heat) for heat, text in TINTED.findall(before)}
    scores = {word.text: word.score for word in a.words()}
    best = max(scores.values())
    assert words == pytest.approx({w: 0.6 * s / best for w, s in scores.items()}, abs=0.006)
    tokens = [text for _, text in TINTED.findall(details(html)["Tokens"])]
    assert tokens == ["an", "extrao", "rdinary", "film"]
    # Nothing to open where words are tokens, nor for an image.
    assert "Tokens" not in details(attribution_of("a dog")._repr_html_())
    assert "Tokens" not in details(image_of((2, 2))._repr_html_())


def test_classes_have_their_probabilities_likeliest_first():
    labels = tuple(f"class {i}" for i in range(9))
    a = replace(attribution_of("a dog", labels=labels), target=0)
    html = a._repr_html_()
    rows = re.findall(r"<bdi>(class \d)</bdi>.*?>([\d.]+) %<", html)
    # The explained one is listed though it is the least likely.
    order = np.argsort(-a.probabilities)[:5].tolist()
    assert [name for name, _ in rows] == [*(labels[i] for i in order), labels[0]]
    for name, percent in rows:
        assert float(percent) == pytest.approx(100 * a.probabilities[int(name[-1])], abs=0.06)
    assert "<b><bdi>class 0</bdi></b>" in html
    assert "<table" not in replace(a, labels=("one",), logits=np.ones(1))._repr_html_()


@pytest.mark.parametrize(("text", "layers"), [("a smart dog", 6), (REVIEW, 12), ("a dog", 30)])
def test_the_flow_is_drawn_in_bounds(text, layers):
    a = attribution_of(text, layers=layers)
    html = a._repr_html_()
    svg = details(html)["The flow"]
    assert svg.count("<path ") <= notebook_flow.MOST and "class=" not in svg and "style=" not in svg
    assert len(html.encode()) < 350_000
    picture = flow_picture(
        a, "word", keep=notebook_flow.KEPT, size=(620, 400), most=notebook_flow.MOST
    )
    assert svg.count("<path ") == len(picture.links)
    assert f"{100 * picture.drawn:.1f} % of the flow is drawn" in svg
    view = [float(n) for n in re.search(r'viewBox="([^"]*)"', svg)[1].split()]
    numbers = re.findall(r' d="M([^"]*)"', svg)
    points = [float(n) for d in numbers for n in re.findall(r"-?[\d.]+", d)]
    assert view[0] <= min(points) and max(points[0::2]) <= view[0] + view[2]
    assert max(points[1::2]) <= view[1] + view[3]


def test_without_a_flow_to_draw_its_words_say_how_to_get_it(monkeypatch):
    a = attribution_of("a smart dog", with_edges=False)
    assert "The flow" not in details(a._repr_html_()) and "edges=True" in a._repr_html_()
    monkeypatch.setattr(notebook, "LONGEST_FLOW", 3)
    long = attribution_of("a smart dog")._repr_html_()
    assert "The flow" not in details(long) and "plot_flow()" in long


def test_github_leaves_the_text_its_strongest_words_and_all_numbers():
    """There are no styles and no SVG there: a mark is yellow by itself."""
    a = attribution_of(REVIEW, seed=3)
    seen = AsOnGitHub(a._repr_html_())
    assert " ".join(a.text.split()) in " ".join(seen.text.split())
    best = max(word.score for word in a.words())
    strong = [word.text for word in a.words() if word.score >= 0.5 * best]
    assert seen.marked[: len(strong)] == strong
    assert "97.1 %" in seen.text and "Spread over" in seen.text


def test_a_list_is_a_table_of_results_and_a_list(tmp_path):
    several = [attribution_of("a dog"), attribution_of(REVIEW), image_of((2, 3))]
    results = Results(several)
    assert results == several and isinstance(results, list)
    assert type(results[1:]) is Results and results[0] is several[0]
    html = results._repr_html_()
    assert PageReader(html).open == [] and "<script" not in html and "class=" not in html
    assert re.findall(r"opacity:.75\">(\d+)</td>", html) == ["0", "1", "2"]
    assert html.count("All about it") == 3 and "<svg" in html

    assert type(load(save(several, tmp_path / "saved"))) is Results
    assert len(pickle.loads(pickle.dumps(Results([1, 2])))) == 2


def test_lists_in_a_list_share_the_number_of_their_example():
    a, b, found = attribution_of("a dog"), attribution_of("a cat"), continuation_of()
    html = Results([Results([a, b]), found])._repr_html_()
    assert re.findall(r"opacity:.75\">([\d.]+)</td>", html) == ["0.0", "0.1", "1"]
    assert f"<bdi>{found.written}</bdi>" in html


@pytest.mark.parametrize("other", [3, None, [], ["text"], "text", {}])
def test_a_list_of_other_things_has_its_plain_form(other):
    assert Results([attribution_of("a dog"), other])._repr_html_() is None
    assert Results()._repr_html_() is None


def test_a_long_list_is_cut(monkeypatch):
    monkeypatch.setattr(notebook, "MOST_LISTED", 5)
    monkeypatch.setattr(notebook, "MOST_CARDS", 2)
    html = Results([attribution_of("a dog")] * 9)._repr_html_()
    assert html.count("All about it") == 2 and html.count('<tr style="border-top') == 5
    assert "and 4 more: a slice of the list shows them" in html


def test_a_continuation_shows_what_all_of_it_rests_on():
    found = continuation_of()
    html = found._repr_html_()
    before = html[: html.index("<table")]
    shown = {}
    for heat, text in TINTED.findall(before):
        shown.setdefault(text, float(heat))
    mean = found.matrix.mean(axis=0)
    scores = {w.text: sum(mean[i] for i in w.tokens) for w in reversed(found[0].words())}
    best = max(sum(mean[i] for i in w.tokens) for w in found[0].words())
    assert shown == pytest.approx({w: 0.6 * s / best for w, s in scores.items()}, abs=0.006)
    assert "All of it together: mostly" in html
    underlined = re.findall(r"border-bottom[^>]*>([^<]+)<", before)
    assert underlined == ["is", "very", "smart", "."]


@pytest.mark.parametrize("text", [None, REVIEW])
def test_the_matrix_has_the_strongest_columns(text):
    found = continuation_of(text, 12) if text else continuation_of()
    html = found._repr_html_()
    columns = [i for i in range(max(found.explained)) if not found[0].special[i]]
    kept = min(len(columns), notebook.MOST_SOURCES)
    rows = re.findall(r"<tr><th style=[^>]*><bdi>[^<]*</bdi></th>(.*?)</tr>", html)
    assert len(rows) == len(found)
    cells = [re.findall(r"<small>(\d*)</small>", row) for row in rows]
    assert {len(row) for row in cells} == {kept}
    strongest = sorted(columns, key=lambda i: -found.matrix[:, i].max())[:kept]
    wanted = [
        [f"{100 * s:.0f}" if s >= 0.005 else "" for s in row[sorted(strongest)]]
        for row in found.matrix
    ]
    assert cells == wanted
    assert (f"{len(columns) - kept} weaker columns" in html) == bool(text)


def test_hostile_texts_stay_texts():
    a = attribution_of(f"{MARKUP} film", labels=("no", MARKUP), model=MARKUP)
    a = replace(a, tokens=(MARKUP,) * len(a), against=0)
    for shown in (a, Results([a, [a]]), continuation_of(f"be kind {MARKUP}", 3, model=MARKUP)):
        assert_inert(shown._repr_html_())


def test_ipython_asks_for_this_form():
    formatters = pytest.importorskip("IPython.core.formatters")
    for shown in (attribution_of("a dog"), Results([attribution_of("a dog")]), continuation_of()):
        data, _ = formatters.DisplayFormatter().format(shown)
        assert data["text/html"] == shown._repr_html_()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
@pytest.mark.parametrize("ink", ["rgb(0, 0, 0)", "rgb(238, 238, 238)"])
def test_a_browser_draws_it_in_the_notebook_s_own_ink(browser, tmp_path, ink):
    a = attribution_of("an extraordinary film", layers=12)
    page = tmp_path / "notebook.html"
    html = a._repr_html_().replace("<details>", "<details open>")
    page.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body style="color:{ink}">{html}')
    found = browser.result(
        page,
        """(() => {
          const svg = document.querySelector("svg"), label = svg.querySelector("text");
          const mark = document.querySelector("mark");
          const fits = Array.from(svg.querySelectorAll("text")).every((text) => {
            const [a, b] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
            return a.left >= b.left - 1 && a.right <= b.right + 1 && a.bottom <= b.bottom + 1;
          });
          return [getComputedStyle(label).fill, getComputedStyle(mark).color, fits,
            svg.getBoundingClientRect().height > 200].join("|");
        })()""",
    )
    assert found == f"{ink}|{ink}|true|true"
