"""Ways to remove nodes from a content. None is neutral: a model never saw such inputs in training.

    mask           [MASK] instead of each token, or without such a token the neutral one of
                   `inputs.batching.neutral_token`; a grey patch
    delete         a text closed up; an image without the patches' tokens, the others in place
    pad            [PAD] instead of each token, which no other token attends to
    pad-attended   the same, attended like any word: the code of AttCAT
    darkest        patches as dark as the image's darkest pixel

Hase et al. (2021) find masking and hidden attention the least unusual of five; AttCAT and its
successors delete. A method that removes nodes in the way it is judged by has an advantage, so
report at least two operators.
"""

from collections.abc import Callable
from functools import partial

from attnflow.errors import InputError, shown
from attnflow.methods import Instance, Nodes, Variant

Removal = Callable[[Instance, Nodes], Variant]


def _removed(operator: str, instance: Instance, nodes: Nodes) -> Variant:
    operators = instance.adapter.operators
    if operator not in operators:
        raise InputError(
            f"operator {shown(operator)} is not for {instance.adapter.kind}: expected one of "
            f"{', '.join(operators)}."
        )
    return operators[operator](instance.content, nodes)


OPERATORS: dict[str, Removal] = {
    name: partial(_removed, name) for name in ("mask", "delete", "pad", "pad-attended", "darkest")
}
