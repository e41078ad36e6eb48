"""Entries of families that nobody has entered, found by running a model once, and tested.

A short text of ordinary tokens (or an image of noise) goes through the model once, traced. The
trace gives the names of an entry of `families.py`. It is accepted if effects are conserved at every
node of that text, with the model's biases at 0: what enters a node is what leaves it, and what
leaves the top row is the output. So a part of the residual stream that was missed, a product that
counts twice, or a path between tokens besides attention refuses the entry. Below the first layer
and above the last one no node shows such a path: there gradients of the traced run do.

Source: ours. Read next: residual_trace.py, families.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnflow.capture.capture import Capture, capture
from attnflow.capture.contexts import plain_torch
from attnflow.capture.families import (
    SOFTMAX,
    Family,
    Gate,
    family_of,
    remember_family,
    remembered_family,
)
from attnflow.capture.half_precision import exact_products, float32_activations
from attnflow.capture.objectives import Objective, number
from attnflow.capture.passes import EXPERTS, embedders, pass_options
from attnflow.capture.placement import device_of
from attnflow.capture.private_copy import private_copy
from attnflow.capture.recorder import FROZEN, ProductRules
from attnflow.capture.refusals import unconserved, unfit
from attnflow.capture.residual_trace import TRACED, ResidualSum, Trace, tracing
from attnflow.capture.stacking import expected_calls
from attnflow.capture.validation import check_class, check_weights
from attnflow.capture.weights import HALF, is_plain, pass_dtype
from attnflow.errors import ModelError

LENGTH = 6  # tokens of the text that is run
# Largest difference at a node, of the largest effect: rounding. Weights that a backend has
# quantised are multiplied by the backend, which rounds as it does.
TOLERANCE, QUANTISED_TOLERANCE = 1e-3, 5e-2
# The same of a state that should be another's, whose forward pass alone is rounded.
QUANTISED_SAME = 5e-3

_OUT_OF_MEMORY = (MemoryError, torch.cuda.OutOfMemoryError)  # by the name that torch 2.4 has


def find_family(model: PreTrainedModel) -> Family:
    """Return the model's entry: that of its family, or one found by running the model once.

    An entry that was found is remembered for this model, and captures use it from then on.

    Args:
        model: A transformers model that reads token ids, or pixel values of one fixed size.

    Raises:
        ModelError: No entry was found in which effects are conserved, for the reason given, or
            the model is none that can run.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    check_class(model)
    known = family_of(model) or remembered_family(model)
    if known is None:
        check_weights(model)  # before anything is remembered: they may be loaded later
        known = _found_or_reason(model)
        remember_family(model, known)
    if isinstance(known, str):
        raise ModelError(known)
    return known


def learn_family(model: PreTrainedModel) -> None:
    """Find the model's entry, if there is one; captures that need one state why there is none."""
    with suppress(ModelError):
        find_family(model)


def _found_or_reason(model: PreTrainedModel) -> Family | str:
    """Return the entry of a model, or why none was found."""
    main_input = getattr(model, "main_input_name", "")
    if reason := unfit(model.config, main_input):
        return f"{type(model).__name__} cannot be explained: {reason}"
    try:
        return _found(model)
    except _OUT_OF_MEMORY:
        raise  # which says nothing about the model
    # Whatever a model's own code raises on an example that it was not made for is a reason.
    except Exception as error:
        said = " ".join(str(error).split()).rstrip(".")
        if not isinstance(error, ModelError):
            given = "an image" if main_input == "pixel_values" else "token ids"
            said = f"on {given} alone it raised {type(error).__name__}: {said}".rstrip(": ")
        return (
            f"{type(model).__name__} is of no known family, and its residual stream was not found "
            f"by running it once: {said}. Tensor 'agf', 'gf' or 'af' may work, which need its "
            "attention alone."
        )


def _found(model: PreTrainedModel) -> Family:
    if reason := unconserved(model.config):
        raise ModelError(reason)
    inputs = example_inputs(model)
    with plain_torch(), exact_products():
        trace, output = _traced(model, inputs)
        family = proposed_family(model, trace)
        _check_conserved(model, inputs, family, trace)
        _check_tokens_stay(trace, output)
        return replace(family, positions=_positions(model, inputs))


def example_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return a short text of ordinary tokens, or an image of noise, for a model."""
    config, device = model.config, device_of(model)
    if model.main_input_name == "pixel_values":
        vision = getattr(config, "vision_config", config)
        size, channels = (getattr(vision, name, None) for name in ("image_size", "num_channels"))
        if size is None or channels is None:
            raise ModelError("it reads images of no fixed size: its config states no image_size")
        height, width = (size, size) if isinstance(size, int) else size
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(1, channels, height, width, generator=generator)
        return {"pixel_values": pixels.to(device, pass_dtype(model))}
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if vocabulary is None:
        raise ModelError("its config states no vocab_size, so that it reads no token ids")
    special = {v for k, v in config.to_dict().items() if "token" in k and isinstance(v, int)}
    ordinary = [i for i in range(vocabulary) if i not in special][: 7 * LENGTH]
    ids = torch.tensor(ordinary[:: max(len(ordinary) // LENGTH, 1)][:LENGTH], device=device)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids.flip(1)[:, :-1]
        inputs["decoder_attention_mask"] = torch.ones_like(inputs["decoder_input_ids"])
    return inputs


def _traced(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> tuple[Trace, Any]:
    """Return the trace of a run, and the model's output."""
    copy = private_copy(model, TRACED, EXPERTS).eval()
    with ExitStack() as stack:
        stack.enter_context(float32_activations(copy))
        stack.enter_context(torch.enable_grad())
        trace = stack.enter_context(tracing(copy))
        trace.batch = len(next(iter(inputs.values())))
        for embedder in embedders(copy):
            embedder.register_forward_hook(lambda m, args, output: trace.embedded(output))
        output = copy(**inputs, **pass_options(copy))
    return trace, output


def _check_tokens_stay(trace: Trace, output: Any) -> None:
    """Raise if tokens are mixed below the first layer or above the last, where no node shows it."""
    for stream in trace.first_streams:
        # A token in the middle, so that both of its neighbours would show.
        if _tokens_read(_some_sum(stream[:, -2]), trace.leaves) > 1:
            raise ModelError("tokens are mixed before its first attention, besides attention")
    last = trace.sums[-1]
    # A decision of the whole example may read all of its tokens.
    reads_one = _values(output).ndim == 3
    if reads_one and last and _tokens_read(_some_number(output).sum(), [last.total]) > 1:
        raise ModelError("tokens are mixed after its last attention, besides attention")


def _tokens_read(number: Tensor, sources: Sequence[Tensor]) -> int:
    """Return how many tokens of these `(batch, t, width)` values a number depends on."""
    gradients = torch.autograd.grad(number, sources, allow_unused=True, retain_graph=True)
    sizes = [_token_sizes(gradient) for gradient in gradients if gradient is not None]
    return sum(int((size > TOLERANCE * size.max()).sum()) for size in sizes)


def _token_sizes(gradient: Tensor) -> Tensor:
    """Return the largest number of each token; of patches the second axis is that of channels."""
    return gradient.abs().amax(-1 if gradient.ndim == 3 else 1)


def proposed_family(model: PreTrainedModel, trace: Trace) -> Family:
    """Return the entry that a trace names.

    Raises:
        ModelError: A tensor has no name, or layers are of several kinds.
    """
    if not trace.sums:
        raise ModelError("no attention was seen in it, by transformers' interface or by softmax")
    if 0 < trace.by_softmax < len(trace.sums):
        raise ModelError("it computes a part of its attention by itself")
    expected = expected_calls(model.config) or len(trace.sums)
    if len(trace.sums) != expected:
        raise ModelError(f"attention ran {len(trace.sums)} times in {expected} layers")
    modules = dict(model.named_modules())
    outputs = {id(x) for x in trace.outputs}
    layers = [
        _candidates(modules, trace, outputs, layer, found) for layer, found in enumerate(trace.sums)
    ]
    frequency = Counter(site for candidates in layers for site in {c.site for c in candidates})
    # The site that most layers have: a norm that is none may make another one fit in some.
    chosen = [max(candidates, key=lambda c: frequency[c.site]) for candidates in layers]
    own, cross = _by_kind(model, list(dict.fromkeys(c.site for c in chosen)))
    parallel = {_branch(trace, c) for c in chosen}
    multipliers = {c.factor for c in chosen}
    if len(parallel) > 1 or len(multipliers) > 1:
        raise ModelError("its layers add to the residual stream in different ways")
    factor = multipliers.pop()
    is_shared = any(id(x) not in outputs for c in chosen for x in trace.outputs_of[c.output])
    return Family(
        *own[:2],
        stream=own[2],
        cross=cross,
        probabilities=SOFTMAX if trace.by_softmax else None,
        gates=_gates(modules, trace),
        parallel=parallel.pop(),
        shares_output=is_shared,
        # The number, since an entry of the config with the same one may be another thing.
        multiplier=None if factor == 1.0 else factor,
    )


_Site = tuple[str, str, str]


@dataclass(frozen=True)
class _Candidate:
    """Names of one residual sum.

    Attributes:
        site: Class of the block, output and stream, as in `Family`.
        block: Path of the block.
        output: Path of the module that returns the output.
        factor: The number that o is multiplied by before it is added.
        branches: What is added besides x and o.
    """

    site: _Site
    block: str
    output: str
    factor: float
    branches: tuple[Tensor, ...]


def _candidates(
    modules: Mapping[str, nn.Module],
    trace: Trace,
    outputs: set[int],
    layer: int,
    found: ResidualSum | None,
) -> list[_Candidate]:
    """Return all names of a residual sum, the smallest blocks first.

    `outputs` are the ids of attention's outputs in all layers.
    """
    if found is None:
        raise ModelError(f"nothing was added to the output of attention call {layer}")
    output, factor = trace.unscaled(found.output)
    candidates = []
    for path in trace.returned.get(id(output), ()):
        if not _returns_first(trace, path, outputs):
            continue
        for x in found.others:
            branches = tuple(other for other in found.others if other is not x)
            for block, stream in _entries(trace, path, x):
                site = (type(modules[block]).__name__, path.removeprefix(f"{block}."), stream)
                candidates.append(_Candidate(site, block, path, factor, branches))
    if not candidates:
        raise ModelError(
            f"no module returns what attention call {layer} adds to the residual stream, inside "
            "a module that takes the stream"
        )
    # A block's own argument before that of a module inside it; the innermost output first.
    return sorted(candidates, key=lambda c: (-len(c.block), len(c.site[2])))


def _returns_first(trace: Trace, path: str, outputs: set[int]) -> bool:
    """Return whether a module returns attention's output at the first of its calls in a block."""
    is_output = [id(x) in outputs for x in trace.outputs_of[path]]
    return all(is_output[:: len(is_output) // sum(is_output)])


def _entries(trace: Trace, output: str, x: Tensor) -> list[tuple[str, str]]:
    """Return blocks around a module with the path inside of the module that takes x, "" for it."""
    entries = []
    for taken in trace.taken.get(id(x), ()):
        if output.startswith(f"{taken}."):
            entries.append((taken, ""))
            continue
        block = _common(taken, output)
        if block and block not in (taken, output):
            entries.append((block, taken.removeprefix(f"{block}.")))
    return entries


def _common(first: str, second: str) -> str:
    """Return the path of the smallest module around two."""
    parts = []
    for a, b in zip(first.split("."), second.split("."), strict=False):
        if a != b:
            break
        parts.append(a)
    return ".".join(parts)


def _branch(trace: Trace, chosen: _Candidate) -> str | None:
    """Return the path inside a block to the module that returns its parallel branch, if any."""
    if not chosen.branches:
        return None
    returned = trace.returned.get(id(chosen.branches[0]), ())
    prefix = f"{chosen.block}."
    inside = [path.removeprefix(prefix) for path in returned if path.startswith(prefix)]
    if len(chosen.branches) > 1 or not inside:
        raise ModelError("more than attention and one module is added to the stream at once")
    # The largest module around what computed it: not a dropout, which others may share.
    return [path for path in inside if f"{inside[0]}.".startswith(f"{path}.")][-1]


def _by_kind(model: PreTrainedModel, sites: Sequence[_Site]) -> tuple[_Site, _Site | None]:
    """Join sites with the same paths, and tell self-attention's from cross-attention's."""
    joined: dict[tuple[str, str], list[str]] = {}
    for block, output, stream in sites:
        joined.setdefault((output, stream), []).append(block)
    kinds = [("|".join(dict.fromkeys(b)), *paths) for paths, b in joined.items()]
    if len(kinds) > 1 + getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            "its layers are of several kinds: "
            + ", ".join(f"{block} adds {output}" for block, output, _ in kinds)
        )
    return kinds[0], kinds[1] if len(kinds) > 1 else None


def _gates(modules: Mapping[str, nn.Module], trace: Trace) -> Gate | None:
    if not trace.gates:
        return None
    split = [path.rpartition(".")[::2] for path in sorted(trace.gates)]
    owners = dict.fromkeys(type(modules[owner]).__name__ for owner, _ in split)
    return Gate("|".join(owners), "|".join(dict.fromkeys(name for _, name in split)))


def _check_conserved(
    model: PreTrainedModel, inputs: dict[str, Tensor], family: Family, trace: Trace
) -> None:
    """Raise unless effects are conserved at every node of a copy without biases."""
    copy = without_biases(model)
    remember_family(copy, family)
    objective = Objective(read=number(_some_number))
    tolerance = _tolerance(model)
    for rules in (FROZEN, ProductRules(gates="shared")):
        error, layer = conservation_error(capture(copy, inputs, objective, rules=rules))
        if not error <= tolerance:
            raise ModelError(
                f"effects are not conserved at layer {layer} by the entry {_shown(family)}: they "
                f"differ by {error:.1g} of the largest{_products(copy, trace)}"
            )


def _shown(family: Family) -> str:
    """The entry with what is not usual in it."""
    given = [(f.name, getattr(family, f.name)) for f in fields(family)]
    usual = {f.name: f.default for f in fields(family)}
    return f"Family({', '.join(f'{k}={v!r}' for k, v in given if v != usual[k])})"


def _tolerance(model: nn.Module) -> float:
    return TOLERANCE if all(map(is_plain, model.parameters())) else QUANTISED_TOLERANCE


def _products(model: nn.Module, trace: Trace) -> str:
    names = sorted({type(model.get_submodule(path)).__name__ for path in trace.products})
    return f" ({', '.join(names)} multiply two branches)" if names else ""


def _positions(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> str:
    """Return the numbering of tokens, as in `Family`, by runs with padding in front of the text."""
    if "input_ids" not in inputs:
        return "given"
    alone, pad = _states(model, inputs), getattr(model.config, "pad_token_id", None) or 0
    padded = _padded(inputs, pad)
    if "position_ids" in signature(model.forward).parameters:
        places = padded["attention_mask"].cumsum(1) - 1
        if _same(model, {**padded, "position_ids": places.clamp(min=0)}, alone):
            return "given"
    if not _same(model, padded, alone):
        return "placed"
    other = int(inputs["input_ids"][0, 0])
    if not _same(model, _padded(inputs, other), alone):
        return "counted"
    # Some count what the mask shows: without a token the text is another one to them.
    shown = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    shown[:, 2] = False
    hidden = {**inputs, "attention_mask": shown.long()}
    left_out = {k: v[:, shown[0]] if v.shape == shown.shape else v for k, v in inputs.items()}
    return "counted" if _same(model, hidden, _states(model, left_out)) else "relative"


def _padded(inputs: Mapping[str, Tensor], token: int) -> dict[str, Tensor]:
    """Return texts with two tokens in front that the masks hide."""
    return {
        name: torch.cat([value.new_full((len(value), 2), 0 if "mask" in name else token), value], 1)
        for name, value in inputs.items()
    }


def _same(model: PreTrainedModel, inputs: Mapping[str, Tensor], expected: Tensor | None) -> bool:
    """Return whether the last token of a text has the state that is expected there."""
    got = _states(model, inputs)
    if got is None or expected is None:
        return False
    # In units of what tells tokens apart: a few numbers of a state may be far above all others, and
    # much the same at every token.
    spread = expected.std(1)
    difference = (got[:, -1] - expected[:, -1]) / spread.clamp(min=1e-6 * float(spread.max()))
    tolerance = TOLERANCE if _tolerance(model) == TOLERANCE else QUANTISED_SAME
    return float(difference.square().mean().sqrt()) <= tolerance


def _states(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """`(batch, t, width)` last states; None where the model refuses such inputs."""
    copy = private_copy(model, experts=EXPERTS).eval()
    with torch.no_grad(), float32_activations(copy):
        try:
            output = copy(**inputs, **pass_options(copy), output_hidden_states=True)
        except _OUT_OF_MEMORY:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError):
            return None
    # Not the output, which a classifier may read at padding in front of the text.
    states = output.get("decoder_hidden_states", output.get("hidden_states"))
    return None if not states else states[-1].float()


def without_biases(model: PreTrainedModel) -> PreTrainedModel:
    """Return a private copy in evaluation mode whose biases are 0."""
    copy = private_copy(model).eval()
    for module in copy.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and name.endswith("bias"):
                zeros = torch.zeros_like(parameter)
                module._parameters[name] = nn.Parameter(zeros, requires_grad=False)
    return copy


def conservation_error(got: Capture) -> tuple[float, int]:
    """Return the largest violation of conservation, relative to the largest node, and its layer.

    What arrives at a node from the layer above is what leaves it to the layer below, and what
    leaves the top row adds up to the explained number. Of a model without biases.
    """
    signed, residual = got.effects
    leaves, arrives = signed.sum(-1) + residual, signed.sum(-2) + residual
    top = (leaves[:, -1].sum(-1) - got.explained).abs().amax()
    differences = (arrives[:, 1:] - leaves[:, :-1]).abs().amax(dim=(0, 2))
    worst = torch.cat([differences, top[None]]) / arrives.abs().max()
    return float(worst.max()), int(worst.argmax())


def _last_output(output: Any) -> Tensor:
    """`(batch, width)`, the output of the last position, or of the whole example."""
    values = _values(output)
    last: Tensor = values[:, -1] if values.ndim == 3 else values
    return last.float() if last.dtype in HALF else last


def _values(output: Any) -> Tensor:
    """`(batch, width)` or `(batch, t, width)`, what a model gives."""
    return next(v for v in output.values() if isinstance(v, Tensor) and v.ndim >= 2)


def _some_number(output: Any) -> Tensor:
    """One number for each example that depends on all of the output's last position."""
    return _some_sum(_last_output(output))


def _some_sum(values: Tensor) -> Tensor:
    """Return a sum over the last axis, with weights: a norm leaves nothing of a plain one."""
    weights = torch.linspace(-1.0, 1.0, values.shape[-1], device=values.device, dtype=values.dtype)
    return (values * weights).sum(-1)
