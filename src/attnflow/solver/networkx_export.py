"""Export of a network to networkx, for inspection."""

import networkx

from attnflow.checks import is_integer
from attnflow.errors import InputError, shown
from attnflow.solver.edge_list import circulation
from attnflow.solver.network import LayeredNetwork, check_network


def to_networkx(
    network: LayeredNetwork, index: int = 0, *, algorithm: int = 1
) -> "networkx.DiGraph[int]":
    """Return one network of the batch as a circulation, the way the paper writes it.

    Nodes are numbered as in the paper, t * (L + 1) + 2 in all. The super-target is 0; then come the
    tokens row by row from the input row; the super-source is last. Nodes carry `row` and `token`
    (None at the super-nodes), edges carry `capacity` and `weight` (cost: -1 on the return edge,
    else 0).

    Args:
        network: Prune it first to see only what the solver keeps.
        index: Which network of the batch.
        algorithm: 1, from the output down to the tokens, or 2, the same with every edge reversed.

    Raises:
        InputError: Another `algorithm`, or `index` outside the batch.

    Source: Algorithms 1 and 2 of the paper.
    """
    check_network(network)
    if not is_integer(algorithm) or algorithm not in (1, 2):
        raise InputError(f"algorithm must be 1 or 2, got {shown(algorithm)}.")
    if not is_integer(index) or not 0 <= index < len(network.capacities):
        raise InputError(
            f"index must be an integer in 0..{len(network.capacities) - 1} (the batch), got "
            f"{shown(index)}."
        )
    graph = networkx.DiGraph()
    _add_nodes(graph, network)
    edges, nodes = circulation(network, index), graph.number_of_nodes()
    # The paper counts from the target; the list's last node comes first here.
    tails, heads = (edges.tails + 1) % nodes, (edges.heads + 1) % nodes
    listed = zip(tails.tolist(), heads.tolist(), edges.capacities.tolist(), strict=True)
    graph.add_weighted_edges_from(listed, weight="capacity")
    networkx.set_edge_attributes(graph, 0.0, "weight")
    graph.edges[0, nodes - 1]["weight"] = -1.0
    return graph if algorithm == 1 else graph.reverse(copy=True)


def _add_nodes(graph: "networkx.DiGraph[int]", network: LayeredNetwork) -> None:
    rows, t = network.capacities.shape[1] + 1, network.capacities.shape[-1]
    graph.add_node(0, row=None, token=None)
    graph.add_nodes_from(
        (1 + row * t + token, {"row": row, "token": token})
        for row in range(rows)
        for token in range(t)
    )
    graph.add_node(1 + rows * t, row=None, token=None)
