"""Which networks of a batch to solve together."""

import torch
from torch import Tensor

EDGES_AT_ONCE = 2**24
PADDING_WORTH_A_GROUP = 2**15


def groups(live: Tensor, most_edges: float) -> list[Tensor]:
    """Indices of networks alike in size, and together small enough for memory.

    A group is padded to its widest rows, and costs some calls, or some for each iteration.
    Networks join while that costs more than their padding. Those without a path are in no group.

    Args:
        live: `(batch, L + 1, t)` bool, the nodes that are on a path.
        most_edges: Of a group of more than one network.
    """
    widths = live.sum(2).cpu()
    edges = _edges(widths)
    found: list[list[int]] = []
    widest, own = torch.zeros_like(widths[0]), 0
    for index in edges.argsort(descending=True, stable=True).tolist():
        size = int(edges[index])
        if size == 0:
            break
        members = len(found[-1]) + 1 if found else 1
        padded = members * int(_edges(torch.maximum(widest, widths[index])))
        crowded, padding = padded > min(EDGES_AT_ONCE, most_edges), padded - own - size
        if not found or crowded or padding > PADDING_WORTH_A_GROUP:
            found.append([])
            widest, own = torch.zeros_like(widest), 0
        found[-1].append(index)
        widest, own = torch.maximum(widest, widths[index]), own + size
    return [torch.tensor(members, device=live.device) for members in found]


def _edges(widths: Tensor) -> Tensor:
    """Edges of chains whose rows of tokens have these widths `(..., L + 1)`; 0 without a path."""
    inner = (widths[..., 1:] * widths[..., :-1]).sum(-1)
    whole = inner + widths[..., 0] + widths[..., -1] + 1
    return torch.where(widths[..., 0] > 0, whole, 0)
