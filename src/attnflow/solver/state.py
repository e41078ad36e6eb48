"""What the solver's iterations hand to each other: a problem, a point, a step, what passes find.

Read next: `passes`, which computes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from attnflow.solver.chain import Chain

EDGES_IN_CACHE = 2**16  # edges that plain passes look at together
UNBOUNDED = 1e100  # stands for an infinite capacity, in units of the scale
TO_BOUNDARY = 0.99  # of the way to the nearest bound, at most
CORRECTOR_WEIGHTS = (1.0, 0.5, 0.25, 0.1, 0.0)


@dataclass(frozen=True)
class Problem:
    """Scaled capacities `u` `(batch, edges)`, 0 where there is no edge; final `mu` `(batch,)`; and
    the number of edges `m` `(batch,)`."""

    u: Tensor
    mu: Tensor
    m: Tensor


@dataclass
class Point:
    """An iterate. Edges `(batch, edges)`; potentials `(batch, nodes)`.

    `lower` and `upper` are the multipliers z of flow >= 0 and v of slack >= 0. `carry` holds what
    is lost when `potential` is rounded: slack edges live on differences of potentials many decades
    below 1, and without it gaps under 1e-3 end in rounding noise.
    """

    flow: Tensor
    slack: Tensor
    lower: Tensor
    upper: Tensor
    potential: Tensor
    carry: Tensor

    def spans(self, chain: Chain) -> Iterator[tuple[range, tuple[Tensor, ...]]]:
        """Views of flow, slack, lower and upper, flat, for one run of blocks after the other."""
        arrays = (self.flow, self.slack, self.lower, self.upper)
        for span in chain.spans(EDGES_IN_CACHE // len(self.flow)):
            yield span, tuple(array[:, chain.edges_of(span)] for array in arrays)


@dataclass
class Step:
    """Where to go from a point. `(batch, nodes)` steps of the potentials, `(batch,)` the rest.

    `affine` aims at `mu`, `direction` at `target` less `theta` times the affine step's products.
    """

    mu: Tensor
    affine: Tensor
    direction: Tensor
    target: Tensor
    theta: Tensor
    primal: Tensor
    dual: Tensor


@dataclass
class Linearised:
    """What Newton's equations need at a point, and how far that is from the optimum.

    `weight` `(batch, edges)`. Of nodes, `(batch, nodes)`: what enters minus what leaves of the
    flow (`balance`), of w d (`pull`) and of w (1/f - 1/s) (`push`); and the weight that enters and
    leaves (`inward`, `outward`). Of problems, `(batch,)`: the sum of f z + s v, and the two largest
    residuals.
    """

    weight: Tensor
    balance: Tensor
    pull: Tensor
    push: Tensor
    inward: Tensor
    outward: Tensor
    products: Tensor
    centrality: Tensor
    stationarity: Tensor


@dataclass
class Ahead:
    """The full affine step seen from a point, `(batch,)` each; `correction` `(batch, nodes)`.

    `primal` and `dual` are the largest parts of a distance to a bound that it would use up. After
    steps a and b the sum of products is `products + b dual_slope + a primal_slope + a b bend`.
    `correction` is the imbalance of the second-order terms.
    """

    primal: Tensor
    dual: Tensor
    primal_slope: Tensor
    dual_slope: Tensor
    bend: Tensor
    correction: Tensor


class Outcome(IntEnum):
    """Why a problem's loop ended."""

    CONVERGED = 0
    LIMIT = 1
    STUCK = 2
    BLOCKED = 3
