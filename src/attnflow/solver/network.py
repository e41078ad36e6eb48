"""Layered flow networks: capacities between rows of tokens, a source above and a target below.

A network has rows 0..L of t nodes. Row 0 holds the input tokens. Edge (l+1, query) -> (l, key)
has capacity `capacities[b, l, query, key]`. A super-source feeds nodes of row L, and nodes of row 0
drain into a super-target. A return edge closes the circulation. Capacity 0 means "no edge", so
padding needs no second mechanism, and no flat node index exists outside `edge_list`.

The super-edges and the return edge are uncapacitated by default. The paper gives them the finite
capacities t and |u|_1, which "must never bind"; infinite ones cannot, and make the answer exactly
homogeneous in the capacities. `paper_network` builds the paper's form for parity.

Source: Azarkhalili & Libbrecht (2025), "Generalized Attention Flow", Algorithms 1 and 2.
Read next: `attnflow.solver`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnflow.checks import check_dense
from attnflow.errors import InputError, shown


@dataclass(frozen=True, eq=False)
class LayeredNetwork:
    """A batch of layered networks; `layered_network` builds one from capacities alone.

    Each number is checked when a network is made: a solver that meets NaN would find no path.

    Attributes:
        capacities: `(batch, layers, t, t)` float64, finite, >= 0; layer 0 next to the inputs;
            query, then key.
        sources: `(batch, t)` bool, the nodes of the top row that the super-source feeds.
        sinks: `(batch, t)` bool, the nodes of the bottom row that drain into the super-target.
        super_capacity: `(batch,)` float64 > 0, capacity of each super-edge; infinite by default.
        return_capacity: `(batch,)` float64 > 0, capacity of the return edge; infinite by default.
    """

    capacities: Tensor
    sources: Tensor
    sinks: Tensor
    super_capacity: Tensor
    return_capacity: Tensor

    def __post_init__(self) -> None:
        """Raise an `InputError` unless all is as described above."""
        check_dense("capacities", self.capacities)
        if self.capacities.dtype != torch.float64:
            raise InputError(
                f"the capacities of a LayeredNetwork must be float64, got {self.capacities.dtype}; "
                "use layered_network, which takes any real numbers."
            )
        _check_graph("capacities", self.capacities)
        _check_shape(self.capacities)
        largest_capacity(self.capacities)
        batch, _, t, _ = self.capacities.shape
        for name in ("sources", "sinks"):
            _check_part(name, getattr(self, name), torch.bool, (batch, t))
        for name in ("super_capacity", "return_capacity"):
            part = getattr(self, name)
            _check_part(name, part, torch.float64, (batch,))
            if not (part > 0).all():
                raise InputError(f"{name} must be > 0, got {shown(part.tolist())}.")

    def scaled(self, factor: float | Tensor) -> "LayeredNetwork":
        """The same networks, every capacity times `factor` > 0, one number or `(batch,)`.

        Raises:
            InputError: The factor is not finite or not > 0, there is another number of them, or a
                total capacity leaves float64.
        """
        factors = one_for_each("factor", factor, self.capacities)
        if not (torch.isfinite(factors) & (factors > 0)).all():
            raise InputError(f"factor must be finite and > 0, got {shown(factors.tolist())}.")
        total, narrowest = self.capacities.sum((1, 2, 3)), row_bound(self)
        # A network with a row whose capacities have all vanished would come back empty.
        vanished = (narrowest > 0) & (narrowest * factors < torch.finfo(factors.dtype).tiny)
        lost = torch.isinf(total * factors) | vanished
        if lost.any():
            raise InputError(
                "factor must leave the sum of each row of capacities inside float64, got "
                f"{factors[lost][0].item():.3g} for {narrowest[lost][0].item():.3g} in the "
                f"narrowest and {total[lost][0].item():.3g} in all."
            )
        return replace(
            self,
            capacities=self.capacities * factors[:, None, None, None],
            super_capacity=self.super_capacity * factors,
            return_capacity=self.return_capacity * factors,
        )


def layered_network(
    capacities: Tensor | np.ndarray[Any, Any],
    sources: Tensor | np.ndarray[Any, Any] | None = None,
    sinks: Tensor | np.ndarray[Any, Any] | None = None,
) -> LayeredNetwork:
    """Check capacities given by the user and build networks from them.

    Args:
        capacities: `(batch, layers, t, t)`, any real dtype, finite, >= 0.
        sources: `(batch, t)` or `(t,)` bool over the top row; all when None.
        sinks: `(batch, t)` or `(t,)` bool over the bottom row; all when None.

    Raises:
        InputError: A wrong number of axes, a matrix that is not square, an empty axis, a number
            that is not finite or is negative, a sum that float64 cannot hold, or masks of another
            shape or dtype.
    """
    dense = _real_tensor(capacities)
    _check_shape(dense)
    # A copy even of float64, so that the caller may change the tensor afterwards.
    dense = dense.to(torch.float64, copy=True)
    batch, _, t, _ = dense.shape
    infinite = dense.new_full((batch,), math.inf)
    return LayeredNetwork(
        capacities=dense,
        sources=_mask(sources, "sources", batch, t, dense.device),
        sinks=_mask(sinks, "sinks", batch, t, dense.device),
        super_capacity=infinite,
        return_capacity=infinite,
    )


def check_network(network: Any) -> None:
    """Check that an argument is a `LayeredNetwork`.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(network, LayeredNetwork):
        raise InputError(
            f"network must be a LayeredNetwork, got {type(network).__name__}: make one of "
            "capacities by layered_network."
        )


def paper_network(network: LayeredNetwork) -> LayeredNetwork:
    """The networks with the paper's finite super-edges, for parity with its program.

    Super-edges get capacity t, or where t could bind (gradients are not bounded by 1) twice the
    largest total capacity of a node that they meet. The return edge gets the 1-norm of all others.

    Raises:
        InputError: It is no `LayeredNetwork`.
    """
    check_network(network)
    u, t = network.capacities, network.capacities.shape[-1]
    # No more than this passes a super-edge, so that t, or twice it, never binds.
    through = torch.maximum(u[:, -1].sum(-1).amax(1), u[:, 0].sum(-2).amax(1))
    super_capacity = torch.where(through <= t, torch.full_like(through, float(t)), 2 * through)
    super_edges = (network.sources.sum(-1) + network.sinks.sum(-1)) * super_capacity
    return replace(
        network,
        super_capacity=super_capacity,
        return_capacity=u.sum((1, 2, 3)) + super_edges,
    )


def paper_gamma(network: LayeredNetwork) -> Tensor:
    """`(batch,)` the paper's factor 10^(-floor(log10 of the smallest positive capacity)).

    It only rescales mu: `network.scaled(gamma)` with barrier weight `gamma * mu` has `gamma` times
    the flow of `network` with `mu`. A network without positive capacities gets 1.

    Raises:
        InputError: It is no `LayeredNetwork`.
    """
    check_network(network)
    smallest = network.capacities.masked_fill(network.capacities <= 0, math.inf).amin((1, 2, 3))
    gamma = 10.0 ** (-torch.floor(torch.log10(smallest))).clamp(max=300)
    return torch.where(torch.isinf(smallest), torch.ones_like(gamma), gamma)


def live_edges(network: LayeredNetwork) -> Tensor:
    """`(batch, layers, t, t)` bool, true at the edges that lie on a path from source to target.

    A strictly interior flow exists only on these (a dead end must carry 0). One sweep down and one
    up are enough, because the layers have no cycles.
    """
    edge = network.capacities > 0
    layers = edge.shape[1]
    fed = network.sources
    for layer in reversed(range(layers)):
        edge[:, layer] &= fed[:, :, None]
        fed = edge[:, layer].any(1)
    drained = network.sinks
    for layer in range(layers):
        edge[:, layer] &= drained[:, None, :]
        drained = edge[:, layer].any(2)
    return edge


def pruned(network: LayeredNetwork) -> LayeredNetwork:
    """The networks without the edges, sources and sinks that no path uses; no copy of full ones.

    Raises:
        InputError: It is no `LayeredNetwork`.
    """
    check_network(network)
    live = live_edges(network)
    # A dense network, as attention gives, is not copied: it may fill most of the memory.
    full = live.sum() == network.capacities.count_nonzero()
    return replace(
        network,
        capacities=network.capacities if full else network.capacities * live,
        sources=live[:, -1].any(2),
        sinks=live[:, 0].any(1),
    )


def row_bound(network: LayeredNetwork) -> Tensor:
    """`(batch,)` U, the smallest total capacity of a row of edges: no flow is larger."""
    return network.capacities.sum((2, 3)).amin(1)


def _real_tensor(capacities: Any) -> Tensor:
    if isinstance(capacities, Tensor):
        dense = capacities.detach()
    elif isinstance(capacities, np.ndarray) and capacities.dtype.kind in "fiub":
        dense = torch.from_numpy(np.array(capacities, dtype=np.float64))
    else:
        kind = getattr(capacities, "dtype", type(capacities).__name__)
        raise InputError(
            f"capacities must be a torch tensor or numpy array of real numbers, got {kind}."
        )
    check_dense("capacities", dense)
    if dense.device.type == "mps":
        raise InputError(
            "capacities must not be on an mps device, which has no float64: use .cpu()."
        )
    if dense.is_complex():
        raise InputError(f"capacities must be real numbers, got {dense.dtype}.")
    return dense


def _check_part(name: str, part: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    check_dense(name, part)
    if part.dtype != dtype or tuple(part.shape) != shape:
        raise InputError(
            f"{name} of a LayeredNetwork must be {dtype} of shape {shape}, got {part.dtype} of "
            f"shape {tuple(part.shape)}."
        )
    _check_graph(name, part)


def _check_graph(name: str, part: Tensor) -> None:
    if part.requires_grad:
        raise InputError(f"{name} must not require a gradient, which no flow has: use .detach().")


def as_float64(name: str, value: Any, device: torch.device) -> Tensor:
    """Return a number or a tensor of numbers in float64, without its graph."""
    if isinstance(value, Tensor):
        check_dense(name, value)
        value = value.detach()
    if isinstance(value, Tensor | np.ndarray) and "complex" in str(value.dtype):
        raise InputError(f"{name} must be real, got {value.dtype}.")
    try:
        return torch.as_tensor(value, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{name} must be a number that a float holds, got {shown(value)}."
        ) from error


def one_for_each(name: str, value: Any, networks: Tensor) -> Tensor:
    """Return `(batch,)` numbers in float64, from one for all networks or one for each.

    Raises:
        InputError: There is another number of them, or they are none.
    """
    batch = len(networks)
    numbers = as_float64(name, value, networks.device)
    if numbers.shape not in ((), (batch,)):
        raise InputError(
            f"{name} must be one number or one for each of the {batch} networks, "
            f"got shape {tuple(numbers.shape)}."
        )
    return numbers.expand(batch)


def _check_shape(dense: Tensor) -> None:
    shape = tuple(dense.shape)
    if dense.ndim != 4:
        add_axis = " For a single network, add the batch axis: capacities[None]."
        hint = add_axis if dense.ndim == 3 else ""
        raise InputError(
            f"capacities must have 4 axes (batch, layers, t, t), got {dense.ndim}: {shape}.{hint}"
        )
    if shape[2] != shape[3]:
        raise InputError(
            f"capacities must be square in the last two axes (query, key), got {shape}."
        )
    if 0 in shape:
        raise InputError(f"capacities must not be empty: every axis needs a length, got {shape}.")


def largest_capacity(dense: Tensor) -> Tensor:
    """Return the largest of a batch's capacities.

    Raises:
        InputError: One is not finite or is negative, or a network's sum overflows.
    """
    # One pass over what is mostly valid; a number that is none becomes both of these.
    least, largest = torch.aminmax(dense)
    if not (torch.isfinite(least) & torch.isfinite(largest)):
        bad = (~torch.isfinite(dense)).nonzero()[0].tolist()
        raise InputError(
            f"capacities must be finite, got {dense[tuple(bad)].item()} at {bad} (batch, layer, "
            "query, key). A model in half precision often overflows; use float32."
        )
    if least < 0:
        bad = (dense < 0).nonzero()[0].tolist()
        raise InputError(
            f"capacities must be >= 0, got {dense[tuple(bad)].item()} at {bad} (batch, layer, "
            "query, key). Clip a signed tensor first: capacities.clip(min=0)."
        )
    # A sum is computed only where it may be too large.
    edges = dense[0].numel()
    if largest > torch.finfo(dense.dtype).max / edges and not dense.sum((1, 2, 3)).isfinite().all():
        raise InputError(
            f"the capacities of a network add up to more than {torch.finfo(dense.dtype).max:.0e}, "
            "the largest float64: divide them all by one number, by which the flow is less."
        )
    return largest


def _mask(mask: Any, name: str, batch: int, t: int, device: torch.device) -> Tensor:
    if mask is None:
        return torch.ones(batch, t, dtype=torch.bool, device=device)
    try:
        row = torch.as_tensor(mask, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} must be a boolean mask, got {type(mask).__name__} {shown(mask)}."
        ) from error
    check_dense(name, row)
    if row.dtype != torch.bool:
        raise InputError(f"{name} must be a boolean mask, got {row.dtype}.")
    if row.shape not in ((t,), (batch, t)):
        raise InputError(
            f"{name} must have shape ({t},) or ({batch}, {t}) like a row of nodes, "
            f"got {tuple(row.shape)}."
        )
    return row.expand(batch, t).clone()
