"""Candidates for the information tensor: capacities, one (t, t) matrix a layer, from one instance.

Those of the paper and `cf` are `capture`'s. The others take heads together before the clipping or
without, add residual edges, weigh edges by the vectors that they carry, or change what is
explained, where on the way from the masked text the gradient is taken, and how layers compare.
`docs/results` says what each is worth. Read next: `readings`, for what is made of them.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnflow.capture import REMOVED, Capture, Objective, capture, staged_capture
from attnflow.capture.families import conservative_family, watch_residual_stream
from attnflow.capture.objectives import SCALARS
from attnflow.methods.attention import residual_attention
from attnflow.methods.decomposition import edge_nearness, edge_norms
from attnflow.methods.instance import Instance
from attnflow.methods.lrp import edge_relevance
from attnflow.methods.model_internals import forward, internals


@dataclass(frozen=True)
class Signed:
    """Effects on what is explained, some of them negative: of attention `(layers, t, t)`, and of
    residual edges `(layers, t)`, which run beside an attention edge and are clipped on their own.
    """

    attention: Tensor
    residual: Tensor | None = None

    @property
    def effects(self) -> Tensor:
        """`(layers, t, t)` of both."""
        return self._joined(self.attention, self.residual)

    @property
    def positive(self) -> Tensor:
        """`(layers, t, t)` capacities."""
        return self._joined(self.attention.relu(), _relu(self.residual))

    @property
    def opposite(self) -> "Signed":
        """With all signs changed."""
        return Signed(-self.attention, None if self.residual is None else -self.residual)

    def times(self, factor: Tensor) -> "Signed":
        """Every layer times its factor, `(layers,)`."""
        residual = None if self.residual is None else self.residual * factor[:, None]
        return Signed(self.attention * factor[:, None, None], residual)

    def begun_at(self, node: int) -> "Signed":
        """With no other node than this in the top row."""
        only = torch.arange(self.attention.shape[-1]) == node
        attention, residual = self.attention.clone(), self.residual
        attention[-1] *= only[:, None]
        if residual is not None:
            residual = residual.clone()
            residual[-1] *= only
        return Signed(attention, residual)

    @staticmethod
    def _joined(attention: Tensor, residual: Tensor | None) -> Tensor:
        return attention if residual is None else attention + torch.diag_embed(residual)


def _relu(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.relu()


def _captured(name: str) -> Callable[[Instance], Signed]:
    def tensor(instance: Instance) -> Signed:
        model, objective = instance.adapter.model, _objective(instance)
        found = capture(model, instance.inputs, objective, tensor=name)
        return Signed(found.capacities[0].double().cpu())

    return tensor


@dataclass(frozen=True)
class ConservativeEffects:
    """Frozen effects of attention and residual edges, mean over points on the way from the mask.

    Attributes:
        points: From 1 / points of the way to the whole of it, the text itself.
        explained: A name of `objectives.SCALARS`, the instance's own when None.
    """

    points: int = 1
    explained: str | None = None

    def __call__(self, instance: Instance) -> Signed:
        instance = _explaining(instance, self.explained)
        adapter, objective = instance.adapter, _objective(instance)
        whole, masked = instance.point, instance.baseline
        parts = []
        for k in range(1, self.points + 1):
            inputs = adapter.inputs_at(torch.lerp(masked, whole, k / self.points))
            parts.append(_effects(capture(adapter.model, inputs, objective)))
        attention, residual = (torch.stack(effects).mean(0) for effects in zip(*parts, strict=True))
        return Signed(attention, residual)


def conservative(points: int = 1, explained: str | None = None) -> Callable[[Instance], Signed]:
    """Return the tensor of `ConservativeEffects`, which an instance keeps in its cache."""
    effects = ConservativeEffects(points, explained)
    return lambda instance: instance.cached(effects)


def _explaining(instance: Instance, explained: str | None) -> Instance:
    return instance if explained is None else replace(instance, explained=explained)


def _objective(instance: Instance) -> Objective:
    """Return the number of the model's output that is explained."""
    position = instance.position
    return Objective(
        target=torch.tensor([instance.target]),
        scalar=SCALARS[instance.explained],
        read=instance.adapter.read,
        position=None if position is None else torch.tensor([position]),
    )


def _effects(found: Capture) -> tuple[Tensor, Tensor]:
    signed, residual = found.effects
    return signed[0].double().cpu(), residual[0].double().cpu()


@dataclass(frozen=True)
class StagedEffects:
    """`cf`'s effects, mean over stages of removal, as `capture.staged_capture` measures them.

    Attributes:
        removed: Shares of the tokens that are gone in each stage but the first.
        explained: A name of `objectives.SCALARS`, the instance's own when None.
    """

    removed: tuple[float, ...] = REMOVED
    explained: str | None = None

    def __call__(self, instance: Instance) -> Signed:
        instance = _explaining(instance, self.explained)
        found = staged_capture(
            instance.adapter.model,
            instance.inputs,
            instance.neutral,
            _objective(instance),
            removed=self.removed,
        )
        return Signed(*_effects(found))


def staged(
    removed: tuple[float, ...] = REMOVED, explained: str | None = None
) -> Callable[[Instance], Signed]:
    """Return the tensor of `StagedEffects`, which an instance keeps in its cache."""
    effects = StagedEffects(removed, explained)
    return lambda instance: instance.cached(effects)


def heads_summed(instance: Instance) -> Signed:
    """sum_h A G: heads may cancel."""
    found = internals(instance)
    return Signed((found.attention * found.gradient).sum(1).double())


def heads_absolute(instance: Instance) -> Signed:
    """mean_h |A G|."""
    found = internals(instance)
    return Signed((found.attention * found.gradient).abs().mean(1).double())


def attention_and_residual(instance: Instance) -> Signed:
    """0.5 A + 0.5 I, as rollout has it."""
    return Signed(residual_attention(forward(instance)).double())


def effects_and_residual(instance: Instance) -> Signed:
    """sum_h A G and, on the diagonal, <dy/dz_i, x_i>, of the model as it is."""
    model = instance.adapter.model
    with ExitStack() as stack:
        stream = watch_residual_stream(model, conservative_family(model), stack)
        value = instance.value(instance.adapter.logits(instance.point.requires_grad_()))[0]
    gradients = torch.autograd.grad(value, stream.outputs)
    pairs = zip(gradients, stream.streams, strict=True)
    residual = torch.stack([(g * x).sum(-1)[0] for g, x in pairs]).cpu()
    return Signed(heads_summed(instance).attention, residual.double())


def norms(instance: Instance) -> Signed:
    """Length of what an edge adds to the sum behind the first norm, the token's own included."""
    return Signed(edge_norms(instance).double())


def nearness(instance: Instance) -> Signed:
    """ALTI's contributions, rows of sum 1."""
    return Signed(edge_nearness(instance).double())


def gated_nearness(instance: Instance) -> Signed:
    """ALTI's contributions where the frozen effect is positive, times its size."""
    effects = conservative()(instance).positive
    return Signed(edge_nearness(instance).double() * effects)


def relevances(instance: Instance) -> Signed:
    """TransAtt's edges: mean_h relu(G times the relevance of A)."""
    return Signed(edge_relevance(instance).double())


def head_weighted(instance: Instance) -> Signed:
    """relu(A G) summed over heads, each weighed by its share of the layer's total."""
    found = internals(instance)
    each = (found.attention * found.gradient).relu().double()
    total = each.sum((2, 3), keepdim=True)
    return Signed((each * total / total.sum(1, keepdim=True).clamp(min=1e-300)).sum(1))


def balanced(tensor: Callable[[Instance], Signed]) -> Callable[[Instance], Signed]:
    """Every layer's positive part scaled to sum 1."""

    def scaled(instance: Instance) -> Signed:
        found = tensor(instance)
        return found.times(1 / found.positive.sum((1, 2)).clamp(min=1e-300))

    return scaled


def powered(tensor: Callable[[Instance], Signed], power: float) -> Callable[[Instance], Signed]:
    """The positive part to a power, which tames its range."""
    return lambda instance: Signed(tensor(instance).positive ** power)


TENSORS: dict[str, Callable[[Instance], Signed]] = {
    "af": _captured("af"),
    "gf": _captured("gf"),
    "agf": _captured("agf"),
    "agf-sum": heads_summed,
    "agf-abs": heads_absolute,
    "agf-heads": head_weighted,
    "af-res": attention_and_residual,
    "agf-res": effects_and_residual,
    "relevance": relevances,
    "norm": norms,
    "alti": nearness,
    "cf-alti": gated_nearness,
    "cf": conservative(),
    "cf-logit": conservative(1, "logit"),
    "cf-balanced": balanced(conservative()),
    "cf2-balanced": balanced(conservative(2)),
    "cf4": conservative(4),
    "cf4-logit": conservative(4, "logit"),
    "cf4-balanced": balanced(conservative(4)),
    "cf8-balanced": balanced(conservative(8)),
    "cf-staged": staged(),
    "bcf": balanced(staged()),
    "bcf-logit": balanced(staged(explained="logit")),
    "bcf2": balanced(staged((0.2,))),
    "bcf3": balanced(staged((0.15, 0.35))),
    "bcf4-later": balanced(staged((0.1, 0.25, 0.5))),
    "bcf6": balanced(staged((0.1, 0.2, 0.3, 0.4, 0.5))),
    "cf-root": powered(conservative(), 0.5),
}
