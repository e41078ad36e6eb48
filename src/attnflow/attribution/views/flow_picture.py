"""The flow as a picture: where its nodes and links stand, for notebook and figure to draw.

Columns are tokens or words in the order of the text, rows are layers, the decision on top. A node
is as wide as what flows through it, a link as what it carries. Of each layer the largest links are
drawn. A run of layers in which nearly nothing crosses from one column to another is folded to one,
by the measure of the page.

Lengths are in points, from the left and from the top.
"""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import beginning
from attnflow.attribution.views.flow_links import has_flow, node_flow
from attnflow.attribution.views.layout import Piece, join_template_tokens, pieces_of
from attnflow.attribution.views.sanitize import as_name, columns
from attnflow.attribution.views.wording import format_percent
from attnflow.errors import InputError, shown

LETTER = 5.0  # points of a letter, about, in type of eight points
LONGEST = 14  # characters of a label
NODE_HEIGHT = 4.0
HAIRLINE = 0.5  # a thinner link is not seen as an area, and is drawn as a line
GAP = 8.0  # between two labels
SLANT_PITCH = 12.0  # between two slanted labels
LEAST_FLOW, MOST_FLOW = 24.0, 72.0  # width of the whole flow
FILLED = 0.45  # of the width that nodes take at most, so that links have space between them
# The share of a layer's flow that may cross in a folded run, drawn or not; the same in flow.js.
UNCROSSED = 0.01
UNLINKED = 0.4  # of the space of a column with links that one without has

Flows = NDArray[np.float64]
Point = tuple[float, float]
Curve = tuple[Point, Point, Point, Point]


@dataclass(frozen=True)
class Layers:
    """A layer, or a run of layers that is folded to one, counted from 1 at the tokens."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """Return "layer 3" or "layers 4–9"."""
        return f"layer {self.first}" if self.first == self.last else f"layers {self.numbers}"

    @property
    def numbers(self) -> str:
        """Return "3" or "4–9"."""
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


@dataclass(frozen=True)
class Node:
    """The flow through a column at a row; row 0 is at the tokens.

    Attributes:
        row: The row, from the tokens up.
        column: The column, from the left.
        flow: Share of the whole flow, 0 to 1.
        x: Its middle.
        y: Its height.
        width: Its width.
    """

    row: int
    column: int
    flow: float
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Link:
    """The flow from a column above a layer to one below it.

    Attributes:
        band: Index in `FlowPicture.bands`.
        query: Column of its upper end.
        key: Column of its lower end.
        flow: Share of the whole flow, 0 to 1.
        top: Middle of its upper end.
        bottom: Middle of its lower end.
        width: Its width at both ends.
    """

    band: int
    query: int
    key: int
    flow: float
    top: float = 0.0
    bottom: float = 0.0
    width: float = 0.0


@dataclass(frozen=True)
class FlowPicture:
    """The places of all that is drawn of a flow.

    Attributes:
        names: Name of each column, with its place where several have the same.
        labels: The same, cut to fit.
        centres: Middle of each column.
        labelled: Columns whose names have space, from the left.
        slanted: True where they only fit slanted.
        bands: Layers between two rows, from the tokens up.
        heights: Height of each row, from the tokens up.
        nodes: All nodes with flow.
        links: The drawn links, of each layer the largest last.
        width: Width of the picture.
        height: Height of the picture.
        drawn: Share of the flow that the drawn links carry, the mean over bands.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    centres: tuple[float, ...]
    labelled: tuple[int, ...]
    slanted: bool
    bands: tuple[Layers, ...]
    heights: tuple[float, ...]
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    width: float
    height: float
    drawn: float

    def outline(self, link: Link) -> tuple[Curve, Curve]:
        """Return both sides of a link between its nodes, the left one down and the right one up."""
        y0 = self.heights[link.band + 1] + NODE_HEIGHT / 2
        y1 = self.heights[link.band] - NODE_HEIGHT / 2
        across, half, row = link.bottom - link.top, link.width / 2, y1 - y0
        # The sides turn at different heights: a slanted link would else be thin in its middle.
        slant = min(1.0, abs(across) / row) * (1 if across > 0 else -1)
        turn = slant * min(half, row / 4)
        middle = (y0 + y1) / 2
        down, up = middle + turn, middle - turn
        a, b, c, d = link.top - half, link.bottom - half, link.bottom + half, link.top + half
        return ((a, y0), (a, down), (b, down), (b, y1)), ((c, y1), (c, up), (d, up), (d, y0))

    def row_labels(self, row_of_type: float) -> list[tuple[float, str]]:
        """Return the decision and as many layers as there is height for, each with its middle.

        Args:
            row_of_type: Height that a line of type needs, in points.
        """
        step = -int(-len(self.bands) * row_of_type // self.height)
        labels = [(self.heights[-1], "decision")]
        for i, layers in enumerate(self.bands):
            middle = (self.heights[i] + self.heights[i + 1]) / 2
            # The middle of the uppermost layer is too near to the decision where rows are low.
            if i % step == 0 and middle - self.heights[-1] >= row_of_type:
                labels.append((middle, layers.numbers if step > 1 else layers.name))
        return labels

    def about_node(self, node: Node) -> str:
        """Return a node in words."""
        place = "at the tokens"
        if node.row == len(self.bands):
            place = "at the decision"
        elif node.row:
            place = f"above layer {self.bands[node.row - 1].last}"
        return f"{self.names[node.column]}, {place}: {format_percent(node.flow)} of the flow"

    def about_link(self, link: Link) -> str:
        """Return a link in words."""
        ends = f"{self.names[link.query]} → {self.names[link.key]}"
        return f"{ends}, {self.bands[link.band].name}: {format_percent(link.flow)} of the flow"


def flow_picture(
    attribution: AttributionData,
    granularity: str,
    *,
    keep: float,
    size: tuple[float, float],
    fold: bool = True,
    most: int | None = None,
) -> FlowPicture:
    """Place the nodes and links of a flow.

    Args:
        attribution: A result with edges.
        granularity: "token" or "word".
        keep: Share of each layer's flow that its drawn links hold at least, above 0 up to 1.
        size: Width and height of the picture.
        fold: True folds runs of layers in each of which at most 1 % of the flow crosses from one
            column to another.
        most: Number of links to draw at most, if need be less than `keep`.

    Raises:
        InputError: There are no edges, nothing flows, or an argument is out of its range.
    """
    if not isinstance(keep, Real) or isinstance(keep, bool) or not 0 < keep <= 1:
        raise InputError(f"keep must be a share above 0 and at most 1, got {shown(keep)}.")
    if attribution.edges is None:
        raise InputError("there are no edges to draw the flow from: explain with edges=True.")
    if not has_flow(attribution):
        raise InputError("there is no flow to draw: no path leads from the decision to a token.")
    pieces = join_template_tokens(attribution, pieces_of(attribution, granularity))
    edges = _summed(attribution.edges, [piece.tokens[0] for piece in pieces])
    edges = edges / edges[-1].sum()
    bands = [Layers(layer + 1, layer + 1) for layer in range(len(edges))]
    if fold:
        edges, bands = _folded(edges)
    limit = None if most is None else max(most // len(edges), 1)
    links = [
        link for band in range(len(edges)) for link in _largest(edges[band], band, keep, limit)
    ]
    return _placed(pieces, edges, bands, links, size)


def _summed(edges: Flows, starts: Sequence[int]) -> Flows:
    """`(layers, g, g)` flows between groups of neighbouring tokens, which begin at `starts`."""
    return np.add.reduceat(np.add.reduceat(edges, starts, axis=1), starts, axis=2)


def _folded(edges: Flows) -> tuple[Flows, list[Layers]]:
    """Return the flows with runs of uncrossed layers composed, and the layers of each."""
    through = node_flow(edges)
    straight = np.trace(edges, axis1=1, axis2=2)
    is_uncrossed = 1 - straight / edges.sum(axis=(1, 2)) <= UNCROSSED
    composed: list[Flows] = []
    bands: list[Layers] = []
    for layer, flows in enumerate(edges):
        if layer and is_uncrossed[layer - 1] and is_uncrossed[layer]:
            # What enters a node leaves it in the proportions of all that leaves it.
            amounts = through[layer][:, None]
            onward = np.divide(composed[-1], amounts, out=np.zeros_like(flows), where=amounts > 0)
            composed[-1], bands[-1] = flows @ onward, Layers(bands[-1].first, layer + 1)
        else:
            composed.append(flows)
            bands.append(Layers(layer + 1, layer + 1))
    return np.stack(composed), bands


def _largest(flows: Flows, band: int, keep: float, limit: int | None) -> list[Link]:
    """Return the largest links of a layer that hold `keep` of it, `limit` at most, largest last."""
    chosen = _chosen(flows, keep)[:limit][::-1]
    query, key = np.divmod(chosen, len(flows))
    found = zip(query.tolist(), key.tolist(), flows.ravel()[chosen].tolist(), strict=True)
    return [Link(band, q, k, flow) for q, k, flow in found]


def _chosen(flows: Flows, keep: float) -> NDArray[np.intp]:
    """Return the flat indices of the largest links that hold `keep` of a layer, largest first."""
    flat = flows.ravel()
    order = np.argsort(-flat, kind="stable")
    # Rounding must not ask for a link more.
    enough = int(np.searchsorted(np.cumsum(flat[order]), keep * flat.sum() * (1 - 1e-12))) + 1
    return order[: min(enough, int((flat > 0).sum()))]


def _placed(
    pieces: Sequence[Piece],
    edges: Flows,
    bands: Sequence[Layers],
    links: Sequence[Link],
    size: tuple[float, float],
) -> FlowPicture:
    """Return the picture of the links in a size."""
    width, height = size
    through = node_flow(edges)
    widest = through.max(axis=0)  # a column has its place in every row
    whole = min(max(LEAST_FLOW, min(MOST_FLOW, width / 11)), FILLED * width / float(widest.sum()))
    linked = {column for link in links for column in (link.query, link.key)}
    names, labels = _names(pieces)
    widths, slanted = _widths(whole * widest, labels, linked, width)
    centres = np.cumsum(widths) - widths / 2
    heights = [height * (1 - row / len(edges)) for row in range(len(edges) + 1)]
    return FlowPicture(
        names=names,
        labels=labels,
        centres=tuple(centres.tolist()),
        labelled=_labelled(widest, centres, linked, slanted=slanted),
        slanted=slanted,
        bands=tuple(bands),
        heights=tuple(heights),
        nodes=_nodes(through, centres, heights, whole),
        links=tuple(_with_ends(links, centres, whole)),
        width=width,
        height=height,
        drawn=sum(link.flow for link in links) / len(edges),
    )


def _names(pieces: Sequence[Piece]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the columns, with their places, and the same cut to fit."""
    named = [(as_name(piece.name), piece.place) for piece in pieces]
    labels = (beginning(name, LONGEST) + place for name, place in named)
    return tuple(name + place for name, place in named), tuple(labels)


def _widths(
    nodes: Flows, labels: Sequence[str], linked: Set[int], width: float
) -> tuple[Flows, bool]:
    """Return the width of each column, and whether labels only fit slanted.

    Args:
        nodes: Width of each column's widest node.
        labels: The columns' labels.
        linked: Columns with drawn links.
        width: Width of the picture.
    """
    needed = np.maximum(nodes, [LETTER * columns(label) for label in labels]) + GAP
    slanted = bool(needed.sum() > width)
    if slanted:
        weights = np.where([c in linked for c in range(len(labels))], 1.0, UNLINKED)
        return nodes + (width - nodes.sum()) * weights / weights.sum(), slanted
    return needed + (width - needed.sum()) / len(labels), slanted


def _nodes(
    through: Flows, centres: Flows, heights: Sequence[float], whole: float
) -> tuple[Node, ...]:
    """Return all nodes with flow; `whole` is the width of the whole flow."""
    return tuple(
        Node(row, column, flow, float(centres[column]), heights[row], whole * flow)
        for row, flows in enumerate(through.tolist())
        for column, flow in enumerate(flows)
        if flow > 0
    )


def _labelled(widest: Flows, centres: Flows, linked: Set[int], *, slanted: bool) -> tuple[int, ...]:
    """Return the columns whose labels fit: a slanted one takes its place from all weaker ones."""
    # First those whose links are drawn.
    order = sorted(range(len(centres)), key=lambda c: (c not in linked, -widest[c], c))
    labelled: list[int] = []
    for column in order:
        away = (abs(centres[other] - centres[column]) for other in labelled)
        if not slanted or all(distance >= SLANT_PITCH for distance in away):
            labelled.append(column)
    return tuple(sorted(labelled))


def _with_ends(links: Sequence[Link], centres: Flows, whole: float) -> list[Link]:
    """Return the links with their widths and ends, side by side at each node."""
    tops, bottoms = defaultdict(list), defaultdict(list)
    for link in links:
        tops[link.band, link.query].append(link)
        bottoms[link.band, link.key].append(link)
    top = _side_by_side(tops, centres, whole, by="key")
    bottom = _side_by_side(bottoms, centres, whole, by="query")
    return [
        replace(link, top=top[link], bottom=bottom[link], width=whole * link.flow) for link in links
    ]


def _side_by_side(
    ends: dict[tuple[int, int], list[Link]], centres: Flows, whole: float, *, by: str
) -> dict[Link, float]:
    """Return the middle of each link's end, in the order of where the links of a node lead."""
    places = {}
    for (_, column), links in ends.items():
        x = float(centres[column]) - whole * sum(link.flow for link in links) / 2
        for link in sorted(links, key=lambda each: getattr(each, by)):
            places[link] = x + whole * link.flow / 2
            x += whole * link.flow
    return places
