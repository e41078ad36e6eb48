"""Maximum flow through layered networks: knows torch and networks, and nothing of language.

The solver works on flat arrays of edges, and most of its time goes into passes over them. The same
algorithm stands here in three forms; `backend.kernels_for` chooses, by device and size:

| form | files | runs |
|---|---|---|
| plain torch | `interior_point`, `edge_passes`, `block_tridiagonal` | on a GPU, or without numba |
| compiled passes | `interior_point` with `compiled` | fewer large networks than threads |
| compiled loop | `compiled.primal_dual` | all other networks on a processor, a thread for each |

The plain form states the formulas, and the others are tested against it.
`benchmarks/solver_forms.py` prints the seconds of each; docs/solver.md has them, and why all three
stay.

Read `maximum_flow`, then the loop's parts in `interior_point`, `block_tridiagonal` and
`starting_point`; for why the answer can be believed, `certificate`.
"""

from attnflow.solver.flow import Flow as Flow
from attnflow.solver.flow import Status as Status
from attnflow.solver.flow import joined as joined
from attnflow.solver.maximum_flow import check_accuracy as check_accuracy
from attnflow.solver.maximum_flow import maximum_flow as maximum_flow
