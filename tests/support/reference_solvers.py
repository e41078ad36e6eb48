"""Independent answers: a Newton method on the primal program in 50 digits, CVXPY, and exact flows.

None of it shares code or algorithm with the package. Edges are listed one by one.
"""

import warnings

import cvxpy
import igraph
import mpmath
import numpy as np

from attnflow.solver.network import LayeredNetwork, pruned
from attnflow.solver.networkx_export import to_networkx


class Program:
    """min c'f - mu sum [log f + log(u - f)], B'f = 0, of one network, as the paper writes it."""

    def __init__(self, network: LayeredNetwork, mu: float) -> None:
        graph = to_networkx(pruned(network))
        graph.remove_nodes_from([n for n in list(graph) if graph.degree(n) == 0])
        order = {node: i for i, node in enumerate(graph)}
        self.edges = list(graph.edges)
        self.u = np.array([graph.edges[e]["capacity"] for e in self.edges])
        self.c = np.array([graph.edges[e]["weight"] for e in self.edges])
        self.b = np.zeros((len(self.edges), len(order)))
        for i, (tail, head) in enumerate(self.edges):
            self.b[i, order[tail]] -= 1
            self.b[i, order[head]] += 1
        self.ends = [(order[tail], order[head]) for tail, head in self.edges]
        self.mu = mu
        t, layers = network.capacities.shape[-1], network.capacities.shape[1]
        self.t, self.layers = t, layers

    def dense(self, f: np.ndarray) -> np.ndarray:
        """`(layers, t, t)` flows from flows by edge."""
        flows = np.zeros((self.layers, self.t, self.t))
        for (tail, head), value in zip(self.edges, f, strict=True):
            row, query = divmod(tail - 1, self.t)
            key = (head - 1) % self.t
            if 1 <= row <= self.layers and tail > 0 and head > 0:
                flows[row - 1, query, key] = value
        return flows


def newton(program: Program) -> np.ndarray:
    """Infeasible-start Newton (Boyd & Vandenberghe 10.3) in 50 digits, mu lowered in steps."""
    with mpmath.workdps(50):
        u = [mpmath.mpf(float(x)) for x in program.u]
        total = sum(x for x in u if mpmath.isfinite(x))
        f = [x / 2 if mpmath.isfinite(x) else total for x in u]
        y = mpmath.zeros(program.b.shape[1], 1)
        mu = mpmath.mpf(1)
        while True:
            mu = max(mpmath.mpf(program.mu), mu / 5)
            f, y = _newton_at(program, u, f, y, mu)
            if mu == program.mu:
                return np.array([float(x) for x in f])


def _slopes(program: Program, u: list, f: list, y: mpmath.matrix, mu: mpmath.mpf) -> list:
    """Derivative of the Lagrangian by each edge."""
    return [
        program.c[i] - mu / f[i] + mu / (u[i] - f[i]) + y[head] - y[tail]
        for i, (tail, head) in enumerate(program.ends)
    ]


def _imbalance(program: Program, f: list) -> mpmath.matrix:
    total = mpmath.zeros(program.b.shape[1], 1)
    for x, (tail, head) in zip(f, program.ends, strict=True):
        total[head] += x
        total[tail] -= x
    return total


def _norm(program: Program, u: list, f: list, y: mpmath.matrix, mu: mpmath.mpf) -> mpmath.mpf:
    squares = [x * x for x in _slopes(program, u, f, y, mu)]
    return mpmath.sqrt(sum(squares) + sum(x * x for x in _imbalance(program, f)))


def _newton_step(
    program: Program, u: list, f: list, y: mpmath.matrix, mu: mpmath.mpf
) -> tuple[list, mpmath.matrix]:
    slopes, n = _slopes(program, u, f, y, mu), program.b.shape[1]
    give = [1 / (mu / x**2 + mu / (c - x) ** 2) for x, c in zip(f, u, strict=True)]
    laplacian = [[mpmath.mpf(0)] * n for _ in range(n)]
    for w, (tail, head) in zip(give, program.ends, strict=True):
        laplacian[head][head] += w
        laplacian[tail][tail] += w
        laplacian[head][tail] -= w
        laplacian[tail][head] -= w
    for i in range(n):
        laplacian[0][i] = laplacian[i][0] = mpmath.mpf(int(i == 0))
    right = _imbalance(program, [x - w * g for x, w, g in zip(f, give, slopes, strict=True)])
    right[0] = 0
    dy = mpmath.matrix(_eliminated(laplacian, list(right)))
    df = [
        -w * (g + dy[head] - dy[tail])
        for w, g, (tail, head) in zip(give, slopes, program.ends, strict=True)
    ]
    return df, dy


def _eliminated(rows: list[list], right: list) -> list:
    """Solution of a system that is positive definite, and so needs no pivots."""
    n = len(right)
    for k in range(n):
        for i in range(k + 1, n):
            if ratio := rows[i][k] / rows[k][k]:
                for j in range(k + 1, n):
                    rows[i][j] -= ratio * rows[k][j]
                right[i] -= ratio * right[k]
    for k in reversed(range(n)):
        known = sum(rows[k][j] * right[j] for j in range(k + 1, n))
        right[k] = (right[k] - known) / rows[k][k]
    return right


def _newton_at(
    program: Program, u: list, f: list, y: mpmath.matrix, mu: mpmath.mpf
) -> tuple[list, mpmath.matrix]:
    for _ in range(200):
        before = _norm(program, u, f, y, mu)
        if before < mpmath.mpf("1e-35"):
            return f, y
        df, dy = _newton_step(program, u, f, y, mu)
        length = mpmath.mpf(1)
        while True:
            new_f = [x + length * d for x, d in zip(f, df, strict=True)]
            inside = all(0 < x < c for x, c in zip(new_f, u, strict=True))
            if inside and _norm(program, u, new_f, y + length * dy, mu) < before:
                break
            length /= 2
            assert length > 1e-20, "the reference is stuck"
        f, y = new_f, y + length * dy
    raise AssertionError("the reference did not converge")


def clarabel(program: Program, scale: float) -> tuple[str, np.ndarray | None]:
    """Status and flows by edge of the same program in CVXPY, capacities scaled to values near 1."""
    finite = np.isfinite(program.u)
    u = np.where(finite, program.u / scale, 1.0)
    f = cvxpy.Variable(len(u))
    barrier = cvxpy.sum(cvxpy.log(f)) + cvxpy.sum(cvxpy.log((u - f)[finite]))
    objective = cvxpy.Minimize(program.c @ f - program.mu / scale * barrier)
    problem = cvxpy.Problem(objective, [program.b.T @ f == 0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem.solve(solver=cvxpy.CLARABEL)
    except cvxpy.SolverError:
        return "failed", None
    return problem.status, None if f.value is None else f.value * scale


def exact_maximum(network: LayeredNetwork) -> float:
    """Value of the true maximum flow, by igraph's push-relabel on floats."""
    graph = to_networkx(network)
    source = graph.number_of_nodes() - 1
    edges = [(a, b, d["capacity"]) for a, b, d in graph.edges(data=True) if (a, b) != (0, source)]
    total = network.capacities.sum().item() + 1
    plain = igraph.Graph(n=source + 1, edges=[(a, b) for a, b, _ in edges], directed=True)
    return float(plain.maxflow(source, 0, [min(c, total) for *_, c in edges]).value)
