"""Figures of matplotlib: lengths are numbers, colours are signs, and texts are harmless."""

import re
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from support.example_attributions import REVIEW, attribution_of, continuation_of, image_of
from support.pages import HOSTILE

from attnflow.attribution.views import plots
from attnflow.attribution.views.figure_text import MISSING, safe
from attnflow.attribution.views.flow_links import node_flow
from attnflow.attribution.views.flow_picture import HAIRLINE, UNCROSSED, flow_picture
from attnflow.errors import InputError, MissingExtraError

matplotlib = pytest.importorskip("matplotlib")
from matplotlib import font_manager  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402

SIZE = (400.0, 300.0)
TEX = r"$\frac{1}{0}$ \input{x} a_b^c %d 电影 ❤️ מרחב " + HOSTILE


@pytest.fixture
def ax():
    return Figure(figsize=(6, 4)).add_subplot()


@pytest.fixture
def signed():
    """A sentence in which a long word is two tokens, with numbers for and against."""
    a = attribution_of("an extraordinary film that nobody understands")
    numbers = np.random.default_rng(1).normal(size=len(a))
    return replace(a, tensor="net", signed_scores=numbers, contributions=numbers)


def summed(attribution, values):
    """Sum of values by word, for each word's text."""
    return {word.text: sum(values[i] for i in word.tokens) for word in attribution.words()}


def bars(ax):
    """Length and face of the bars, by name, in their order from the top."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert ax.yaxis_inverted()
    return dict(zip(names, ax.patches, strict=True))


def test_bars_are_as_long_as_the_signed_scores_of_words(signed, ax):
    assert signed.plot(ax) is ax
    wanted = summed(signed, signed.signed_scores)
    drawn = bars(ax)
    assert {name: bar.get_width() for name, bar in drawn.items()} == pytest.approx(wanted)
    lengths = [abs(bar.get_width()) for bar in drawn.values()]
    assert lengths == sorted(lengths, reverse=True) and len(drawn) == 6
    assert "log-odds" in ax.get_xlabel()


def test_colours_of_bars_are_signs_and_hatches_print_without_colour(signed, ax):
    for bar in bars(signed.plot(ax)).values():
        against = bar.get_width() < 0
        assert bar.get_facecolor() == to_rgba(plots.AGAINST if against else plots.FOR)
        assert bool(bar.get_hatch()) == against
    assert any(bar.get_width() < 0 for bar in ax.patches)
    (red, _, blue), (cold, _, deep) = to_rgba(plots.FOR)[:3], to_rgba(plots.AGAINST)[:3]
    assert red > blue and deep > cold


def test_bars_of_tensors_without_signs_are_scores(ax):
    a = attribution_of("an extraordinary film")
    drawn = {name: bar.get_width() for name, bar in bars(a.plot(ax)).items()}
    assert drawn == pytest.approx(summed(a, a.scores))
    tokens = bars(a.plot(Figure().add_subplot(), granularity="token", top=2))
    assert {name: bar.get_width() for name, bar in tokens.items()} == dict(a.top(2))


def test_places_of_a_writing_model_have_no_bar_against(signed, ax):
    numbers = -np.ones(len(signed))
    written = replace(signed, task="text-generation", position=len(signed) - 2)
    drawn = bars(replace(written, signed_scores=numbers).plot(ax))
    assert set(drawn) == {word.text for word in signed.words()[1:-1]}


def test_a_faint_flow_has_no_colour(signed, ax):
    faint = replace(signed, certificate=replace(signed.certificate, value=0.01))
    assert {bar.get_facecolor() for bar in faint.plot(ax).patches} == {to_rgba(plots.FAINT)}
    assert "little flow" in ax.get_xlabel()


@pytest.mark.parametrize("granularity", ["token", "word"])
def test_every_row_of_nodes_holds_the_whole_flow(granularity):
    a = attribution_of(REVIEW)
    picture = flow_picture(a, granularity, keep=0.8, size=SIZE, fold=False)
    whole = picture.nodes[0].width / picture.nodes[0].flow
    for row in range(len(a.edges) + 1):
        nodes = [node for node in picture.nodes if node.row == row]
        assert sum(node.flow for node in nodes) == pytest.approx(1)
        assert sum(node.width for node in nodes) == pytest.approx(whole)
    lowest = {node.column: node.flow for node in picture.nodes if node.row == 0}
    if granularity == "word":
        words = [word.score for word in a.words()]
        flows = [lowest.get(column, 0.0) for column in range(1, len(words) + 1)]
        assert flows == pytest.approx(np.array(words) / a.edges[0].sum())
    else:
        assert len(picture.names) == len(a)


@pytest.mark.parametrize("keep", [0.3, 0.8, 1])
def test_links_are_as_wide_as_their_flow_and_hold_their_share(keep):
    a = attribution_of(REVIEW)
    picture = flow_picture(a, "word", keep=keep, size=SIZE, fold=False)
    whole = picture.nodes[0].width / picture.nodes[0].flow
    assert all(link.width == pytest.approx(whole * link.flow) for link in picture.links)
    for band in range(len(a.edges)):
        flows = [link.flow for link in picture.links if link.band == band]
        assert sum(flows) >= keep - 1e-9
        # One link less would be too few.
        assert sum(flows) - flows[0] < keep and flows == sorted(flows)


def test_ends_of_links_stand_side_by_side_within_their_nodes():
    picture = flow_picture(attribution_of(), "token", keep=1, size=SIZE, fold=False)
    nodes = {(node.row, node.column): node for node in picture.nodes}
    for (row, column), node in nodes.items():
        for ends in (
            [(k.top, k.width) for k in picture.links if (k.band + 1, k.query) == (row, column)],
            [(k.bottom, k.width) for k in picture.links if (k.band, k.key) == (row, column)],
        ):
            edges = sorted((x - width / 2, x + width / 2) for x, width in ends)
            for (_, right), (left, _) in zip(edges, edges[1:], strict=False):
                assert left == pytest.approx(right)
            if edges:  # the lowest row has none below, the highest none above
                assert edges[0][0] == pytest.approx(node.x - node.width / 2)
                assert edges[-1][1] == pytest.approx(node.x + node.width / 2)


def straight(moved, tokens):
    """Flow that stays where it is, but for the part of each layer that goes to the left."""
    start = np.random.default_rng(0).dirichlet(np.ones(tokens))
    edges = np.zeros((len(moved), tokens, tokens))
    for layer, part in reversed(list(enumerate(moved))):
        step = (1 - part) * np.eye(tokens) + part * np.roll(np.eye(tokens), -1, axis=1)
        edges[layer] = start[:, None] * step
        start = edges[layer].sum(axis=0)
    return edges


def test_straight_layers_are_folded_and_others_not():
    a = attribution_of()
    edges = np.concatenate([straight([0] * 4, len(a)), a.edges[1:3]])
    # Continue below with what comes down from above.
    below = a.edges[1].sum(axis=0)
    edges[:4] = np.eye(len(a)) * below
    folded = flow_picture(replace(a, edges=edges), "token", keep=0.8, size=SIZE)
    assert [band.name for band in folded.bands] == ["layers 1–4", "layer 5", "layer 6"]
    plain = flow_picture(replace(a, edges=edges), "token", keep=0.8, size=SIZE, fold=False)
    assert len(plain.bands) == 6


def test_a_folded_run_is_the_flow_from_its_top_to_its_bottom():
    """Runs end where more than 1 % crosses, and their ends are those of their layers."""
    a = attribution_of()
    edges = straight([0.004] * 5 + [0.02] + [0.009] * 6, len(a))
    picture = flow_picture(replace(a, edges=edges), "token", keep=1, size=SIZE)
    assert [band.name for band in picture.bands] == ["layers 1–5", "layer 6", "layers 7–12"]
    through = node_flow(edges / edges[-1].sum())
    for row, last in enumerate([0, *(band.last for band in picture.bands)]):
        flows = [node.flow for node in picture.nodes if node.row == row]
        assert flows == pytest.approx(through[last])
    step = 0.996 * np.eye(len(a)) + 0.004 * np.roll(np.eye(len(a)), -1, axis=1)
    wanted = through[5][:, None] * np.linalg.matrix_power(step, 5)
    drawn = {(link.query, link.key): link.flow for link in picture.links if link.band == 0}
    for query, key in np.ndindex(wanted.shape):
        assert drawn.get((query, key), 0) == pytest.approx(wanted[query, key])


@pytest.mark.parametrize("keep", [0.3, 0.8, 1])
def test_layers_fold_by_all_that_crosses_and_not_by_what_is_drawn(keep):
    a = attribution_of()
    for moved, rows in ((0.1, 12), (0.011, 12), (0.009, 1)):
        edges = straight([moved] * 12, len(a))
        picture = flow_picture(replace(a, edges=edges), "token", keep=keep, size=SIZE)
        assert len(picture.bands) == rows
    assert crossing_that_the_page_allows() == UNCROSSED


def crossing_that_the_page_allows():
    """The share of a layer's flow that crosses unseen in a folded run of the page."""
    code = (Path(flow_picture.__code__.co_filename).parent / "page_assets/flow.js").read_text()
    return float(re.search(r"const UNCROSSED = ([\d.]+);", code)[1])


def test_flow_within_a_word_does_not_cross_where_words_are_drawn():
    a = attribution_of("an extraordinary film")
    first, second = next(word.tokens for word in a.words() if len(word.tokens) == 2)
    step = np.eye(len(a))
    step[[first, second]] = step[[second, first]]  # both change places in each layer
    edges = np.stack([step / len(a)] * 6)
    a = replace(a, edges=edges)
    assert len(flow_picture(a, "word", keep=0.8, size=SIZE).bands) == 1
    assert len(flow_picture(a, "token", keep=0.8, size=SIZE).bands) == 6


@pytest.mark.parametrize("row_of_type", [4, 11, 40, 1000])
@pytest.mark.parametrize("layers", [1, 6, 30])
def test_rows_are_named_where_there_is_height_for_type(layers, row_of_type):
    a = attribution_of(layers=layers)
    picture = flow_picture(a, "word", keep=0.8, size=SIZE, fold=False)
    (top, decision), *named = picture.row_labels(row_of_type)
    assert (top, decision) == (0, "decision")
    heights = sorted([top, *(y for y, _ in named)])
    assert all(b - a >= row_of_type - 1e-9 for a, b in zip(heights, heights[1:], strict=False))
    for y, name in named:
        layer = int(name.removeprefix("layer "))
        assert y == pytest.approx(SIZE[1] * (1 - (layer - 0.5) / layers))
    if row_of_type <= SIZE[1] / layers / 2:
        assert [name for _, name in named] == [f"layer {i + 1}" for i in range(layers)]


def test_drawn_links_are_as_wide_as_their_flow(ax):
    a = attribution_of()
    a.plot_flow(ax, keep=0.9, fold=False)
    ax.figure.draw_without_rendering()
    drawn = {collection.get_label(): collection.get_paths() for collection in ax.collections}
    picture = flow_picture(a, "word", keep=0.9, size=plots._points(ax), fold=False)
    wide = [link for link in picture.links if link.width >= HAIRLINE]
    assert len(drawn["links"]) == len(wide)
    assert len(drawn["links"]) + len(drawn["hairlines"]) == len(picture.links)
    ratios = []
    for path, link in zip(drawn["links"], wide, strict=True):
        left, right = path.vertices[0], path.vertices[7]
        assert left[1] == right[1] and right[0] > left[0]
        ratios.append((right[0] - left[0]) / link.flow)
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    shown = [node for node in picture.nodes if node.width >= plots.THINNEST]
    assert sum(node.flow for node in shown) > 0.99 * len(picture.heights)
    nodes = [np.ptp(path.vertices[:, 0]) for path in drawn["nodes"]]
    assert nodes == pytest.approx([ratios[0] * node.flow for node in shown])


@pytest.mark.parametrize("layers", [6, 30])
@pytest.mark.parametrize("text", ["a dog", REVIEW])
def test_labels_do_not_overlap_and_all_is_inside(layers, text):
    a = attribution_of(text, layers=layers)
    axes = Figure(figsize=(6.4, 5), layout="constrained").add_subplot()
    a.plot_flow(axes)
    axes.figure.draw_without_rendering()
    rows = sorted(label.get_window_extent().y0 for label in axes.get_yticklabels())
    height = axes.get_yticklabels()[0].get_window_extent().height
    assert all(b - a > 0.8 * height for a, b in zip(rows, rows[1:], strict=False))
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    if axes.get_xticklabels()[0].get_rotation() == 0:
        assert all(a.x1 <= b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
    else:  # slanted: the distance of their lines
        ends = [box.x1 for box in boxes]
        assert all(b - a >= height * 0.9 for a, b in zip(ends, ends[1:], strict=False))
    whole = axes.figure.bbox
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        box = label.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0


def test_an_image_has_its_patches_over_it(ax):
    a = image_of((3, 4), size=(30, 40), with_edges=True)
    assert a.plot(ax) is ax
    assert np.array_equal(ax.images[0].get_array(), a.overlay())
    columns = flow_picture(a, "token", keep=0.8, size=SIZE).names
    assert columns[:2] == ("[CLS]", "r0c0") and a.plot_flow(Figure().add_subplot())


@pytest.mark.parametrize("text", [None, REVIEW])
def test_the_matrix_of_a_continuation_is_drawn_as_it_is(text, ax):
    found = continuation_of(text) if text else continuation_of()
    assert found.plot(ax) is ax
    first = found[0]
    columns = [i for i in range(max(found.explained)) if not first.special[i]]
    assert np.array_equal(ax.images[0].get_array(), found.matrix[:, columns])
    numbers = [text.get_text() for text in ax.texts]
    shares = found.matrix[:, columns]
    assert numbers == ([] if text else [f"{100 * s:.0f}" for s in shares[shares >= 0.005]])
    assert (len(ax.figure.axes) == 2) == bool(text)  # a scale where there are no numbers


def figures_of(text):
    """Every figure of a text that tries to be something else."""
    a = attribution_of(text, labels=("no", text))
    names = tuple(text for _ in a.tokens)
    offsets = tuple((0, 0) for _ in names)
    a = replace(a, tokens=names, offsets=offsets, against=0)
    yield a.plot(Figure(layout="constrained").add_subplot())
    yield a.plot_flow(Figure(layout="constrained").add_subplot())
    yield continuation_of(f"be kind to {text}", 3).plot(Figure(layout="constrained").add_subplot())


@pytest.mark.attack
@pytest.mark.parametrize("text", [TEX, "这部电影非常精彩", "$", "\ud800\x00\x1b[2J", "\u0301"])
def test_hostile_texts_are_drawn_as_text(text, tmp_path):
    """A warning about a missing glyph would be an error here, and so would TeX that is no TeX."""
    for number, axes in enumerate(figures_of(text)):
        for form in ("png", "pdf", "svg"):
            axes.figure.savefig(tmp_path / f"{number}.{form}")
        for drawn in axes.figure.findobj(Text):
            if any(character in drawn.get_text() for character in "$\\_^"):
                assert not drawn.get_parse_math() and not drawn.get_usetex()
            assert not set(drawn.get_text()) & {"\x1b", "\n", "\u202e", "\x00", "\ud800"}


def test_tex_is_not_called_where_a_user_has_it_on():
    with matplotlib.rc_context({"text.usetex": True}):
        for axes in figures_of(r"\frac a \frac b \frac"):
            texts = [t for t in axes.figure.findobj(Text) if "frac" in t.get_text()]
            assert texts and not any(t.get_usetex() for t in texts)


def test_characters_without_a_font_become_a_sign():
    text, properties = safe("a\U000e0fff\U0001fae9b\u0301", 9)
    assert text.startswith("a") and MISSING in text and not properties["parse_math"]
    assert safe("plain", 9) == ("plain", {"parse_math": False, "usetex": False})


def test_characters_come_from_another_font_of_the_machine():
    """matplotlib brings STIX, which has letters that its own first font lacks."""
    files = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    charmaps = [
        font_manager.get_font(files[name]).get_charmap() for name in ("STIXGeneral", "DejaVu Sans")
    ]
    character = chr(min(code for code in charmaps[0] if code not in charmaps[1] and code > 0x2000))
    text, properties = safe(f"a {character}", 9)
    assert text == f"a {character}" and properties["fontfamily"][0] == "sans-serif"
    figure = Figure()
    figure.text(0.5, 0.5, text, **properties)
    figure.savefig(BytesIO())  # a missing glyph would warn


def test_axes_of_a_figure_of_its_own_need_no_pyplot():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from support.example_attributions import attribution_of, continuation_of\n"
        "from matplotlib.figure import Figure\n"
        "ax = Figure().add_subplot()\n"
        "attribution_of().plot(ax), attribution_of().plot_flow(ax), continuation_of().plot(ax)\n"
        "ax.figure.savefig(sys.argv[2])\n"
        "raise SystemExit('matplotlib.pyplot' in sys.modules)"
    )
    tests = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, tests, "/dev/null"], check=False)
    assert done.returncode == 0


def test_pyplot_makes_the_figure_where_no_axes_are_given(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    before = pyplot.get_fignums()
    axes = [attribution_of().plot(), attribution_of().plot_flow(), continuation_of().plot()]
    assert len(pyplot.get_fignums()) == len(before) + 3
    for each in axes:
        pyplot.close(each.figure)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call in (attribution_of().plot, attribution_of().plot_flow, continuation_of().plot):
        with pytest.raises(MissingExtraError, match=r"attnflow\[plots\]"):
            call()


def test_wrong_arguments_are_refused(ax):
    a = attribution_of()
    for keep in (0, 1.5, float("nan"), "most", True):
        with pytest.raises(InputError, match="keep must be a share"):
            a.plot_flow(ax, keep=keep)
    with pytest.raises(InputError, match="edges=True"):
        replace(a, edges=None).plot_flow(ax)
    with pytest.raises(InputError, match="no flow to draw"):
        replace(a, edges=np.zeros_like(a.edges)).plot_flow(ax)
    with pytest.raises(InputError, match="matplotlib Axes"):
        a.plot("axes")
    with pytest.raises(InputError, match="top must be"):
        a.plot(ax, top=0)
    with pytest.raises(InputError, match="granularity"):
        a.plot(ax, granularity="letter")
    assert not ax.patches and not ax.collections
