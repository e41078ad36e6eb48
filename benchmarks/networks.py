"""Random networks of every kind: the families as they are, and their awkward variants."""

from collections.abc import Callable
from dataclasses import replace

import support_path  # noqa: F401
import torch
from support.random_networks import FAMILIES, random_capacities
from torch import Generator, Tensor

from attnflow.solver.network import LayeredNetwork, layered_network, paper_network

Kind = Callable[[int, Generator], LayeredNetwork]

MOST_LAYERS, MOST_TOKENS, LONGEST = 12, 48, 128
SHARE_OF_LONG = 0.06


def random_network(kind: str, batch: int, seed: int) -> LayeredNetwork:
    """`batch` networks of a kind in `KINDS`, all of one size, drawn with `seed`."""
    return KINDS[kind](batch, Generator().manual_seed(seed))


def _integer(low: int, high: int, generator: Generator) -> int:
    """One of low..high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _uniform(batch: int, generator: Generator) -> Tensor:
    """`(batch, 1, 1, 1)` numbers in [0, 1), one for each network."""
    return torch.rand(batch, 1, 1, 1, generator=generator, dtype=torch.float64)


def _size(generator: Generator) -> dict[str, int]:
    long = float(torch.rand((), generator=generator)) < SHARE_OF_LONG
    t = (
        _integer(MOST_TOKENS + 1, LONGEST, generator)
        if long
        else _integer(1, MOST_TOKENS, generator)
    )
    return {"layers": _integer(1, MOST_LAYERS, generator), "t": t}


def _any_family(generator: Generator) -> str:
    return list(FAMILIES)[_integer(0, len(FAMILIES) - 1, generator)]


def _capacities(family: str, batch: int, generator: Generator, **size: int) -> Tensor:
    return random_capacities(
        family,
        batch=batch,
        seed=_integer(0, 2**31 - 1, generator),
        **(_size(generator) | size),
    )


def _family(name: str) -> Kind:
    return lambda batch, generator: layered_network(_capacities(name, batch, generator))


def _one_token(batch: int, generator: Generator) -> LayeredNetwork:
    return layered_network(_capacities("25 decades", batch, generator, t=1))


def _padded(batch: int, generator: Generator) -> LayeredNetwork:
    """Networks with padding anywhere: some tokens of each are absent, at least one is present."""
    u = _capacities(_any_family(generator), batch, generator)
    t = u.shape[-1]
    present = torch.rand(batch, t, generator=generator).argsort(1) < torch.randint(
        1, t + 1, (batch, 1), generator=generator
    )
    return layered_network(u * present[:, None, :, None] * present[:, None, None, :])


def _masked(batch: int, generator: Generator) -> LayeredNetwork:
    u = _capacities(_any_family(generator), batch, generator)
    share = torch.rand(2, batch, 1, generator=generator)
    sources, sinks = torch.rand(2, batch, u.shape[-1], generator=generator) < share
    return layered_network(u, sources, sinks)


def _finite(batch: int, generator: Generator) -> LayeredNetwork:
    """The paper's finite super-edges and return edge."""
    return paper_network(layered_network(_capacities(_any_family(generator), batch, generator)))


def _empty_layer(batch: int, generator: Generator) -> LayeredNetwork:
    """About half of the networks have a layer without edges."""
    u = _capacities(_any_family(generator), batch, generator)
    at = torch.randint(0, u.shape[1], (batch,), generator=generator)
    empty = torch.rand(batch, generator=generator) < 0.5
    u[torch.arange(batch)[empty], at[empty]] = 0
    return layered_network(u)


def _extreme_units(batch: int, generator: Generator) -> LayeredNetwork:
    network = layered_network(_capacities(_any_family(generator), batch, generator))
    return network.scaled(10 ** (200 * _uniform(batch, generator).flatten() - 100))


def _mixed(batch: int, generator: Generator) -> LayeredNetwork:
    """Batch mates of different families and units."""
    size = _size(generator)
    networks = [_capacities(_any_family(generator), 1, generator, **size) for _ in range(batch)]
    units = 10 ** (40 * _uniform(batch, generator) - 20)
    return layered_network(units * torch.cat(networks))


KINDS: dict[str, Kind] = {
    **{name: _family(name) for name in FAMILIES},
    "one token": _one_token,
    "padding anywhere": _padded,
    "source and sink masks": _masked,
    "finite super-edges": _finite,
    "empty layers": _empty_layer,
    "extreme units": _extreme_units,
    "mixed batches": _mixed,
}


def only(network: LayeredNetwork, index: int) -> LayeredNetwork:
    """One network of a batch, as a batch of one."""
    at = slice(index, index + 1)
    return replace(
        network,
        capacities=network.capacities[at],
        sources=network.sources[at],
        sinks=network.sinks[at],
        super_capacity=network.super_capacity[at],
        return_capacity=network.return_capacity[at],
    )
