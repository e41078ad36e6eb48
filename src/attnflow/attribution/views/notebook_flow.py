"""The flow for notebooks: an SVG in a few hundred elements, without scripts and styles."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import granularity_of, units
from attnflow.attribution.views.flow_picture import (
    HAIRLINE,
    NODE_HEIGHT,
    Curve,
    FlowPicture,
    Link,
    flow_picture,
)
from attnflow.attribution.views.templates import render

if TYPE_CHECKING:
    from markupsafe import Markup

KEPT = 0.8  # of each layer's flow, where that takes no more links than `MOST`
MOST = 600  # keeps the picture below three hundred kilobytes
WIDTH, LOWEST, HIGHEST, BAND = 620.0, 90.0, 420.0, 46.0  # points; height by the number of layers
LEFT, ABOVE = 80.0, 12.0  # space for the names of layers, and above the decision
UNDER, UNDER_SLANTED = 22.0, 78.0  # space for the names of tokens
THINNEST = 0.35  # a thinner node is left out unless a drawn link ends there
ROW_OF_TYPE = 10.0  # points that a line of type of nine points needs
COLOUR = (222, 106, 36)  # seen on light and dark grounds


@dataclass(frozen=True)
class _Path:
    """A link as the template writes it."""

    path: str
    is_line: bool
    opacity: str
    title: str


@dataclass(frozen=True)
class _Mark:
    """A node, or a label, with its place."""

    x: str
    y: str
    width: str = ""
    title: str = ""
    name: str = ""


def flow_svg(attribution: AttributionData) -> "Markup":
    """Return the picture of a flow as HTML; the attribution has edges with flow."""
    granularity = granularity_of(attribution, None)
    layers = 0 if attribution.edges is None else len(attribution.edges)
    height = min(max(BAND * layers, LOWEST), HIGHEST)
    picture = flow_picture(attribution, granularity, keep=KEPT, size=(WIDTH, height), most=MOST)
    under = UNDER_SLANTED if picture.slanted else UNDER
    return render(
        "notebook_flow.html",
        view=f"{-LEFT:.0f} {-ABOVE:.0f} {WIDTH + LEFT:.0f} {height + ABOVE + under:.0f}",
        spoken=f"The flow through {len(picture.names)} columns and {layers} layers.",
        colour=COLOUR,
        node_height=NODE_HEIGHT,
        rows=[(name, f"{y + 3:.1f}") for y, name in picture.row_labels(ROW_OF_TYPE)],
        links=[_path(picture, link) for link in picture.links],
        nodes=_nodes(picture),
        labels=[
            _Mark(f"{picture.centres[i]:.1f}", f"{height + 13:.1f}", name=picture.labels[i])
            for i in picture.labelled
        ],
        slanted=picture.slanted,
        units=units(attribution)[granularity][1],
        drawn=picture.drawn,
    )


def _path(picture: FlowPicture, link: Link) -> _Path:
    left, right = picture.outline(link)
    is_line = link.width < HAIRLINE
    path = f"M{_curve(left)}" if is_line else f"M{_curve(left)}L{_curve(right)}Z"
    opacity = 0.6 if is_line else 0.35 + 0.45 * link.flow**0.5
    return _Path(path, is_line, f"{opacity:.2f}", picture.about_link(link))


def _curve(curve: Curve) -> str:
    (x, y), *rest = curve
    return f"{x:.1f} {y:.1f}C" + " ".join(f"{a:.1f} {b:.1f}" for a, b in rest)


def _nodes(picture: FlowPicture) -> list[_Mark]:
    ends = {(link.band + 1, link.query) for link in picture.links}
    ends |= {(link.band, link.key) for link in picture.links}
    return [
        _Mark(
            f"{node.x - node.width / 2:.1f}",
            f"{node.y - NODE_HEIGHT / 2:.1f}",
            f"{max(node.width, THINNEST):.1f}",
            picture.about_node(node),
        )
        for node in picture.nodes
        if node.width >= THINNEST or (node.row, node.column) in ends
    ]
