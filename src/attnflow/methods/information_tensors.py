"""Candidates for the information tensor: capacities, one (t, t) matrix a layer, of one instance.

Those of the paper, `cf` and `bcf` are `capture`'s, with the same inputs as in an explanation. The
others sum heads before the clipping or not at all, add residual edges, or weigh edges by the
vectors that they carry. Or they change what is explained, where on the way from the masked text the
gradient is taken, and how layers compare. `docs/results` measures what each is worth. Read next:
`readouts`, which turns them into scores.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnflow.capture import REMOVED, Capture, Objective, balanced, capture, staged_capture
from attnflow.capture.families import conservative_family, watch_residual_stream
from attnflow.capture.objectives import SCALARS
from attnflow.capture.private_copy import private_copy
from attnflow.capture.stacking import with_passthrough
from attnflow.methods.attention import residual_attention
from attnflow.methods.decomposition import edge_contributions, edge_norms
from attnflow.methods.instance import Instance
from attnflow.methods.lrp import edge_relevance
from attnflow.methods.model_internals import forward, internals


@dataclass(frozen=True)
class SignedEffects:
    """Effects of edges on the explained number, some of them negative.

    Attributes:
        attention: `(layers, t, t)` effects of attention edges, as [l, query, key].
        residual: `(layers, t)` effects of residual edges; None where there are none. They run next
            to the attention edge of a token to itself, and are clipped on their own.
        passthrough: `(layers, t)` bool, true at nodes that a layer of an encoder-decoder passes on
            as they are; None in a model of one stack.
        source: The only node of the top row where a flow may begin; None where all may.
    """

    attention: Tensor
    residual: Tensor | None = None
    passthrough: Tensor | None = None
    source: int | None = None

    @property
    def total(self) -> Tensor:
        """`(layers, t, t)` effects of attention and residual edges together."""
        return self._from_source(_joined(self.attention, self.residual))

    @property
    def capacities(self) -> Tensor:
        """`(layers, t, t)` capacities: the positive effects."""
        residual = None if self.residual is None else self.residual.relu()
        # Clipped apart, as two edges are: a negative effect of one takes nothing from the other.
        positive = _joined(self.attention.relu(), residual)[None]
        return self._from_source(with_passthrough(positive, self.passthrough)[0])

    @property
    def negated(self) -> "SignedEffects":
        """The effects with all signs changed."""
        residual = None if self.residual is None else -self.residual
        return replace(self, attention=-self.attention, residual=residual)

    def scaled(self, factor: Tensor) -> "SignedEffects":
        """Return the effects with every layer times its factor, `(layers,)`."""
        residual = None if self.residual is None else self.residual * factor[:, None]
        attention = self.attention * factor[:, None, None]
        return replace(self, attention=attention, residual=residual)

    def with_source(self, node: int) -> "SignedEffects":
        """Return the effects with one node of the top row as the only source."""
        return replace(self, source=node)

    def _from_source(self, edges: Tensor) -> Tensor:
        if self.source is None:
            return edges
        # Last of all: what a layer passes through depends on the rows that are cut here.
        edges = edges.clone()
        edges[-1] *= (torch.arange(edges.shape[-1]) == self.source)[:, None]
        return edges


def _joined(attention: Tensor, residual: Tensor | None) -> Tensor:
    return attention if residual is None else attention + torch.diag_embed(residual)


InformationTensorMethod = Callable[[Instance], SignedEffects]


def captured(name: str) -> InformationTensorMethod:
    """Return the tensor of that name in `capture`: "af", "gf" or "agf"."""

    def tensor(instance: Instance) -> SignedEffects:
        model = instance.adapter.model
        row = capture(model, instance.inputs, objective_of(instance), tensor=name)
        # In float64, as the solver computes.
        return SignedEffects(row.capacities[0].double().cpu(), passthrough=_passthrough(row))

    return tensor


@dataclass(frozen=True)
class ConservativeEffects:
    """Frozen effects of attention and residual edges, mean over points on the way from the mask.

    Attributes:
        points: From 1 / points of the way to the whole of it, the content itself.
        explained: A name of `objectives.SCALARS`, the instance's own when None.
    """

    points: int = 1
    explained: str | None = None

    def __call__(self, instance: Instance) -> SignedEffects:
        instance = _explaining(instance, self.explained)
        model, objective = instance.adapter.model, objective_of(instance)
        rows = [_effects(capture(model, inputs, objective)) for inputs in self._inputs(instance)]
        attention = torch.stack([row.attention for row in rows]).mean(0)
        residual = torch.stack([row.residual for row in rows if row.residual is not None]).mean(0)
        return replace(rows[0], attention=attention, residual=residual)

    def _inputs(self, instance: Instance) -> list[dict[str, Tensor]]:
        """The model's inputs at each point."""
        if self.points == 1:  # the content itself, which an encoder-decoder reads too
            return [instance.inputs]
        whole, masked = instance.point, instance.baseline
        ways = [k / self.points for k in range(1, self.points + 1)]
        return [instance.adapter.inputs_at(torch.lerp(masked, whole, way)) for way in ways]


def conservative(points: int = 1, explained: str | None = None) -> InformationTensorMethod:
    """Return the tensor of `ConservativeEffects`, which an instance keeps in its cache."""
    # The dataclass is the key of the cache: all readouts of one tensor share its passes.
    effects = ConservativeEffects(points, explained)
    return lambda instance: instance.cached(effects)


@dataclass(frozen=True)
class StagedEffects:
    """`cf`'s effects, mean over stages of removal, as `capture.staged_capture` measures them.

    Attributes:
        removed: Shares of the tokens that are removed in each stage but the first.
        explained: A name of `objectives.SCALARS`, the instance's own when None.
    """

    removed: tuple[float, ...] = REMOVED
    explained: str | None = None

    def __call__(self, instance: Instance) -> SignedEffects:
        instance = _explaining(instance, self.explained)
        return _effects(
            staged_capture(
                instance.adapter.model,
                instance.inputs,
                instance.neutral,
                objective_of(instance),
                removed=self.removed,
            )
        )


def staged(
    removed: tuple[float, ...] = REMOVED, explained: str | None = None
) -> InformationTensorMethod:
    """Return the tensor of `StagedEffects`, which an instance keeps in its cache."""
    effects = StagedEffects(removed, explained)
    return lambda instance: instance.cached(effects)


def _explaining(instance: Instance, explained: str | None) -> Instance:
    return instance if explained is None else replace(instance, explained=explained)


def objective_of(instance: Instance) -> Objective:
    """The number of the model's output that is explained."""
    position = instance.position
    return Objective(
        target=torch.tensor([instance.target]),
        scalar=SCALARS[instance.explained],
        read=instance.adapter.read,
        position=None if position is None else torch.tensor([position]),
    )


def _effects(row: Capture) -> SignedEffects:
    signed, residual = row.effects
    return SignedEffects(signed[0].double().cpu(), residual[0].double().cpu(), _passthrough(row))


def _passthrough(row: Capture) -> Tensor | None:
    return None if row.passthrough is None else row.passthrough.cpu()


def heads_summed(instance: Instance) -> SignedEffects:
    """sum_h A G: heads may cancel."""
    passes = internals(instance)
    return SignedEffects((passes.attention * passes.gradient).sum(1).double())


def heads_absolute(instance: Instance) -> SignedEffects:
    """mean_h |A G|."""
    passes = internals(instance)
    return SignedEffects((passes.attention * passes.gradient).abs().mean(1).double())


def attention_and_residual(instance: Instance) -> SignedEffects:
    """0.5 A + 0.5 I, as in rollout."""
    return SignedEffects(residual_attention(forward(instance)).double())


def effects_and_residual(instance: Instance) -> SignedEffects:
    """sum_h A G and, on the diagonal, <dy/dz_i, x_i>, of the model as it is."""
    model = private_copy(instance.adapter.model)
    stream = watch_residual_stream(model, conservative_family(model))
    adapter = instance.adapter.on(model)
    value = instance.value(adapter.logits(instance.point.requires_grad_()))[0]
    gradients = torch.autograd.grad(value, stream.outputs)
    pairs = zip(gradients, stream.streams, strict=True)
    residual = torch.stack([(g * x).sum(-1)[0] for g, x in pairs]).cpu()
    return SignedEffects(heads_summed(instance).attention, residual.double())


def norms(instance: Instance) -> SignedEffects:
    """Length of what an edge adds to the sum that the first norm takes, the token's own included.

    Source: Kobayashi et al. (2020).
    """
    return SignedEffects(edge_norms(instance).double())


def contributions(instance: Instance) -> SignedEffects:
    """ALTI's contributions, rows of sum 1."""
    return SignedEffects(edge_contributions(instance).double())


def gated_contributions(instance: Instance) -> SignedEffects:
    """ALTI's contributions where the frozen effect is positive, times its size."""
    effects = conservative()(instance).capacities
    return SignedEffects(edge_contributions(instance).double() * effects)


def relevances(instance: Instance) -> SignedEffects:
    """TransAtt's edges: mean_h relu(G times the relevance of A)."""
    return SignedEffects(edge_relevance(instance).double())


def head_weighted(instance: Instance) -> SignedEffects:
    """relu(A G) summed over heads, each weighed by its share of the layer's total."""
    passes = internals(instance)
    heads = (passes.attention * passes.gradient).relu().double()
    total = heads.sum((2, 3), keepdim=True)
    share = total / total.sum(1, keepdim=True).clamp(min=1e-300)  # 0, not NaN, without effects
    return SignedEffects((heads * share).sum(1))


def layer_balanced(tensor: InformationTensorMethod) -> InformationTensorMethod:
    """Return the tensor with every layer scaled to capacity 1, as `bcf` is by `capture.balanced`.

    Negative effects of a layer are scaled with its positive ones, for readouts that need signs.
    """

    def scaled(instance: Instance) -> SignedEffects:
        effects = tensor(instance)
        before = effects.capacities
        after = balanced(before[None], effects.passthrough)[0]
        if effects.passthrough is not None:
            # What is passed through is what arrives, whatever the layer's factor.
            scalable = ~effects.passthrough[:, :, None]
            before, after = before * scalable, after * scalable
        totals = before.sum((1, 2))
        # A layer without capacity stays as it is.
        return effects.scaled(after.sum((1, 2)) / totals.where(totals > 0, 1.0))

    return scaled


def powered(tensor: InformationTensorMethod, power: float) -> InformationTensorMethod:
    """Return the positive part to a power, which narrows its range."""

    def tensor_to_power(instance: Instance) -> SignedEffects:
        effects = tensor(instance)
        return SignedEffects(effects.capacities**power, passthrough=effects.passthrough)

    return tensor_to_power


INFORMATION_TENSORS: dict[str, InformationTensorMethod] = {
    "af": captured("af"),
    "gf": captured("gf"),
    "agf": captured("agf"),
    "agf-sum": heads_summed,
    "agf-abs": heads_absolute,
    "agf-heads": head_weighted,
    "af-res": attention_and_residual,
    "agf-res": effects_and_residual,
    "relevance": relevances,
    "norm": norms,
    "alti": contributions,
    "cf-alti": gated_contributions,
    "cf": conservative(),
    "cf-logit": conservative(1, "logit"),
    "cf-balanced": layer_balanced(conservative()),
    "cf2-balanced": layer_balanced(conservative(2)),
    "cf4": conservative(4),
    "cf4-logit": conservative(4, "logit"),
    "cf4-balanced": layer_balanced(conservative(4)),
    "cf8-balanced": layer_balanced(conservative(8)),
    "cf-staged": staged(),
    "bcf": layer_balanced(staged()),
    "bcf-logit": layer_balanced(staged(explained="logit")),
    "bcf2": layer_balanced(staged((0.2,))),
    "bcf3": layer_balanced(staged((0.15, 0.35))),
    "bcf4-later": layer_balanced(staged((0.1, 0.25, 0.5))),
    "bcf6": layer_balanced(staged((0.1, 0.2, 0.3, 0.4, 0.5))),
    "cf-root": powered(conservative(), 0.5),
}
