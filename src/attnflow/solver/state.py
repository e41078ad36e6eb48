"""The values that the solver's iterations hand to each other: problem, point, step, pass results.

Read next: `edge_passes`, which computes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from attnflow.solver.chain import Chain

# Plain passes look at so many edges together: more for each call, and few enough for the cache.
EDGES_IN_CACHE = 2**16
# Stands for an infinite capacity, in units of the scale. Slack, multiplier and products of such an
# edge follow the same formulas as everywhere; its square is still within float64.
UNBOUNDED = 1e100
# A step goes at most this part of the way to the nearest bound, so that the point stays strictly
# inside it. Nocedal & Wright, section 14.2, take 0.9 to 1.
TO_BOUNDARY = 0.99
# Weights of the second-order term, of which the one with the longest step is taken. In full it can
# point out of the feasible set on ill-centred edges and stall; 0 is the step without it.
CORRECTOR_WEIGHTS = (1.0, 0.5, 0.25, 0.1, 0.0)


@dataclass(frozen=True)
class Problem:
    """A batch of scaled flow problems over one chain.

    Attributes:
        u: `(batch, edges)` capacities in units of the scale, 0 where there is no edge.
        mu: `(batch,)` final barrier weight.
        m: `(batch,)` number of edges.
    """

    u: Tensor
    mu: Tensor
    m: Tensor


@dataclass(frozen=True)
class StoppingCriteria:
    """Conditions that end an iteration.

    Attributes:
        residual: Largest residual of a solved problem.
        max_iterations: Most factorisations for a problem.
        trial_steps: A problem is blocked that takes a step shorter than `shortest_step` among
            this many first ones.
        shortest_step: Part of the direction, 0 to 1.
    """

    residual: float
    max_iterations: int
    trial_steps: int = 0
    shortest_step: float = 0.0


@dataclass
class Point:
    """An iterate. Edges `(batch, edges)`; potentials `(batch, nodes)`.

    `lower` and `upper` are the multipliers z of flow >= 0 and v of slack >= 0. `carry` holds what
    is lost when `potential` is rounded. Slack edges live on differences of potentials many decades
    below 1, and without it gaps under 1e-3 end in rounding noise.
    """

    flow: Tensor
    slack: Tensor
    lower: Tensor
    upper: Tensor
    potential: Tensor
    carry: Tensor

    def chunks(self, chain: Chain) -> Iterator[tuple[range, tuple[Tensor, ...]]]:
        """Yield views of flow, slack, lower and upper, flat, for one chunk of blocks at a time."""
        arrays = (self.flow, self.slack, self.lower, self.upper)
        for chunk in chain.chunks(EDGES_IN_CACHE // len(self.flow)):
            yield chunk, tuple(array[:, chain.edges_of(chunk)] for array in arrays)


@dataclass
class Step:
    """A step from a point: directions `(batch, nodes)` of the potentials, the rest `(batch,)`.

    `affine` aims at `mu`, `direction` at `target` less `theta` times the affine step's products.
    The point moves `primal_length` along the direction's flows and `dual_length` along its
    potentials and multipliers.
    """

    mu: Tensor
    affine: Tensor
    direction: Tensor
    target: Tensor
    theta: Tensor
    primal_length: Tensor
    dual_length: Tensor


@dataclass
class Linearisation:
    """Newton's equations at a point, and its distance from the optimum.

    Attributes:
        weight: `(batch, edges)` w, conductances of the Laplacian.
        balance, pull, push: `(batch, nodes)` sum over the edges that enter a node minus that over
            those that leave it, of the flow, of w d, and of w (1/f - 1/s).
        inward, outward: `(batch, nodes)` sum of w over the edges that enter, and that leave.
        products: `(batch,)` sum of f z + s v over the edges.
        centrality, stationarity: `(batch,)` the two largest residuals, as in `Flow`.
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
class Prediction:
    """The full affine step seen from a point, `(batch,)` each; `correction` `(batch, nodes)`.

    `primal_rate` and `dual_rate` are the largest parts of a distance to a bound that it would use
    up, of flows and slacks and of multipliers. After steps of lengths a and b the sum of products
    is `products + a primal_slope + b dual_slope + a b bilinear`. `correction` is the imbalance of
    the second-order terms.
    """

    primal_rate: Tensor
    dual_rate: Tensor
    primal_slope: Tensor
    dual_slope: Tensor
    bilinear: Tensor
    correction: Tensor


class Outcome(IntEnum):
    """Outcome of the compiled loop for one network."""

    CONVERGED = 0
    LIMIT = 1
    STUCK = 2
    BLOCKED = 3
