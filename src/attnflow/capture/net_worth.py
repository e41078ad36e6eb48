"""Capacities that are net at every node: what enters a node adds up to what the node is worth.

Let E be the signed effects of a layer, residual edges among them. Node j is worth the sum of its
readers' effects,

    r[j] = sum_i E[i, j],    C[i, j] = relu(E[i, j]) * relu(r[j]) / sum_i relu(E[i, j])

So nothing enters a node that is worth nothing on balance, and no more than its worth enters any
other. Clipping edge by edge, as `cf` does, forgets what cancels: a node whose readers speak for and
against in equal parts keeps all that speaks for it. In deep decoders the first token, on which
attention rests where nothing else is wanted, is such a node. Where no effect is negative C is E.

Source: ours; docs/method.md derives it. Read next: staged.py.
"""

from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from attnflow.capture.capture import Capture, Effects, captured
from attnflow.capture.families import family_of
from attnflow.capture.recorder import ProductRules, Sharing
from attnflow.capture.stacking import balanced, with_passthrough


def product_rules(model: PreTrainedModel, pattern: Sharing | None = None) -> ProductRules:
    """Return the backward rules of the tensor `net`: gates are shared, the pattern as asked.

    Args:
        model: The model.
        pattern: None: shared where the model's queries and keys are seen, frozen where it computes
            attention itself.
    """
    if pattern is None:
        family = family_of(getattr(model, "_orig_mod", model))
        pattern = "shared" if family is None or family.probabilities is None else "frozen"
    return ProductRules(pattern, gates="shared")


def default_pattern(*, hidden: bool) -> Sharing | None:
    """Return the pattern of `net`, for `product_rules`: stages hide nodes, or replace them.

    What a decoder attends to is most of its decision, and queries and keys need their share of it.
    Classifiers of texts and images were explained as well or better with constants. Measured in
    docs/results/language-models.md.
    """
    return None if hidden else "frozen"


def net_capture(effects: Effects) -> Capture:
    """Return the capture whose capacities are net at every node, with every layer of equal weight.

    The effects, of `cf`, are used up: their memory becomes that of the capacities.
    """
    contributions = effects.of_inputs  # before the effects are used up
    capacities = balanced(net_capacities(effects), effects.passthrough)
    return captured(replace(effects, signed=None), capacities, contributions)


def net_capacities(effects: Effects) -> Tensor:
    """`(batch, layers, t, t)` capacities that are net at every node.

    The memory of the signed effects is used for them.
    """
    whole, residual = effects.effects
    # A token's attention to itself and its residual edge join the same two nodes: one edge, so that
    # they may cancel like any other two effects on the node.
    whole.diagonal(dim1=2, dim2=3).add_(residual)
    worth = whole.sum(2)
    positive = whole.relu_()
    enters = positive.sum(2)
    share = worth.relu() / enters.where(enters > 0, 1.0)
    return with_passthrough(positive.mul_(share[:, :, None, :]), effects.passthrough)
