"""Names of the rows of the arrays that the compiled passes share.

numba knows arrays and tuples, and no dataclasses. What the plain form keeps in the fields of a
`Linearisation`, a `Prediction` or a `Step` lies here in the rows of one array. These are their
indices, which the compiler replaces by numbers.
"""

# Numbers of the nodes, `(rows, nodes)`: a point's potentials, and directions from there.
POTENTIAL, CARRY, AFFINE, DIRECTION, CORRECTION = range(5)
# Sums at the nodes, `(rows, nodes)`, as the fields of `Linearisation`; and before the entering and
# leaving weights are told apart, the sum of either in one row.
BALANCE, PULL, PUSH, INWARD, OUTWARD = range(5)
TOTAL = INWARD
# Numbers of a linearisation: the first two are largest values, the last a sum.
CENTRALITY, STATIONARITY, PRODUCTS = range(3)
# Numbers of a prediction: the first two are largest values, the others sums.
PRIMAL_RATE, DUAL_RATE, PRIMAL_SLOPE, DUAL_SLOPE, BILINEAR = range(5)
# The rates of full steps with each weight of the second-order term, `(kinds, weights)`.
PRIMAL, DUAL = range(2)
# First columns of the tables of rows of nodes, in `elimination.layout` and `start.balance_rows`.
WIDTH, PADDED_WIDTH = range(2)
