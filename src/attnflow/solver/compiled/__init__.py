"""The solver's heavy parts, compiled for the processor at hand by numba: twins of the plain ones.

Same functions as `edge_passes` and `block_tridiagonal`, which state the formulas, and which they
are tested against. Here an edge is read once a pass, and all that needs it is done while it is in a
register. That is some twenty times faster, and less easy to read, which is why nothing else in the
solver is written this way.

`edges` holds what they share, `iteration` and `start` the passes; `elimination` factors, by the
`products` of panels. `primal_dual` calls all of them for one network from start to end, on arrays
whose rows `row_names` names; `threads` shares the passes. `compile_notice` warns
when the first solve waits for the compiler.
"""

from attnflow.solver.compiled.compile_notice import announce
from attnflow.solver.compiled.elimination import factor
from attnflow.solver.compiled.iteration import advance, linearise, predict, try_corrections
from attnflow.solver.compiled.primal_dual import iterate
from attnflow.solver.compiled.start import balance_rows, centred_point, gather_bins
from attnflow.solver.compiled.threads import use_threads

__all__ = [
    "advance",
    "balance_rows",
    "centred_point",
    "factor",
    "gather_bins",
    "iterate",
    "linearise",
    "predict",
    "try_corrections",
    "use_threads",
]

announce()
