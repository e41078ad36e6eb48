"""The page in a real browser: it runs without errors or requests, draws, follows and switches.

Every test loads a small frame page that holds the page under test, drives it, and leaves what it
saw in its own title, which the browser prints. Skipped where no chromium is installed.
"""

import re
from html.parser import HTMLParser

import pytest
from support.browser import chromium, needs_browser
from support.example_attributions import REVIEW, image_of

from attnflow.attribution.views.page import SCRIPTS, write

pytestmark = needs_browser


def test_the_flow_is_drawn_and_the_drawn_share_is_said(drive, make):
    seen = drive(
        [make()],
        """return {
          links: all(".link").length, nodes: all(".node").length,
          names: all(".node text").map((t) => t.textContent),
          said: one("[data-drawn]").textContent,
        };""",
    )
    assert seen["links"] > 30 and seen["nodes"] > 50
    names = [name.rstrip("₀₁₂₃₄₅₆₇₈₉") for name in seen["names"]]
    assert names == list(make().tokens) and {"is₁", "is₂"} <= set(seen["names"])
    assert float(seen["said"].split(" %")[0]) >= 80


def test_more_links_for_more_flow(drive, make):
    counts = [
        drive([make()], 'return all(".link, .hairs").length;', fragment=f"keep={keep}")
        for keep in (25, 95)
    ]
    assert counts[0] < counts[1] / 2


def test_an_address_follows_a_token(drive, make):
    seen = drive(
        [make()],
        """const pressed = all(".heat:not([hidden]) [aria-pressed=true]").map((t) => t.textContent);
        const paths = one("[data-paths]").textContent;
        return { traced: all(".traced").length, pressed, paths };""",
        fragment="token=5",
    )
    assert seen["traced"] > 6 and seen["pressed"] == ["not"]
    assert seen["paths"].startswith("not receives") and "[CLS]" in seen["paths"]


def test_followed_flow_adds_up(drive, make):
    """No layer of a trace upward carries more than the one below it, and little was pruned."""
    seen = drive(
        [make()],
        """const flow = JSON.parse(one("#data").textContent)[0].flow;
        const found = frame.contentWindow.follow(flow, 0, [5]);
        const rows = flow.layers.map(() => 0);
        found.traced.forEach((link) => { rows[link.layer] += link.flow; });
        return { rows, start: found.start, top: found.top };""",
    )
    assert seen["start"] == pytest.approx(make().scores[5] / 1.234 * 1e6, abs=1)
    losses = [a - b for a, b in zip(seen["rows"], seen["rows"][1:], strict=False)]
    assert min(losses) > -1e-3 * seen["start"]
    assert 0.8 * seen["start"] < seen["top"] <= 1.001 * seen["start"]
    assert seen["rows"][-1] == pytest.approx(seen["top"])


@pytest.mark.parametrize("keep", [25, 80])
@pytest.mark.parametrize("row", [0, 3])
def test_lit_paths_are_whole(drive, make, keep, row):
    """Every lit link leads on, up to the decision and down to the tokens, of every token."""
    seen = drive(
        [make()],
        """const picture = one(".flow svg");
        const layers = JSON.parse(one("#data").textContent)[0].flow.layers.length;
        const broken = [];
        let chosen = 0;
        for (const node of all(".node")) {
          const aria = node.getAttribute("aria-label");
          if (!aria.includes(ROW ? "above layer " + ROW + ":" : "at the tokens")) continue;
          chosen++;
          node.dispatchEvent(new Event("click", { bubbles: true }));
          const links = all(".traced").map((path) => path.dataset.link.split(" ").map(Number));
          const from = new Set(links.map(([l, query]) => (l + 1) + " " + query));
          const to = new Set(links.map(([l, , key]) => l + " " + key));
          for (const [l, query, key] of links) {
            if (l + 1 < layers && !to.has((l + 1) + " " + query)) broken.push([aria, l, "up"]);
            if (l > 0 && !from.has(l + " " + key)) broken.push([aria, l, "down"]);
          }
          if (!links.some(([l]) => l === layers - 1)) broken.push([aria, "no decision"]);
          if (!links.some(([l]) => l === 0)) broken.push([aria, "no token"]);
        }
        return { broken, chosen };""".replace("ROW", str(row)),
        fragment=f"keep={keep}",
    )
    assert seen["broken"] == [] and seen["chosen"] >= 8


def test_tracing_a_node_goes_both_ways(drive, make):
    seen = drive(
        [make()],
        'return { text: one("[data-paths]").textContent, traced: all(".traced").length };',
        fragment="token=5&row=3",
    )
    assert "above layer 3" in seen["text"] and "Tokens it reaches" in seen["text"]
    assert seen["traced"] > 6


def test_words_by_address_and_tokens_by_button(drive, make):
    attribution = make("an extraordinary film")
    shown = "return all('.heat:not([hidden]) .t').map((t) => t.textContent);"
    words = drive([attribution], shown)
    assert words == ["[CLS]", "an", "extraordinary", "film", "[SEP]"]
    click = "one('[data-show=token]').click();"
    tokens = drive([attribution], click + shown)
    assert drive([attribution], shown, fragment="tokens") == tokens
    assert tokens == ["[CLS]", "an", "extrao", "rdinary", "film", "[SEP]"]


def test_the_keyboard_reaches_everything(drive, make):
    seen = drive(
        [make()],
        """const steps = [];
        const heat = () => page.activeElement.textContent;
        all(".heat:not([hidden]) .t")[0].focus();
        press(page.activeElement, "ArrowRight"); steps.push(heat());
        press(page.activeElement, "End"); steps.push(heat());
        press(page.activeElement, "ArrowLeft"); steps.push(heat());
        press(page.activeElement, "Enter"); steps.push(all(".traced").length > 0);
        press(page.activeElement, "Escape"); steps.push(all(".traced").length);
        steps.push(all(".heat:not([hidden]) [tabindex='0']").length);
        steps.push(all(".node[tabindex='0']").length);
        one(".node[tabindex='0']").focus();
        press(page.activeElement, "ArrowUp");
        steps.push(page.activeElement.getAttribute("aria-label"));
        press(page.activeElement, " "); steps.push(all(".traced").length > 0);
        steps.push(one(".tip").textContent !== "");
        return steps;""",
    )
    assert seen[:7] == ["although", "[SEP]", ".", True, 0, 1, 1]
    assert "above layer 1" in seen[7] and seen[8:] == [True, True]


def test_one_text_at_a_time_by_link(drive, make):
    seen = drive(
        [make(), make(REVIEW, seed=3), make("short one", with_edges=False)],
        """const visible = () => all("article").map((a) => !a.hidden);
        return { visible: visible(), current: all("[aria-current]").length,
        links: all("#text-1 .link").length };""",
        fragment="text-1",
    )
    assert seen["visible"] == [False, True, False]
    assert seen["current"] == 1 and seen["links"] > 50


@pytest.mark.parametrize(("name", "ground"), [("dark", "rgb(23, 22, 20)"), ("light", "rgb(252")])
def test_light_and_dark(drive, make, name, ground):
    body = "return getComputedStyle(page.documentElement).backgroundColor;"
    assert drive([make()], body, fragment=name).startswith(ground)


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("fragment", ["token=9", "token=9&spread"])
def test_the_page_never_scrolls_sideways(drive, make, width, fragment):
    texts = [make(REVIEW + " " + "x" * 300, seed=3, labels=("a", "b" * 90), model="m" * 200)]
    body = "return page.documentElement.scrollWidth;"
    assert drive(texts, body, fragment=fragment, width=width) <= width


def test_right_to_left_text_runs_from_the_right(drive, make):
    body = """const boxes = all(".heat:not([hidden]) .t").map((t) => t.getBoundingClientRect().x);
    return boxes;"""
    boxes = drive([make("שלום עולם זה סרט")], body)
    assert boxes == sorted(boxes, reverse=True)


def test_hostile_text_does_not_run(drive, make):
    hostile = "</script><script>document.title='owned'</script><img src=x onerror=document.title=1>"
    seen = drive(
        [make(hostile, labels=("no", hostile), model=hostile)],
        """all(".t, .node").forEach((t) => t.dispatchEvent(new Event("click", { bubbles: true })));
        return { title: page.title, images: all("img").length, scripts: all("script").length };""",
        fragment="token=3",
    )
    assert seen["title"].startswith("</script><script>document") and seen["images"] == 0
    assert seen["scripts"] == 1 + len(SCRIPTS)


def test_the_policy_refuses_foreign_scripts(tmp_path, make):
    page = write([make()], tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", "<script>document.title='owned'</script></main>"))
    done = chromium(tmp_path, page, "--dump-dom")
    assert "<title>owned" not in done.stdout and "Content Security Policy" in done.stderr


def test_nothing_is_requested(tmp_path, make):
    page = write([make(REVIEW, seed=3)], tmp_path / "page.html")
    log = tmp_path / "net.json"
    done = chromium(tmp_path, page, "--dump-dom", f"--log-net-log={log}")
    assert 'class="link"' in done.stdout
    requested = set(re.findall(r'"url":"([^"]+)"', log.read_text(errors="replace")))
    initiated = {url for url in requested if not re.search(r"//[\w.-]*(google|gvt1)[\w.-]*/", url)}
    assert all(url.startswith(("file:", "chrome", "data:")) for url in initiated)


class Visible(HTMLParser):
    """The text of the elements that show without any script or style sheet of ours."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_data(self, data):
        self.found.append(data)


def test_readable_without_scripts(tmp_path, make):
    page = write([make()], tmp_path / "page.html")
    text = re.sub(r"<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.S)
    page.write_text(text, encoding="utf-8")
    dom = chromium(tmp_path, page, "--dump-dom").stdout
    words = "".join(Visible(dom).found)
    for needed in ("although", "smart", "Ranking", "Upper bound", "0.1692"):
        assert needed in words
    assert 'class="scripted"' not in dom


def test_an_image_by_keyboard(drive):
    """Arrows move in rows and columns, Enter follows; what is pointed at is framed and said."""
    seen = drive(
        [image_of((4, 4), with_edges=True)],
        """const at = (row, column) => one(`[data-t="${1 + 4 * row + column}"]`);
        const about = () => one(".tip").textContent;
        const tabs = all(".heat .t").filter((t) => t.tabIndex === 0).length;
        at(0, 0).focus();
        const now = () => page.activeElement.getAttribute("aria-label");
        press(at(0, 0), "ArrowDown"); press(at(1, 0), "ArrowRight");
        const said = now();
        press(at(1, 1), "ArrowUp"); press(at(0, 1), "ArrowUp");
        at(0, 1).dispatchEvent(new frame.contentWindow.PointerEvent("pointerenter"));
        const top = about();
        const place = ["x", "y", "width"].map((side) => one(".ring.at.line").getAttribute(side));
        press(at(0, 1), "Enter");
        const paths = one("[data-paths]").textContent, chosen = all(".ring.chosen.line").length;
        press(page.body, "Escape");
        return { tabs, said, top, place, paths, chosen, after: all(".ring.chosen").length,
          label: at(0, 1).getAttribute("aria-label"), titles: all(".image title").length };""",
    )
    assert seen["tabs"] == 1 and seen["titles"] == 0
    assert seen["said"].startswith("r1c1: score ") and " of 16" in seen["said"]
    assert seen["top"].startswith("r0c1: score ") and seen["label"] == seen["top"]
    assert seen["place"] == ["7", "0", "7"]
    assert seen["paths"].startswith("r0c1 receives") and seen["chosen"] == 1 and seen["after"] == 0


def test_an_image_its_scores_or_both(drive, make):
    seen = drive(
        [image_of((4, 4)), make()],
        """const shown = (name) => getComputedStyle(one(name)).visibility;
        const state = () => [shown(".image image"), shown(".image rect.t")];
        const found = [state()];
        for (const look of ["image", "both"]) {
          one(`button[data-look=${look}]`).click();
          found.push(state());
        }
        one("article").querySelector("button[data-look=scores]").click();
        return { found, hash: frame.contentWindow.location.hash,
          legend: one(".image ~ .bar .legend").hidden };""",
        fragment="look=scores&words",
    )
    assert seen["found"] == [["hidden", "visible"], ["visible", "hidden"], ["visible", "visible"]]
    assert "look=scores" in seen["hash"] and seen["legend"] is False


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("grid", "size"), [((64, 64), (300, 900)), ((4, 4), (900, 28))])
def test_an_image_of_any_shape_fits_the_page(drive, width, grid, size):
    height, wide = size
    seen = drive(
        [image_of(grid, size=size)],
        """const box = one(".image svg").getBoundingClientRect();
        return { scroll: page.documentElement.scrollWidth, width: box.width, height: box.height,
          cells: all(".image rect.t").length };""",
        width=width,
    )
    assert seen["scroll"] <= width and seen["cells"] == grid[0] * grid[1]
    assert 0 < seen["width"] <= width and 20 < seen["height"] <= 900
