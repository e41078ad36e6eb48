"""The page as text: complete, safe against hostile input, small, and written whole."""

import dataclasses
import re
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from jinja2 import UndefinedError
from support.example_attributions import REVIEW, flow_edges, image_of
from support.pages import HOSTILE, PageReader, data_of

from attnflow.attribution.views import notebook, templates
from attnflow.attribution.views.page import SCRIPTS, render, write
from attnflow.errors import InputError, StorageError

ASSETS = files("attnflow.attribution.views") / "page_assets"


def heat_text(page):
    """The first heat map without its special tokens, as the reader sees it."""
    body = re.search(r'<p class="heat[^>]*>(.*?)</p>', page, re.S).group(1)
    body = re.sub(r"<bdi.*?</bdi>", "", body, flags=re.S)
    return "".join(PageReader(body).text)


def with_offsets(attribution, offsets):
    return dataclasses.replace(attribution, offsets=tuple(offsets))


def test_heat_map_is_the_exact_text(make):
    text = "Two  spaces,\n\n\ta tab — and “quotes” & <b>tags</b>. "
    assert heat_text(render([make(text)])) == text


def test_page_is_balanced_and_names_everything(make):
    attribution = make(REVIEW, seed=3)
    reader = PageReader(render([attribution]))
    assert reader.open == []
    text = " ".join("".join(reader.text).split())
    assert attribution.label in text and attribution.model in text
    assert "97.1 %" in text and "not Shapley values" in text
    for name in ("Upper bound", "Gap", "Conservation", "Centrality", "Iterations", "Status"):
        assert name in text


def test_every_ordinary_piece_is_ranked_once_and_no_special_one(make):
    attribution = make(REVIEW, seed=3)
    page = render([attribution])
    ranking = re.search(r'<section class="ranking".*?</section>', page, re.S).group(0)
    for granularity, expected in (("token", 196), ("word", len(attribution.words()))):
        parts = ranking.split('<div data-granularity="')
        table = next(part for part in parts if part.startswith(granularity))
        places = [int(place) for place in re.findall(r'class="place">(\d+)<', table)]
        assert places == list(range(1, expected + 1))
        assert "[CLS]" not in table and table.count("100.0 %") >= 1


def test_word_scores_are_the_sums_of_their_tokens(make):
    attribution = make("an extraordinary film")
    page = render([attribution])
    # In the text and in the ranking.
    tokens = re.findall(r'data-t="(\d+) (\d+)"', page)
    assert tokens == [("2", "3")] * 2
    word = float(attribution.scores[2] + attribution.scores[3])
    assert f"extraordinary: score {word:.4g}"[:26] in page


@pytest.mark.parametrize(
    "offsets",
    [
        [(0, 0)] * 14,
        [(0, 0), *[(0, 5)] * 12, (0, 0)],
        [(0, 0), *[(3, 900)] * 12, (0, 0)],
        [(0, 0), *[(i, i + 4) for i in range(11, -1, -1)], (0, 0)],
    ],
    ids=["none", "shared", "too long", "backwards"],
)
def test_broken_offsets_lose_neither_text_nor_tokens(short, offsets):
    page = render([with_offsets(short, offsets)])
    shown = re.search(r'<p class="heat[^>]*>(.*?)</p>', page, re.S).group(1)
    assert re.findall(r'data-t="(\d+)"', shown) == [str(i) for i in range(14)]
    plain = re.sub(r"<bdi.*?</bdi>", "", shown, flags=re.S)
    assert "".join(PageReader(plain).text) == short.text


def test_hostile_strings_stay_text(make):
    attribution = make(HOSTILE, labels=("no", HOSTILE), model=HOSTILE)
    attribution = dataclasses.replace(attribution, tensor=HOSTILE, readout=HOSTILE)
    page = render([attribution, attribution])
    reader = PageReader(page)
    assert reader.open == []
    assert reader.of("img") == [] and reader.of("iframe") == []
    assert len(reader.of("script")) == 1 + len(SCRIPTS)
    assert not [a for _, attrs in reader.elements for a in attrs if a.startswith("on")]
    assert "".join(reader.text).count(HOSTILE.replace("\x1b", "␛")[:40]) >= 5
    assert "\x1b" not in page and "<!--" not in page
    style = "".join(reader.scripts[:1])
    assert "${data}" not in style and page.count("color-scheme: light dark") == 1


def test_embedded_data_is_json_without_markup(make):
    attribution = make(HOSTILE)
    page = render([attribution])
    raw = re.search(r'id="data">(.*?)</script>', page, re.S).group(1)
    assert not set(raw) & set("<>&\u2028\u2029")
    assert data_of(page)[0]["names"][1] == attribution.tokens[1]


def test_lone_surrogates_and_controls_can_be_written(make, tmp_path):
    attribution = make("half \ud83d a pair \x00 and \x85 end")
    path = write([attribution], tmp_path / "page.html")
    text = path.read_bytes().decode("utf-8")
    assert "\x00" not in text and "\x85" not in text and "\ufffd" in text and "␀" in text
    data_of(text)


def test_nothing_is_fetched(make):
    page = render([make(REVIEW, seed=3), make()])
    assert "http://" not in page and "https://" not in page and "url(" not in page
    reader = PageReader(page)
    assert not [a for _, a in reader.elements if "src" in a or "srcset" in a]
    assert {a["href"][0] for a in reader.of("a")} == {"#"}
    policy = reader.of("meta")[1]["content"]
    assert policy.startswith("default-src 'none'") and policy.count("'sha256-") == len(SCRIPTS)
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_dense_flow_of_512_tokens_stays_below_two_megabytes(make):
    attribution = make(" ".join(f"word{i}" for i in range(510)), with_edges=False)
    edges = np.random.default_rng(0).random((12, 512, 512))
    page = render([dataclasses.replace(attribution, edges=edges / edges[0].sum())])
    assert len(page.encode()) < 2_000_000


def test_links_hold_the_promised_share_and_true_throughput(make):
    attribution = make(REVIEW, seed=3)
    flow = data_of(render([attribution]))[0]["flow"]
    assert flow["value"] == pytest.approx(attribution.certificate.value)
    for layer, edges in zip(flow["layers"], attribution.edges, strict=True):
        assert sum(layer["flow"]) >= 0.949 * layer["total"]
        assert layer["flow"] == sorted(layer["flow"], reverse=True)
        exact = edges[layer["query"], layer["key"]] / flow["value"] * 1e6
        np.testing.assert_allclose(layer["flow"], exact, atol=0.51)
    rows = [attribution.edges[0].sum(0), *attribution.edges.sum(2)]
    np.testing.assert_allclose(flow["through"], np.array(rows) / flow["value"] * 1e6, atol=0.51)


def test_every_node_that_carries_flow_keeps_a_link_into_it():
    from attnflow.attribution.views.flow_links import links

    edges = flow_edges(np.random.default_rng(1), 12, 300, 2.0)
    flow = links(edges)
    for through, layer in zip(flow["through"], flow["layers"], strict=False):
        assert {t for t, mass in enumerate(through) if mass > 600} <= set(layer["key"])


def test_without_edges_or_without_flow_there_is_no_picture(make, short):
    empty = dataclasses.replace(short, edges=np.zeros((2, 14, 14)))
    for attribution in (make(with_edges=False), empty):
        page = render([attribution])
        assert 'class="flow"' not in page and data_of(page)[0]["flow"] is None


def test_all_zero_scores_are_shown_as_nothing(short):
    page = render([dataclasses.replace(short, scores=np.zeros(14), edges=None)])
    assert "nan" not in page.lower().replace("ancestor", "")
    assert "--h:0.00" in page


def test_truncation_is_said(short):
    assert "last 7 tokens" in render([dataclasses.replace(short, truncated=7)])


def test_the_notebook_form_has_no_script_and_escapes(make):
    html = notebook.render(make(HOSTILE, labels=("no", HOSTILE), model=HOSTILE))
    reader = PageReader(html)
    assert reader.open == [] and reader.of("script") == [] and reader.of("img") == []
    assert not [a for _, attrs in reader.elements for a in attrs if a.startswith("on")]
    assert "class=" not in html and len(html) < 100_000
    assert make()._repr_html_() == notebook.render(make())


def test_write_replaces_only_when_asked_and_leaves_no_scraps(make, tmp_path):
    path = tmp_path / "page.html"
    assert write([make()], path) == path
    first = path.read_bytes()
    with pytest.raises(StorageError, match="overwrite=True"):
        write([make(REVIEW)], path)
    assert path.read_bytes() == first
    write([make(REVIEW)], path, overwrite=True)
    assert path.read_bytes() != first
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_unusable_folder_is_a_storage_error(make, tmp_path):
    with pytest.raises(StorageError, match="folder"):
        write([make()], tmp_path / "missing" / "page.html")


def test_no_attributions_are_refused():
    with pytest.raises(InputError, match="at least one"):
        render([])


def test_templates_escape_and_make_visible_by_themselves():
    """Values as templates use them: plainly, through filters, in attributes, and from macros."""
    names = [f.name for f in ASSETS.iterdir() if f.name.endswith(".html")]
    assert len(names) >= 8
    for name in names:
        assert "|safe" not in templates.asset(name).replace(" ", "")
    html = templates.render("continuation.html", group=0, size="", title=f"{HOSTILE}\x00\ud800",
        stretches=[], matrix=HOSTILE)  # fmt: skip
    reader = PageReader(html)
    assert reader.open == [] and reader.of("img") == [] and reader.of("script") == []
    text = "".join(reader.text)
    assert text.count(HOSTILE.replace("\x1b", "␛")) == 2 and "␀\ufffd" in text
    assert str(templates.render("matrix.html", strongest=0.0, size="<i>", parts=[], columns=[],
        rows=[])).count("<i>") == 0  # fmt: skip


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        templates.render("continuation.html", group=0, size="", stretches=[], matrix="")


def test_line_breaks_that_lay_out_a_template_are_not_on_the_page(make):
    page = render([make("one line")])
    body = re.search(r'<p class="heat[^>]*>(.*?)</p>', page, re.S).group(1)
    assert "\n" not in body and not re.search(r">\s{2,}<", page.split("<body>")[1])


def test_the_wheel_has_the_templates():
    """Build tools leave out what git ignores: no rule may match a file of the page."""
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *(f.name for f in ASSETS.iterdir())],
        cwd=ASSETS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ignored.returncode == 128:
        pytest.skip("no checkout of git")
    assert ignored.returncode == 1 and not ignored.stdout, ignored.stdout + ignored.stderr


def test_results_of_other_settings_are_no_classes_of_one_text(make):
    one = make()
    other = dataclasses.replace(one, target=0)
    assert render([one, other]).count('class="choices"') == 2
    for changed in ({"stages": ()}, {"pattern": "frozen"}, {"precision": "bfloat16"}):
        assert 'class="choices"' not in render([one, dataclasses.replace(other, **changed)])


def test_texts_and_images_are_not_compared(make):
    with pytest.raises(InputError, match="a text and an image cannot be compared"):
        render([make(), image_of((4, 4))], compare=True)
