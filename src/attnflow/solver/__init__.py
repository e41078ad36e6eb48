"""Maximum flow through layered networks: knows torch and networks, and nothing of language.

Read `maximum_flow`, then the loop's parts in `interior_point`, `block_tridiagonal` and `start`;
for why the answer can be believed, `certificate`.
"""

from attnflow.solver.flow import Flow as Flow
from attnflow.solver.flow import Status as Status
from attnflow.solver.maximum_flow import maximum_flow as maximum_flow
