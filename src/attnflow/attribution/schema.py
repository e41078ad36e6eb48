"""The one check of an attribution's fields: of all that is loaded, and of all that is saved.

`data` states the form of every field by itself; here stands what fields state about each other. A
file may come from anyone: what passes here is shown, summed and laid out without another check.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from attnflow.attribution.data import ARRAYS, POSITIONED, AttributionData
from attnflow.attribution.forms import Misfit, described, read_fields

# A layer carries all of a flow, or its mean over the stages that have both ends of an edge. So two
# layers differ by less than the number of stages; this bound only keeps their ratio finite.
MOST_UNEVEN = 1e3
NARROWEST = 1e-3  # pixels that a grid of patches is wide or high at least


@dataclass(frozen=True)
class Relation:
    """A statement of one field about others, in words and as a test."""

    field: str
    expected: str
    holds: Callable[[AttributionData], bool]


def fields_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an attribution from a record of its fields.

    Fields that are missing stay missing: files of schemas 1 to 4 have fewer, and those that came
    later have defaults.

    Raises:
        Misfit: A value has not the form of its field.
    """
    return read_fields(AttributionData, record, {})


def record_of(data: AttributionData) -> dict[str, Any]:
    """Return the fields for `storage`: numpy arrays as they are, else values that JSON holds.

    Arrays that are None are left out.

    Raises:
        Misfit: A value has not the form of its field, or is at odds with another field.
    """
    record = {each.name: getattr(data, each.name) for each in fields(data)}
    record = {name: v for name, v in record.items() if v is not None or name not in ARRAYS}
    record["certificate"] = asdict(data.certificate)
    fields_of(record)
    check_relations(data)
    return record


def check_relations(data: AttributionData) -> None:
    """Raise a `Misfit` where fields, each of its own form, are at odds with each other."""
    for relation in RELATIONS:
        if not relation.holds(data):
            came = described(getattr(data, relation.field))
            raise Misfit(relation.field, relation.expected, came)


def _has_messages(data: AttributionData) -> bool:
    return len(data.message_ids) == (len(data) if data.roles else 0)


def _has_image(data: AttributionData) -> bool:
    if data.regions is not None:
        return data.image is not None and data.grid is None and data.box is None
    return (data.image is None) == (data.grid is None) == (data.box is None)


def _regions_fit(data: AttributionData) -> bool:
    boxes = [region for region in data.regions or () if region is not None]
    are_wide = all(min(x1 - x0, y1 - y0) >= NARROWEST for x0, y0, x1, y1 in boxes)
    return data.regions is None or (bool(boxes) and are_wide)


def _grid_fits(data: AttributionData) -> bool:
    if data.grid is None:
        return True
    leading = int(data.special.sum())
    patches = len(data) - leading
    is_first = bool(data.special[:leading].all())
    return is_first and patches > 0 and data.grid[0] * data.grid[1] == patches


def _box_fits(data: AttributionData) -> bool:
    if data.box is None:
        return True
    left, top, right, bottom = data.box
    return min(right - left, bottom - top) >= NARROWEST


def _position_fits(data: AttributionData) -> bool:
    return data.position is None or data.task in POSITIONED


def _span_fits(data: AttributionData) -> bool:
    return data.span is None or data.position is not None


def _segments_fit(data: AttributionData) -> bool:
    starts = [start for start, _ in data.segments or ()]
    ends = [end for _, end in data.segments or ()]
    return starts == [0, *ends[:-1]][: len(starts)]


def _layers_fit(data: AttributionData) -> bool:
    if data.edges is None:
        return True
    sums = np.array([layer.sum() for layer in data.edges])
    return bool(sums.max() <= MOST_UNEVEN * sums.min())


RELATIONS = (
    Relation("message_ids", "one for each token where there are roles, else none", _has_messages),
    Relation("grid", "image, grid and box, or none of the three; no grid of regions", _has_image),
    Relation("grid", "rows x columns = ordinary tokens, after all special ones", _grid_fits),
    Relation("regions", "some, left < right and top < bottom; or None", _regions_fit),
    Relation("box", "left < right and top < bottom", _box_fits),
    Relation("position", f"None where the task is none of {', '.join(POSITIONED)}", _position_fits),
    Relation("span", "None where position is None", _span_fits),
    Relation("segments", "spans one after the other from 0", _segments_fit),
    Relation("edges", "layers that carry about the same flow", _layers_fit),
)
