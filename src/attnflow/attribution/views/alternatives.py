"""The choices that a model had: the likeliest ones, and the explained one, for a list of them."""

from dataclasses import dataclass

import numpy as np

from attnflow.attribution.data import AttributionData


@dataclass(frozen=True)
class Alternative:
    """A class, token or answer that the model could choose."""

    label: str
    probability: float
    explained: bool
    contrasted: bool


def likeliest(attribution: AttributionData, count: int) -> list[Alternative]:
    """Return so many of the likeliest alternatives; none where there was no choice.

    The explained one is among them however improbable it is.
    """
    if len(attribution.labels) == 1:
        return []
    probabilities = attribution.probabilities
    order = np.argsort(-probabilities, kind="stable").tolist()[:count]
    if attribution.target not in order:
        order.append(attribution.target)
    return [
        Alternative(
            attribution.labels[i],
            float(probabilities[i]),
            explained=i == attribution.target,
            contrasted=i == attribution.against,
        )
        for i in order
    ]
