"""The page's controls in a real browser: switching, folding, pointing out, comparing, exporting."""

import base64
import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from support.browser import needs_browser
from support.example_attributions import REVIEW, continuation_of, image_of

from attnflow.attribution.table import csv_of, table_of_tokens

pytestmark = needs_browser

POINTER = 'new frame.contentWindow.PointerEvent("pointerenter")'


def straight(attribution, crossing=0.0):
    """The attribution with a flow that crosses in its top layer alone, and this much in layer 2."""
    layers, t, _ = attribution.edges.shape
    scores = attribution.scores
    edges = np.stack([np.diag(scores)] * layers)
    edges[-1] = 0
    edges[-1][0] = scores
    strongest, other = np.argsort(-scores)[:2]
    edges[1][strongest, other] = crossing * scores.sum()
    return replace(attribution, edges=edges)


def targets_of(make):
    """One text under both of its classes."""
    return [replace(make(), target=target) for target in (1, 0)]


def test_classes_switch_the_explanation_and_keep_what_is_followed(drive, make):
    seen = drive(
        [*targets_of(make), make("another text")],
        """const now = () => all("article").map((a) => !a.hidden).indexOf(true);
        const shown = () => [now(), one("article:not([hidden]) .title bdi").textContent];
        const steps = [all(".chooser li").length, shown()];
        one("article:not([hidden]) .choices a:nth-child(2)").click();
        steps.push(shown(), all("article:not([hidden]) .traced").length > 0);
        one("article:not([hidden]) .classes a:not([aria-current])").click();
        steps.push(shown(), page.location.hash);
        press(page.body, "ArrowRight"); steps.push(now());
        press(page.body, "ArrowRight"); steps.push(now());
        return steps;""",
        fragment="token=5",
    )
    assert seen == [2, [0, "positive"], [1, "negative"], True, [0, "positive"], "#token=5", 1, 1]


def test_other_settings_are_no_choice(drive, make):
    one, two = targets_of(make)
    seen = drive([one, replace(two, tensor="agf")], 'return all(".choices, [data-switch]").length;')
    assert seen == 0


@pytest.mark.parametrize("crossing", [0.0, 0.05])
def test_layers_in_which_nothing_crosses_fold_and_unfold(drive, make, crossing):
    seen = drive(
        [straight(make(), crossing)],
        """const labels = () => all(".rows > *").map((e) => e.textContent);
        const height = () => Number(one(".flow svg").getAttribute("height"));
        const nodes = () => all(".node").length;
        const folded = [labels(), height(), nodes()];
        one(".rows button")?.click();
        const open = [labels(), height(), nodes()];
        one("[data-layers=folded]").click();
        return { folded, open, again: labels() };""",
    )
    run = "layers 1–5unchanged" if crossing == 0 else "layers 3–5unchanged"
    labels, height, nodes = seen["folded"]
    assert run in labels and seen["again"] == labels
    assert seen["open"][0] == ["decision", *(f"layer {i}" for i in range(1, 7)), "words"]
    assert height < seen["open"][1] and nodes < seen["open"][2]


def test_columns_without_flow_fold_and_all_others_are_named(drive, make):
    """A long text fits the width, and every column with a node has a name below it."""
    long = make(REVIEW, seed=3, spread=0.02)
    seen = drive(
        [long],
        """const columns = new Set(all(".node").map((n) => n.dataset.t).filter(Boolean));
        const names = all(".node text").map((t) => t.textContent);
        const canvas = one(".canvas");
        const tokens = Array.from(columns, (name) => name.split(" ").length);
        return { columns: columns.size, names, fits: canvas.scrollWidth <= canvas.clientWidth,
          tokens: Math.max(...tokens), gaps: all(".gap").map((g) => g.textContent) };""",
    )
    assert seen["fits"] and len(seen["names"]) == seen["columns"] < len(long) / 2
    assert seen["tokens"] > 1 and any(" +" in name for name in seen["names"])
    assert not any("\n" in name for name in seen["names"])


def test_spread_out_joins_no_neighbours(drive, make):
    seen = drive(
        [make(REVIEW, seed=3, spread=0.02)],
        """const names = all(".node text").map((t) => t.textContent);
        const canvas = one(".canvas");
        return { names, scrolls: canvas.scrollWidth > canvas.clientWidth };""",
        fragment="spread",
    )
    assert seen["scrolls"] and not any(" +" in name for name in seen["names"])


def test_joined_columns_lose_no_flow(drive, make):
    seen = drive(
        [make("an extraordinary film", layers=4)],
        """const { flow, words } = JSON.parse(one("#data").textContent)[0];
        const columns = words.map(([tokens]) => tokens);
        const joined = frame.contentWindow.joinColumns(flow, columns);
        const sum = (values) => values.reduce((a, b) => a + b, 0);
        return { columns,
          through: [flow, joined].map((f) => f.through.map(sum)),
          layers: [flow, joined].map((f) => f.layers.map((l) => sum(l.flow))),
          sorted: joined.layers.every((l) => l.flow.every((v, i) => !i || v <= l.flow[i - 1])) };
        """,
    )
    assert [2, 3] in seen["columns"] and seen["sorted"]
    assert seen["through"][0] == seen["through"][1] and seen["layers"][0] == seen["layers"][1]


def test_text_ranking_and_picture_point_each_other_out(drive, make):
    seen = drive(
        [make()],
        f"""const lit = () => ({{
          text: all(".heat:not([hidden]) .lit").map((e) => e.textContent),
          rows: all(".ranking [data-granularity=word] tr.lit th").map((e) => e.textContent),
          nodes: all(".node.lit").map((e) => e.dataset.t) }});
        const steps = [];
        one(".ranking [data-granularity=word] tr[data-t='5']").dispatchEvent({POINTER});
        steps.push(lit());
        one(".heat:not([hidden]) [data-t='9']").dispatchEvent({POINTER}); steps.push(lit());
        steps.push(one(".tip").textContent);
        one(".node[data-t='5']").dispatchEvent({POINTER}); steps.push(lit());
        one(".ranking [data-granularity=word] tr[data-t='5']").click();
        steps.push(all(".traced").length > 0, all("tr.chosen").length);
        return steps;""",
    )
    of_not = {"text": ["not"], "rows": ["not"], "nodes": ["5"]}
    assert seen[0] == of_not and seen[3] == of_not
    assert seen[1] == {"text": ["is"], "rows": ["is₂"], "nodes": ["9"]}
    assert seen[2].startswith("is₂: score") and seen[4:] == [True, 2]


def test_zoom_enlarges_and_returns(drive, make):
    seen = drive(
        [make()],
        """const width = () => one(".flow svg").getBoundingClientRect().width;
        const top = () => parseFloat(all(".rows span")[1].style.top);
        const steps = [[width(), top()]];
        one("[data-zoom='1.25']").click(); steps.push([width(), top()]);
        one("[data-zoom='0']").click(); steps.push([width(), top()]);
        steps.push(page.documentElement.scrollWidth);
        return steps;""",
    )
    assert np.array(seen[1]) == pytest.approx(1.25 * np.array(seen[0])) and seen[2] == seen[0]
    assert seen[3] <= 1280


def test_a_long_list_can_be_searched(drive, make):
    texts = [make(f"text number {i}", with_edges=False) for i in range(12)]
    seen = drive(
        texts,
        """const field = one("[data-filter]");
        field.value = "NUMBER 1";
        field.dispatchEvent(new frame.contentWindow.Event("input"));
        const shown = all(".chooser li:not([hidden])").length;
        return [shown, one("[data-found]").textContent];""",
    )
    assert seen == [3, "3 found"]  # 1, 10 and 11


def test_images_have_thumbnails_in_the_list(drive):
    images = [image_of((4, 4)), image_of((2, 2))]
    widths = drive(images, 'return all(".chooser img").map((i) => i.naturalWidth);')
    assert len(widths) == 2 and all(0 < width <= 64 for width in widths)


def test_a_comparison_lists_differences_and_chooses_a_side(drive, make):
    one, two = targets_of(make)
    scores = two.scores[::-1].copy()
    seen = drive(
        [one, replace(two, scores=scores)],
        """const cells = (row) => Array.from(row.cells, (cell) => cell.textContent);
        const rows = all(".changes tbody tr").map(cells);
        const now = () => all("article").map((a) => !a.hidden).indexOf(true);
        const sides = all(".side h2 bdi").map((e) => e.textContent);
        all(".side")[1].querySelector(".heat:not([hidden]) [data-t='5']").click();
        return { rows, sides, now: now(), traced: all("article:not([hidden]) .traced").length };""",
        compare=True,
    )
    assert seen["sides"] == ["positive", "negative"] and seen["now"] == 1 and seen["traced"] > 0
    shares = [a.scores[1:-1] / a.scores[1:-1].sum() for a in (one, replace(two, scores=scores))]
    expected = np.sort(-np.abs(shares[1] - shares[0]))
    changes = [abs(float(row[-1].replace("−", "-"))) for row in seen["rows"]]
    assert changes == pytest.approx((-100 * expected).tolist(), abs=0.051)


def test_words_of_two_texts_are_matched_in_order(drive, make):
    rows = drive(
        [make("a good film it is"), make("it is a good bad film")],
        """return all(".changes tbody tr").map((r) =>
          [r.cells[0].textContent, r.cells[1].textContent, r.cells[2].textContent]);""",
        compare=True,
    )
    only = {name: (a != "–", b != "–") for name, a, b in rows}
    assert only["good"] == only["film"] == (True, True) and only["bad"] == (False, True)
    # In the order of the first text, then of the second, where shares are equal.
    assert len(rows) == 8  # a, good and film in both; it and is in each; bad


def test_words_of_three_texts_keep_their_rows(drive, make):
    texts = ["good CO₂ film", "very good CO₂ film", "very good CO₂ film"]
    rows = drive(
        [make(text) for text in texts],
        """const cells = (row) => Array.from(row.cells, (cell) => cell.textContent);
        return all(".changes tbody tr").map(cells);""",
        compare=True,
    )
    found = {name: [share != "–" for share in shares[:3]] for name, *shares in rows}
    assert len(rows) == 4 and found["very"] == [False, True, True]
    assert found["CO₂"] == found["good"] == found["film"] == [True] * 3


def test_a_word_of_the_other_side_is_followed_there(drive, make):
    seen = drive(
        targets_of(make),
        """const pressed = () => all(".side .t[aria-pressed=true]").length;
        const word = (i) => all(".side")[i].querySelector(".heat:not([hidden]) [data-t='5']");
        const steps = [];
        for (const i of [0, 1, 1]) {
          word(i).click();
          steps.push([page.location.hash, pressed() > 0]);
        }
        return steps;""",
        compare=True,
    )
    assert seen == [["#token=5", True], ["#text=1&token=5", True], ["#text=1", False]]


def test_a_comparison_exports_all_of_it(drive, make):
    seen = drive(
        targets_of(make),
        """const kept = [];
        const open = frame.contentWindow.URL.createObjectURL;
        frame.contentWindow.URL.createObjectURL = (blob) => { kept.push(blob); return open(blob); };
        for (const kind of ["csv", "json", "svg"]) one(`[data-export=${kind}]`).click();
        return Promise.all(kept.map((blob) => blob.text()));""",
        compare=True,
    )
    table = list(csv.DictReader(io.StringIO(seen[0])))
    assert {row["label"] for row in table} == {"positive", "negative"}
    assert len(table) == 2 * len(make()) and table[-1]["result"] == "1"
    assert [record["label"] for record in json.loads(seen[1])] == ["positive", "negative"]
    assert "positive" in seen[2] and "negative" in seen[2]


def test_an_exported_table_is_that_of_python(drive, make):
    attribution = make('a "quoted", extraordinary film')
    text = drive(
        [attribution],
        """const { record, names } = JSON.parse(one("#data").textContent)[0];
        return frame.contentWindow.csv(frame.contentWindow.tableOf(record, names));""",
    )
    found = list(csv.reader(io.StringIO(text)))
    expected = list(csv.reader(io.StringIO(csv_of(table_of_tokens(attribution)))))
    assert found[0] == expected[0] and len(found) == len(expected)
    for one, two in zip(found[1:], expected[1:], strict=True):
        for a, b in zip(one, two, strict=True):
            assert a == b or float(a) == pytest.approx(float(b), rel=1e-12)


def test_an_exported_result_is_what_json_has(drive, make):
    record = drive([make()], 'return JSON.parse(one("#data").textContent)[0].record;')
    assert record == json.loads(json.dumps(make().to_dict()))


def test_a_continuation_exports_its_matrix(drive):
    found = continuation_of()
    text = drive(
        [found],
        """const tables = [];
        const Blob = frame.contentWindow.Blob;
        frame.contentWindow.Blob = class extends Blob {
          constructor(parts, options) { super(parts, options); tables.push(parts[0]); }
        };
        one("[data-export=csv]").click();
        return tables[0];""",
    )
    rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows[1:]] == [a.label for a in found]
    shares = np.array([row[1:] for row in rows[1:]], float)
    assert shares == pytest.approx(found.matrix, abs=1e-4)


@pytest.mark.parametrize("kind", ["text", "image", "continuation"])
def test_a_picture_is_exported_as_svg_and_png(drive, make, kind):
    shown = {"text": make, "image": lambda: image_of((4, 4), with_edges=True)}
    seen = drive(
        [shown.get(kind, continuation_of)()],
        """const kept = [];
        const open = frame.contentWindow.URL.createObjectURL;
        frame.contentWindow.URL.createObjectURL = (blob) => { kept.push(blob); return open(blob); };
        one("[data-export=svg]").click();
        one("[data-export=png]").click();
        const svg = await kept[0].text();
        while (kept.length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
        const bytes = new Uint8Array(await kept[1].arrayBuffer());
        const drawing = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
        return { svg, name: drawing.nodeName, width: Number(drawing.getAttribute("width")),
          size: [drawing.getAttribute("width"), drawing.getAttribute("height")],
          texts: Array.from(drawing.querySelectorAll("text"), (t) => t.textContent),
          links: drawing.querySelectorAll("path").length,
          png: btoa(String.fromCharCode(...bytes.slice(0, 24))) };
        """,
        fragment="dark",
    )
    assert seen["name"] == "svg" and seen["links"] > 20 and "decision" in seen["texts"]
    # Colours that any reader of SVG knows, and no styles of the page.
    assert "var(" not in seen["svg"] and "color(" not in seen["svg"] and "oklch" not in seen["svg"]
    if kind != "image":
        assert {"although", "smart"} <= set(seen["texts"])
    ground = seen["svg"].split("<rect", 1)[1].split(">", 1)[0]
    assert 'fill="#171614"' in ground and f'width="{seen["size"][0]}"' in ground
    png = base64.b64decode(seen["png"])
    size = [int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")]
    assert png[1:4] == b"PNG" and size == [2 * int(float(side)) for side in seen["size"]]
