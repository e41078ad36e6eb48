"""The dictionary of methods: a name, the function that scores, and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

import numpy as np

from attnflow.capture.half_precision import float32_activations
from attnflow.errors import InputError, ModelError, shown
from attnflow.methods import (
    attention,
    decomposition,
    deltatrace,
    flow_routes,
    gradients,
    lrp,
    perturbation,
)
from attnflow.methods.adapter import Scores
from attnflow.methods.information_tensors import INFORMATION_TENSORS
from attnflow.methods.instance import Instance
from attnflow.methods.net import NET_READINGS, NET_TENSORS
from attnflow.methods.readouts import READOUTS, ROW_READOUTS
from attnflow.methods.staged import in_stages


@dataclass(frozen=True)
class Method:
    """A way to score nodes: tokens, or patches.

    Attributes:
        name: Its key in `METHODS`.
        scores: `(t,)` numbers for an instance, larger for nodes that speak more for the class.
        passes: Forward and backward passes of the model, in words.
    """

    name: str
    scores: Callable[[Instance], Scores]
    passes: str


def random(instance: Instance) -> Scores:
    """Return uniform numbers: the control."""
    return np.random.default_rng(instance.seed).random(instance.nodes)


def _tensor_scores(tensor: str, readout: str, instance: Instance) -> Scores:
    edges = INFORMATION_TENSORS[tensor](instance)
    # Tensors keep all rows, for readouts that need them; in an explanation flow begins here alone.
    if instance.position is not None:
        edges = edges.with_source(instance.position)
    if readout in ROW_READOUTS:
        return ROW_READOUTS[readout](edges, attention.readout_row(instance))
    return READOUTS[readout](edges)


_PUBLISHED: dict[str, tuple[Callable[[Instance], Scores], str]] = {
    "random": (random, "none"),
    "raw-attention": (attention.raw_attention, "1 forward"),
    "rollout": (attention.rollout, "1 forward"),
    "attention-flow": (attention.attention_flow, "1 forward"),
    "gradient": (gradients.gradient, "1 backward"),
    "gradient-x-input": (gradients.gradient_x_input, "1 backward"),
    "integrated-gradients": (gradients.integrated_gradients, "50 backward"),
    "smoothgrad": (gradients.smoothgrad, "25 backward"),
    "deeplift": (gradients.deeplift, "1 backward of 2 texts"),
    "deltatrace": (deltatrace.deltatrace, "1 backward of 2 texts"),
    "temperature-scope": (gradients.temperature_scope, "1 backward"),
    "occlusion": (perturbation.occlusion, "1 forward a token"),
    "leave-one-out": (perturbation.leave_one_out, "1 forward a token"),
    "lime": (perturbation.lime, "20 forward a token"),
    "kernel-shap": (perturbation.kernel_shap, "20 forward a token"),
    "partition-shap": (perturbation.partition_shap, "20 forward a token"),
    "attention-gradients": (attention.attention_gradients, "1 backward"),
    "grad-sam": (attention.grad_sam, "1 backward"),
    "cat": (attention.cat, "1 backward"),
    "attcat": (attention.attcat, "1 backward"),
    "chefer": (attention.chefer, "1 backward"),
    "transatt": (lrp.transatt, "1 backward"),
    "information-flow-routes": (flow_routes.information_flow_routes, "1 forward"),
    "alti": (decomposition.alti, "1 forward"),
    "globenc": (decomposition.globenc, "1 forward"),
    "decompx": (decomposition.decompx, "about t forward"),
}

_STAGED = ("attcat", "integrated-gradients", "decompx")  # to see what stages add to others

_SCORERS: dict[str, tuple[Callable[[Instance], Scores], str]] = (
    _PUBLISHED
    | {
        f"staged-{name}": (in_stages(_PUBLISHED[name][0]), f"4 times {_PUBLISHED[name][1]}")
        for name in _STAGED
    }
    | {
        f"{tensor}:{readout}": (partial(_tensor_scores, tensor, readout), "see docs")
        for tensor in INFORMATION_TENSORS
        for readout in (*READOUTS, *ROW_READOUTS)
    }
    | {
        f"{tensor}:{name}": (partial(reading, stages), f"{stages.count} backward")
        for tensor, stages in NET_TENSORS.items()
        for name, reading in NET_READINGS.items()
    }
)


def _named(name: str, scores: Callable[[Instance], Scores], instance: Instance) -> Scores:
    """The scores; a refusal begins with the method's name, which what it calls does not know."""
    try:
        # What is judged is the function that is explained, in half precision too.
        with float32_activations(instance.adapter.model):
            return scores(instance)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error


METHODS: dict[str, Method] = {
    name: Method(name, partial(_named, name, scores), passes)
    for name, (scores, passes) in _SCORERS.items()
}


# Of some 400 pairs of tensor and readout only the default tensor, and those it came from.
DEFAULT = (*_PUBLISHED, "cf:flow", "bcf:flow", "net:flow", "net:signed")


def method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        InputError: There is none.
    """
    if name not in METHODS:
        published, readouts = ", ".join(_PUBLISHED), ", ".join((*READOUTS, *ROW_READOUTS))
        near = get_close_matches(name, METHODS, n=1)
        suggestion = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"there is no method {shown(name)}.{suggestion} Expected one of {published}; or "
            f"TENSOR:READOUT with a tensor of {', '.join(NET_TENSORS)} and a readout of "
            f"{', '.join(NET_READINGS)}, or of {', '.join(INFORMATION_TENSORS)} and {readouts}."
        )
    return METHODS[name]
