"""Ways to remove nodes from a content. None is neutral: a model never saw such in training.

    mask           [MASK] in the place of each token, or where there is none the neutral token of
                   `batches.neutral_token`; a grey patch
    delete         a text closed up; an image without the patches' tokens, where the others stay
    pad            [PAD] in the place of each token, which no other token attends to
    pad-attended   the same, attended like any word: the code of AttCAT
    darkest        patches as dark as the image's darkest pixel

Hase et al. (2021) find masking and hidden attention the least unusual of five; deletion is what
the lineage of the paper uses. A method that removes nodes in the same way as it is judged by has
an advantage: report at least two.
"""

from collections.abc import Callable
from functools import partial

from attnflow.errors import InputError
from attnflow.methods import Instance, Nodes, Variant

Removal = Callable[[Instance, Nodes], Variant]


def _removed(operator: str, instance: Instance, nodes: Nodes) -> Variant:
    known = instance.adapter.operators
    if operator not in known:
        raise InputError(
            f"operator {operator!r} is not for {instance.adapter.kind}: expected one of "
            f"{', '.join(known)}."
        )
    return known[operator](instance.content, nodes)


OPERATORS: dict[str, Removal] = {
    name: partial(_removed, name) for name in ("mask", "delete", "pad", "pad-attended", "darkest")
}
