"""A text with images on page, notebook and terminal: one scale of heat for both."""

import re
from dataclasses import replace

import numpy as np
import pytest
from support.example_attributions import attribution_of

import attnflow
from attnflow.attribution.views import notebook, page, terminal
from attnflow.errors import InputError, StorageError


@pytest.fixture
def a():
    """A text of two words behind an image of two by two regions and a whole of one."""
    plain = attribution_of("a b c d e f", with_edges=False)  # of eight tokens, with [CLS] and [SEP]
    boxes = [(x, y, x + 10, y + 8) for y in (0, 8) for x in (0, 10)]
    names = [f"image r{y} c{x}" for y in (0, 1) for x in (0, 1)]
    return replace(
        plain,
        text="what this",
        scores=np.array([0, 1, 4, 0, 2, 1, 2, 0.0]),
        tokens=("<i>", *names, "image whole r0 c0", "what", "this"),
        offsets=(*[(0, 0)] * 6, (0, 4), (5, 9)),
        special=np.array([True, *[False] * 7]),
        word_ids=(*[None] * 6, 0, 1),
        image=np.zeros((32, 20, 3), np.uint8),
        regions=(None, *boxes, (0, 24, 20, 32), None, None),
    )


def test_heat_maps_of_the_pictures(a):
    maps = a.heatmaps()
    assert {name: grid.tolist() for name, grid in maps.items()} == {
        "image": [[1, 4], [0, 2]],
        "image whole": [[1]],
    }
    with pytest.raises(InputError, match="no text with images"):
        replace(a, regions=None, image=None).heatmaps()


def test_regions_that_are_no_grid_are_in_one_row(a):
    boxes = list(a.regions)
    boxes[4] = (3, 9, 12, 14)
    assert replace(a, regions=tuple(boxes)).heatmaps()["image"].shape == (1, 4)


def test_the_page_has_text_and_regions_on_one_scale(a):
    html = page.render([a])
    cells = re.findall(r'<rect class="t" data-t="(\d+)" style="--h:([0-9.]+)"', html)
    assert dict(cells) == {"1": "0.25", "2": "1.00", "3": "0.00", "4": "0.50", "5": "0.25"}
    assert re.search(r'data-t="6"\s+style="--h:0.50"', html)
    assert html.count("40.0 % (strongest") >= 2
    chip = re.search(r'<bdi class="t of-image detached" data-t="1 2 3 4 5"[^>]*>image</bdi>', html)
    assert chip and "all its regions together" in chip[0]
    assert 'viewBox="0 0 20 32"' in html


def test_the_scale_stays_where_a_word_is_hotter_than_a_token(a):
    joined = replace(a, word_ids=(*[None] * 6, 0, 0), scores=np.array([0, 1, 4, 0, 2, 1, 3, 3.0]))
    html = page.render([joined])
    assert re.search(r'data-t="2" style="--h:0.67"', html)
    assert re.search(r'data-t="6 7"\s+style="--h:1.00"', html)


def test_names_are_escaped(a):
    names = ("<script>alert(1)</script> r0 c0", *a.tokens[2:])
    html = page.render([replace(a, tokens=("<i>", *names), model="<b>")])
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html
    assert "<script>alert" not in notebook.render(replace(a, tokens=("<i>", *names)))


def test_the_terminal_has_the_text_and_a_block_for_each_region(a):
    shown = terminal.render(a, color=False, width=60)
    assert "<i> ‹image› what" in " ".join(shown.split()) and "image: 2 x 2 regions" in shown
    assert "image whole: 1 x 1 regions" in shown
    assert "image r0 c1" in shown.split("regions")[-1]


def test_the_notebook_has_both(a):
    html = notebook.render(a)
    assert html.count("<rect ") == 5 and ">what</mark>" in html


def test_the_overlay_is_hot_where_the_region_is(a):
    pixels = a.overlay().astype(int)
    red = pixels[:, :, 0] - pixels[:, :, 2]
    assert red[4, 15] == red.max() > 0 and red[12, 5] == 0 and red[20, 10] == 0
    assert 0 < red[28, 3] < red[12, 15] < red[4, 15]
    assert a.overlay(64).shape == (64, 40, 3)


def test_saved_as_it_is(a, tmp_path):
    b = attnflow.load(attnflow.save([a], tmp_path / "a"))[0]
    assert b.regions == a.regions and (b.image == a.image).all()


@pytest.mark.parametrize(
    "wrong",
    [
        dict(image=None),
        dict(regions=(None,) * 8),
        dict(regions=((0, 0, 1, 1),) * 3),
        dict(regions=(None, (5, 0, 5, 9), *[None] * 6)),
        dict(regions=(None, (0, 0, 1, float("nan")), *[None] * 6)),
        dict(grid=(1, 7), box=(0, 0, 1, 1)),
    ],
)
def test_regions_that_do_not_fit_are_not_saved(a, wrong, tmp_path):
    with pytest.raises(StorageError, match="regions|grid"):
        attnflow.save([replace(a, **wrong)], tmp_path / "a")
