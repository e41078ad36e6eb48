"""Figures of matplotlib, for papers: bars of words, the flow, a continuation's matrix, an image.

Only axes' own methods are called. pyplot makes the figure where no axes are given, so that it shows
in a notebook, and is not touched otherwise. Orange is for the decision, blue and hatched against
it: colour-blind people tell them apart, and so does a print in black.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views.captions import (
    beginning,
    certainty,
    contrast,
    granularity_of,
)
from attnflow.attribution.views.continuation_matrix import ROOMY, sources
from attnflow.attribution.views.figure_text import safe, safe_names
from attnflow.attribution.views.flow_picture import (
    HAIRLINE,
    NODE_HEIGHT,
    FlowPicture,
    Link,
    flow_picture,
)
from attnflow.attribution.views.image_overlay import overlay
from attnflow.attribution.views.layout import VISIBLE, Piece, join_regions, pieces_of
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.verdict import held_by_place
from attnflow.checks import check_count
from attnflow.errors import InputError, needs, shown

FOR = "#e8833f"
AGAINST, AGAINST_EDGE = "#bcd6f2", "#235f9f"
FAINT = "#a9a297"
FLOW, NODE = "#d9651f", "#33302c"
LEFT_OUT = "0.35"  # grey of notes
THINNEST = 0.1  # points; readers of PDF draw a thinner node as wide as a pixel
FEW = 300  # hairlines up to which each is as dark as it can be
NAME = 24  # characters of a name next to a bar
TITLE = 60
SMALL = 8  # points of type
ROW_OF_TYPE = 11.0  # points that a line of small type needs
WIDE = 6.4  # inches


def plot(
    attribution: AttributionData, ax: Any = None, granularity: str | None = None, top: int = 10
) -> Any:
    """Draw bars of the strongest words, or the heat map over an image; see `Attribution.plot`."""
    check_count("top", top)
    if attribution.grid is not None:
        return _image(attribution, ax)
    granularity = granularity_of(attribution, granularity)
    bars, label = _bars(attribution, granularity)
    bars = sorted(bars, key=lambda bar: (-abs(bar[1]), bar[0].tokens))[:top]
    ax = _axes(ax, (WIDE * 0.8, 0.9 + 0.26 * max(len(bars), 2)))
    names, properties = safe_names([_label(piece) for piece, _ in bars], NAME)
    values = [value for _, value in bars]
    places = range(len(bars))
    drawn = ax.barh(places, values, height=0.72)
    for bar, value in zip(drawn, values, strict=True):
        bar.set_facecolor(FAINT if attribution.is_faint else FOR if value > 0 else AGAINST)
        if value < 0:
            bar.set(hatch="////", edgecolor=AGAINST_EDGE, linewidth=0.8)
    ax.set_yticks(places, names, **properties)
    ax.set_ylim(max(len(bars), 1) - 0.5, -0.5)  # the strongest on top
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel(f"{label}; little flow" if attribution.is_faint else label)
    _title(ax, attribution)
    return ax


def plot_flow(
    attribution: AttributionData,
    ax: Any = None,
    keep: float = 0.8,
    granularity: str | None = None,
    fold: bool = True,
) -> Any:
    """Draw the layered flow; see `Attribution.plot_flow`."""
    granularity = granularity_of(attribution, granularity)
    # Checked on a size of no matter, before there is a figure.
    rows = len(flow_picture(attribution, granularity, keep=keep, size=(400, 300), fold=fold).bands)
    is_given = ax is not None
    ax = _axes(ax, (WIDE, 1.2 + min(0.42 * rows, 5.5)))
    ax.tick_params(length=0, labelsize=SMALL)
    if not is_given:  # with space for labels, which axes have only once they are laid out
        ax.set_yticks([0], ["layers 12–24"], usetex=False)
        ax.figure.draw_without_rendering()
    size = _points(ax)
    picture = flow_picture(attribution, granularity, keep=keep, size=size, fold=fold)
    _draw_links(ax, picture)
    _draw_nodes(ax, picture)
    ax.set_xlim(0, picture.width)
    ax.set_ylim(picture.height + 4, -4)
    ax.spines[:].set_visible(False)
    names, properties = safe_names([picture.labels[i] for i in picture.labelled], NAME)
    slant = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if picture.slanted else {}
    centres = [picture.centres[i] for i in picture.labelled]
    ax.set_xticks(centres, names, **properties, **slant)
    rows_named = picture.row_labels(ROW_OF_TYPE)
    ax.set_yticks([y for y, _ in rows_named], [name for _, name in rows_named], usetex=False)
    _title(ax, attribution)
    note = f"links with {100 * picture.drawn:.0f} % of the flow"
    ax.text(
        1, 1, note, transform=ax.transAxes, ha="right", va="bottom", size=SMALL, color=LEFT_OUT,
        usetex=False,
    )  # fmt: skip
    return ax


def plot_matrix(continuation: ContinuationData, ax: Any = None) -> Any:
    """Draw which token rests on which; see `Attributions.plot`."""
    columns = sources(continuation)
    shares = continuation.matrix[:, columns]
    roomy = len(columns) <= ROOMY
    rows = len(continuation)
    wide = min(1.4 + 0.36 * len(columns), 10) if roomy else 8
    ax = _axes(ax, (wide, min(1.4 + (0.3 if roomy else 0.22) * rows, 10)))
    # A map of its own, since the registered ones have names that users can replace.
    image = ax.imshow(shares, cmap=_warm(), vmin=0, vmax=max(float(shares.max()), 1e-300))
    image.set(interpolation="nearest")
    ax.set_aspect("auto")
    names = [_label(piece) for piece in pieces_of(continuation[0], "token")]
    _label_every(ax.set_xticks, [names[i] for i in columns], _points(ax)[0], rotation=90)
    _label_every(ax.set_yticks, [as_name(a.label) for a in continuation], _points(ax)[1])
    ax.tick_params(length=0, labelsize=SMALL)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("rests on")
    if roomy:
        _write_percent(ax, shares)
    else:
        bar = ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02)
        bar.set_label("share of the row", size=SMALL, usetex=False)
        bar.ax.tick_params(labelsize=SMALL)
    text, properties = safe(continuation.written, TITLE)
    ax.set_title(text, size="medium", **properties)
    return ax


def _axes(ax: Any, size: tuple[float, float]) -> Any:
    """Return the axes, or those of a new figure of a size in inches.

    Raises:
        InputError: `ax` is not matplotlib's.
        MissingExtraError: matplotlib is not installed.
    """
    with needs("plots need matplotlib", "plots"):
        from matplotlib.axes import Axes
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise InputError(f"ax must be a matplotlib Axes, got {shown(ax)}.")
    return ax


def _points(ax: Any) -> tuple[float, float]:
    """Return width and height of the axes, 72 points an inch."""
    box = ax.get_window_extent()
    scale = 72 / ax.figure.dpi
    return max(box.width * scale, 1.0), max(box.height * scale, 1.0)


def _title(ax: Any, attribution: AttributionData) -> None:
    text, properties = safe(attribution.label, TITLE // 2)
    rest, others = safe(f"{certainty(attribution)}{contrast(attribution)}", TITLE)
    ax.set_title(f"{text} {rest}", size="medium", loc="left", **{**others, **properties})


def _bars(attribution: AttributionData, granularity: str) -> tuple[list[tuple[Piece, float]], str]:
    """Return the ordinary pieces with their values that are not 0, and what the values are.

    What speaks against only by its place in a model that writes is left out, as in other views.
    """
    pieces = join_regions(attribution, pieces_of(attribution, granularity))
    signed = attribution.signed_scores
    placed = held_by_place(attribution)
    found = []
    for piece in pieces:
        value = piece.score if signed is None else float(sum(signed[i] for i in piece.tokens))
        if not piece.special and value != 0 and not (value < 0 and placed & set(piece.tokens)):
            found.append((piece, value))
    if signed is None:
        return found, "score (units of the flow)"
    return found, f"signed score ({_unit(attribution)})"


def _unit(attribution: AttributionData) -> str:
    """Return what the explained number is."""
    if len(attribution.labels) == 1:
        return "the model’s output"
    if attribution.against is not None:
        return "difference of two logits"
    return "logit" if attribution.tensor == "cf" else "log-odds"


def _label(piece: Piece) -> str:
    """Return the name of a piece, with its place where several have the same."""
    return beginning(as_name(piece.name), NAME - len(piece.place)) + piece.place


def _image(attribution: AttributionData, ax: Any) -> Any:
    pixels = overlay(attribution)
    height, width = pixels.shape[:2]
    ax = _axes(ax, (4.0, 0.4 + 4.0 * min(height / width, 2.0)))
    ax.imshow(pixels, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    _title(ax, attribution)
    return ax


def _draw_links(ax: Any, picture: FlowPicture) -> None:
    """Draw each link as an area, and one thinner than `HAIRLINE` as a line."""
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba

    wide = [link for link in picture.links if link.width >= HAIRLINE]
    thin = [link for link in picture.links if link.width < HAIRLINE]
    ax.add_collection(
        PathCollection(
            [_area(picture, link) for link in wide],
            facecolors=[to_rgba(FLOW, 0.3 + 0.5 * link.flow**0.5) for link in wide],
            edgecolors="none",
            label="links",
        )
    )
    ax.add_collection(
        PathCollection(
            [_line(picture, link) for link in thin],
            facecolors="none",
            # The more there are, the fainter: crossings must not add up to a solid area.
            edgecolors=to_rgba(FLOW, 0.4 * min(1.0, (FEW / max(len(thin), 1)) ** 0.5)),
            linewidths=HAIRLINE,
            label="hairlines",
        )
    )


def _area(picture: FlowPicture, link: Link) -> Any:
    """Return the outline of a link: two curves, joined by straight ends."""
    from matplotlib.path import Path

    left, right = picture.outline(link)
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    return Path([*left, *right, left[0]], codes)


def _line(picture: FlowPicture, link: Link) -> Any:
    """Return the left side of a link, which is too thin to have two."""
    from matplotlib.path import Path

    left, _ = picture.outline(link)
    return Path(left, [Path.MOVETO, *[Path.CURVE4] * 3])


def _draw_nodes(ax: Any, picture: FlowPicture) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    places = [
        Rectangle((n.x - n.width / 2, n.y - NODE_HEIGHT / 2), n.width, NODE_HEIGHT)
        for n in picture.nodes
        if n.width >= THINNEST
    ]
    ax.add_collection(PatchCollection(places, facecolor=NODE, edgecolor="none", label="nodes"))


def _label_every(set_ticks: Any, names: Sequence[str], space: float, **options: Any) -> None:
    """Set as many labels as there is space for, at even steps, the first among them."""
    step = max(1, int(np.ceil(len(names) * ROW_OF_TYPE / space)))
    places = range(0, len(names), step)
    labels, properties = safe_names([names[i] for i in places], NAME // 2)
    set_ticks(places, labels, **properties, **options)


def _write_percent(ax: Any, shares: NDArray[np.float64]) -> None:
    """Write each share that shows into its cell, in whole percent."""
    for row, column in np.argwhere(shares >= VISIBLE):
        number = f"{100 * shares[row, column]:.0f}"
        ax.text(column, row, number, ha="center", va="center", size=SMALL, color="black")


def _warm() -> Any:
    """Return colours from white to the one of `FOR`; black is read on all of them."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("attnflow", ["#ffffff", FOR])
