"""Grouping of a batch's networks into those that are solved together."""

import torch
from torch import Tensor

EDGES_AT_ONCE = 2**24  # most of a group: by then calls cost nothing next to arithmetic
# A further group costs about as much as passes over this many edges that do not exist. Measured:
# smaller values are slower, larger ones level (docs/solver-log.md).
PADDING_WORTH_A_GROUP = 2**15


def groups(live: Tensor, max_edges: float) -> list[Tensor]:
    """Indices of networks alike in size, and together small enough for memory.

    A group is padded to its widest rows, and costs some calls, or some for each iteration.
    Networks join while that costs more than their padding. Those without a path are in no group.

    Args:
        live: `(batch, L + 1, t)` bool, the nodes that are on a path.
        max_edges: Most edges of a group of more than one network.
    """
    widths = live.sum(2).cpu()
    edges = _edges(widths)
    grouped: list[list[int]] = []
    widest, unpadded = torch.zeros_like(widths[0]), 0
    # From the largest down, so that what a group is padded to is known from its first member.
    for index in edges.argsort(descending=True, stable=True).tolist():
        size = int(edges[index])
        if size == 0:
            break
        members = len(grouped[-1]) + 1 if grouped else 1
        padded = members * int(_edges(torch.maximum(widest, widths[index])))
        crowded = padded > min(EDGES_AT_ONCE, max_edges)
        padding = padded - unpadded - size
        if not grouped or crowded or padding > PADDING_WORTH_A_GROUP:
            grouped.append([])
            widest, unpadded = torch.zeros_like(widest), 0
        grouped[-1].append(index)
        widest, unpadded = torch.maximum(widest, widths[index]), unpadded + size
    return [torch.tensor(members, device=live.device) for members in grouped]


def _edges(widths: Tensor) -> Tensor:
    """Edges of chains whose rows of tokens have these widths `(..., L + 1)`; 0 without a path."""
    between_rows = (widths[..., 1:] * widths[..., :-1]).sum(-1)
    all_edges = between_rows + widths[..., 0] + widths[..., -1] + 1
    return torch.where(widths[..., 0] > 0, all_edges, 0)
