"""Images on the page, in a notebook and in a terminal: patches in their places, warm as scores."""

import base64
import html
import json
import re
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from support.example_attributions import image_of

from attnflow.attribution.views import notebook
from attnflow.attribution.views.image_overlay import heat, png
from attnflow.attribution.views.page import render
from attnflow.attribution.views.terminal import render as in_terminal
from attnflow.errors import InputError

CELL = re.compile(
    r'<rect class="t" data-t="(\d+)" style="--h:([\d.]+)" x="([-\d.]+)" y="([-\d.]+)" '
    r'width="([\d.]+)" height="([\d.]+)"><title>(.*?)</title></rect>'
)


def opened(file: bytes) -> np.ndarray:
    """The pixels of a PNG without filters, its checksums checked."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, size = 8, b"", (0, 0, 0)
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        name, body = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack(">I", file[at + 8 + length : at + 12 + length])[0] == zlib.crc32(
            name + body
        )
        if name == b"IHDR":
            width, height, _, kind = struct.unpack(">IIBB", body[:10])
            size = (height, width, {2: 3, 6: 4}[kind])
        data += body if name == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(size[0], -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(size)


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 4), (28, 28, 3)])
def test_png_says_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert (opened(png(pixels)) == pixels).all()


@pytest.mark.parametrize("grid", [(4, 4), (3, 7), (16, 16), (64, 64)])
def test_patches_lie_in_their_places_as_warm_as_their_scores(grid):
    a = image_of(grid, size=(300, 480), box=(90, 0, 390, 300))
    cells, warmth = CELL.findall(render([a])), heat(a)
    rows, columns = grid
    assert len(cells) == rows * columns
    for number, (token, warm, x, y, width, height, title) in enumerate(cells):
        row, column = divmod(number, columns)
        assert a.tokens[int(token)] == f"r{row}c{column}"
        place = (90 + 300 * column / columns, 300 * row / rows, 300 / columns, 300 / rows)
        np.testing.assert_allclose([float(v) for v in (x, y, width, height)], place, rtol=1e-4)
        assert float(warm) == pytest.approx(warmth[row, column], abs=0.006)
        assert title.startswith(f"r{row}c{column}: score ") and f"of {rows * columns}" in title


def test_the_page_holds_the_image_and_fetches_nothing():
    a = image_of((4, 4))
    page = render([a])
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert addresses and all(address.startswith("data:image/png;base64,") for address in addresses)
    first = base64.b64decode(addresses[0].partition(",")[2])
    assert (opened(first) == a.image).all()
    assert 'viewBox="0 0 28 28"' in page and "image-rendering:pixelated" in page
    assert "Words</button>" not in page and "Scores alone</button>" in page
    assert 'aria-label="image of 28 x 28 pixels in 4 x 4 patches' in page
    assert '<bdi class="t special" data-t="0"' in page


def test_large_images_are_made_smaller_and_keep_their_places():
    a = image_of((4, 4), size=(1500, 3000), box=(0, 0, 3000, 1500))
    page = render([a])
    assert 'viewBox="0 0 3000 1500"' in page and "image-rendering" not in page.split("<body>")[1]
    held = re.search(r'<image href="data:image/png;base64,([^"]+)" width="3000"', page).group(1)
    assert opened(base64.b64decode(held)).shape == (512, 1024, 3)


def test_the_view_takes_in_a_grid_beyond_the_image():
    a = image_of((2, 2), size=(40, 40), box=(-20, -20, 60, 60))
    assert 'viewBox="-20 -20 80 80"' in render([a])


def test_the_flow_is_shown_layer_by_layer():
    a = image_of((4, 4), with_edges=True)
    page = render([a])
    strips = re.findall(r'<figure><img src="data:image/png;base64,([^"]+)" alt="(.*?)"', page)
    assert len(strips) == len(a.edges) + 1
    assert strips[-1][1].startswith("at the patches: ")
    bottom = opened(base64.b64decode(strips[-1][0]))
    top = opened(base64.b64decode(strips[0][0]))
    assert bottom.shape == (4, 4, 4) and not top[:, :, 3].any(), "all of it begins at [CLS]"
    assert bottom[:, :, 3].argmax() == a.heatmap().argmax()
    share = 100 * (1 - a.special_share)
    assert strips[-1][1].startswith(f"at the patches: {share:.1f} %")
    assert "<figure>" not in render([image_of((4, 4))])


def test_names_of_files_are_escaped_everywhere():
    evil = '<img src=x onerror=alert(1)>".png'
    a = replace(image_of((2, 2), with_edges=True), text=evil)
    for page in (render([a, a]), notebook.render(a)):
        assert "<img src=x" not in page
    data = re.search(r'id="data">(.*?)</script>', render([a])).group(1)
    assert json.loads(data)[0]["names"] == ["[CLS]", "r0c0", "r0c1", "r1c0", "r1c1"]
    assert "\x1b" not in in_terminal(replace(a, text="\x1b[2J"), color=False)


def test_nothing_speaks_for_the_class():
    a = image_of((3, 3), scale=0.0)
    assert heat(a).max() == 0
    assert set(re.findall(r"--h:([\d.]+)", render([a]))) == {"0.00"}
    empty = replace(a, certificate=replace(a.certificate, status="empty"))
    assert "every score is 0" in in_terminal(empty)
    assert (a.overlay()[:, :, 0] == a.overlay()[:, :, 2]).all()


def test_a_notebook_shows_the_picture_without_script_or_class():
    a = image_of((4, 4))
    shown = notebook.render(a)
    assert shown == a._repr_html_() and "<script" not in shown and "class=" not in shown
    opacity = [float(value) for value in re.findall(r'fill-opacity="([\d.]+)"', shown)]
    np.testing.assert_allclose(opacity, 0.82 * heat(a).ravel(), atol=0.006)
    assert html.escape(a.top(1)[0][0]) in shown and "A patch stands for the token" in shown


def test_a_terminal_shows_blocks_as_warm_as_scores(monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    a = image_of((4, 6))
    lines = in_terminal(a, color=False, width=80).split("\n")
    top = lines.index("") + 1  # after title and sentence
    lines = lines[top:]
    assert [len(line) for line in lines[:4]] == [12] * 4
    row, column = np.unravel_index(a.heatmap().argmax(), (4, 6))
    assert lines[row][2 * column : 2 * column + 2] == "██"
    faint = np.argwhere(heat(a) < 0.06)
    assert len(faint) and all(lines[r][2 * c] == "·" for r, c in faint)
    assert lines[4].startswith("4 x 6 patches") and "not shown: [CLS]" in lines[4]
    best = a.top(1)[0][0]
    assert re.search(rf"^  1  {best} ", "\n".join(lines), re.M) and "more patches" in lines[-4]
    coloured = in_terminal(a, color=True, width=80)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split("\n")[top + row][2 * column] == " "


@pytest.mark.parametrize(("columns", "width", "wide"), [(40, 80, 80), (41, 80, 41), (64, 20, 16)])
def test_blocks_fit_the_terminal(columns, width, wide):
    a = image_of((64, columns))
    shown = in_terminal(a, color=False, width=width).split("\n")
    shown = shown[shown.index("") + 1 :]
    rows = next(i for i, line in enumerate(shown) if " patches, rows" in line)
    assert {len(line) for line in shown[:rows]} == {wide}
    assert rows == (64 if columns <= width else 16)
    assert ("a block sums 4 x 4 of them" in shown[rows]) == (columns > width)


def test_words_of_an_image(make):
    with pytest.raises(InputError, match="no words"):
        in_terminal(image_of((2, 2)), granularity="word")
