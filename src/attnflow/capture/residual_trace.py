"""One traced forward pass: where a model adds attention's output to its residual stream, and what.

Every tensor that is computed carries labels while the pass runs. Attention call k labels its output
"attention k"; what is computed from a labelled tensor has its labels too. The first sum of a tensor
with that label and one without it is the residual connection of call k: their sum is labelled
"sum k" alone, and whatever is added to it next, without being computed from it, skips attention as
well (an MLP in parallel).

    x ───────────────┬──▶ x + o     the sum of call k: o has its label, x does not
    └─▶ norm ─▶ attention ─▶ o

The tensors are then named: by the module that returned o, and by the module that was called with x.
Products in which an activated gate multiplies another branch are named in the same way.

Source: ours. Read next: family_search.py, which makes an entry of the names and tests it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface

from attnflow.capture.attention import attention_heads, boolean_mask, weights_of_call
from attnflow.capture.families import first_tensor
from attnflow.capture.frozen_backward import is_activation
from attnflow.errors import ModelError

TRACED = "attnflow_traced"

_SUMS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})
_QUOTIENTS = frozenset({"div", "__truediv__", "true_divide", "divide"})
_PRODUCTS = frozenset({"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply"})
# Functions whose output the frozen network holds constant: weights and scales, no values.
_WEIGHTS = frozenset(
    {"rsqrt", "sqrt", "sigmoid", "softmax", "softplus", "erf", "special_erf", "pow", "__pow__"}
)


@dataclass
class ResidualSum:
    """The sum in which attention's output joins the residual stream.

    Attributes:
        output: `(batch, t, width)`, the operand computed from attention.
        others: The operands that skip attention.
        total: The sum so far.
    """

    output: Tensor
    others: list[Tensor]
    total: Tensor


@dataclass
class Trace:
    """Tensors of one forward pass, with the modules that took and returned them.

    Attributes:
        sums: The residual sum of each attention call, in the order of calls; None before it is
            found.
        taken: By a tensor's id, paths of the modules whose first argument it was.
        returned: By a tensor's id, paths of the modules that returned it, the innermost first.
        outputs_of: By a module's path, the tensors that it returned.
        factors: By a tensor's id, a tensor and the number that it was multiplied with.
        gates: Paths of the activation modules whose output multiplied another branch.
        products: Paths of the modules in which other products of two branches were computed.
        leaves: `(batch, t, width)` embeddings, at which gradients end.
        batch: Number of examples.
        by_softmax: Number of attention calls that were seen at torch's softmax alone.
    """

    sums: list[ResidualSum | None] = field(default_factory=list)
    taken: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    returned: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    outputs_of: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    factors: dict[int, tuple[Tensor, float]] = field(default_factory=dict)
    gates: set[str] = field(default_factory=set)
    products: set[str] = field(default_factory=set)
    leaves: list[Tensor] = field(default_factory=list)
    batch: int = 1
    by_softmax: int = 0
    # Of tensors computed from the inputs; a tensor that is alive keeps its id.
    labels: dict[int, frozenset[str]] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)
    activations: set[str] = field(default_factory=set)
    is_computing_attention: bool = False
    entered: list[str] = field(default_factory=list)

    def begin(self, value: Tensor, label: str | None = None) -> None:
        """Follow what is computed from a tensor."""
        self._label(value, frozenset() if label is None else {label})

    def embedded(self, embeddings: Any) -> Any:
        """Follow embeddings from here on, and return them with a gradient."""
        if not isinstance(embeddings, Tensor):
            return embeddings  # and no attention will be seen to be computed from them
        leaf = embeddings.detach().requires_grad_()
        self.leaves.append(leaf)
        value = leaf.clone()  # which the model may change in place
        self.begin(value)
        return value

    def attention(self, output: Tensor) -> None:
        """Follow the output of the next attention call."""
        self.begin(output, f"attention {len(self.sums)}")
        self.sums.append(None)

    @property
    def first_streams(self) -> list[Tensor]:
        """Return what the first attention of each stack adds to, of embeddings alone."""
        sums = [found for found in self.sums if found is not None]
        return [x for found in sums for x in found.others[:1] if not self.labels[id(x)]]

    @property
    def outputs(self) -> list[Tensor]:
        """Return what modules returned as the outputs of attention."""
        return [self.unscaled(found.output)[0] for found in self.sums if found is not None]

    def unscaled(self, output: Tensor) -> tuple[Tensor, float]:
        """Return the tensor that a module returned, and the number that it was multiplied by."""
        if not self.returned.get(id(output)) and id(output) in self.factors:
            return self.factors[id(output)]
        return output, 1.0

    def computed(self, name: str, operands: list[Any], result: Any) -> None:
        """Take note of a function that was computed."""
        if name.endswith("_as"):  # expand_as takes the shape of its second operand alone
            operands = operands[:1]
        tensors = [x for x in _tensors(operands) if id(x) in self.labels]
        results = list(_tensors(operands[:1] if name == "__setitem__" else result))
        if name == "softmax" and results and attention_heads(results[0], self.batch):
            if not self.is_computing_attention:
                self.by_softmax += 1
                self.attention(results[0])
            return
        if not tensors or name in _WEIGHTS:
            for value in results:  # in place, or an id of before
                self.labels.pop(id(value), None)
            return
        labels = frozenset[str]().union(*(self.labels[id(x)] for x in tensors))
        if name in _SUMS and len(tensors) == 2 and isinstance(result, Tensor):
            labels = self._sum(tensors, result, labels)
        elif name in _PRODUCTS:
            self._product(operands, tensors, result)
        elif name in _QUOTIENTS and isinstance(result, Tensor):
            if isinstance(operands[1], int | float):
                self.factors[id(result)] = (tensors[0], 1.0 / operands[1])
        for value in results:
            self._label(value, labels)

    def _sum(self, terms: list[Tensor], total: Tensor, labels: frozenset[str]) -> frozenset[str]:
        """Return the labels of a sum; that of an attention call ends where its branch does."""
        first, second = terms
        if first.shape != second.shape or first.ndim != 3 or not self.sums:
            return labels
        call = len(self.sums) - 1
        mine, after = f"attention {call}", frozenset({f"sum {call}"})
        found = self.sums[call]
        for own, other in ((first, second), (second, first)):
            others = self.labels[id(other)]
            if found is None and mine in self.labels[id(own)] and mine not in others:
                self.sums[call] = ResidualSum(own, [other], total)
                return after
            if found is not None and own is found.total and not others & (after | {mine}):
                found.others.append(other)
                found.total = total
                return after
        return labels

    def _product(self, operands: list[Any], tensors: list[Tensor], result: Any) -> None:
        if len(tensors) == 1:
            number = next((x for x in operands if isinstance(x, int | float)), None)
            if number is not None and isinstance(result, Tensor):
                self.factors[id(result)] = (tensors[0], float(number))
            return
        paths = [path for x in tensors for path in self.returned.get(id(x), ())]
        gates = [path for path in paths if path in self.activations]
        if gates:
            self.gates.add(gates[0])
        else:
            self.products.add(self.entered[-1] if self.entered else "")

    def _label(self, value: Tensor, labels: frozenset[str] | set[str]) -> None:
        self.labels[id(value)] = frozenset(labels)
        self.alive.append(value)


class _Functions(TorchFunctionMode):
    """Tells a trace of every function that is called."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        operands = [*args, *(kwargs or {}).values()]
        result = func(*args, **(kwargs or {}))
        self.trace.computed(getattr(func, "__name__", ""), operands, result)
        return result


_active: ContextVar[Trace | None] = ContextVar("_active", default=None)


@contextmanager
def tracing(model: nn.Module) -> Iterator[Trace]:
    """Trace a forward pass of a private copy inside this context.

    Args:
        model: The copy, which runs attention as `TRACED` or by itself. It keeps the hooks.
    """
    trace = Trace()
    for path, module in model.named_modules():
        _watch(trace, path, module)
    token = _active.set(trace)
    try:
        with _Functions(trace):
            yield trace
    finally:
        _active.reset(token)


def _watch(trace: Trace, path: str, module: nn.Module) -> None:
    def enter(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        trace.entered.append(path)
        first = next(iter((*args, *kwargs.values())), None)
        if isinstance(first, Tensor):
            trace.taken[id(first)].append(path)
            trace.alive.append(first)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        trace.entered.pop()
        output = first_tensor(output)
        if output is not None:
            trace.returned[id(output)].append(path)
            trace.outputs_of[path].append(output)
            trace.alive.append(output)

    if is_activation(module):
        trace.activations.add(path)
    module.register_forward_pre_hook(enter, with_kwargs=True)
    module.register_forward_hook(leave)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _traced_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    trace = _active.get()
    if trace is None:
        raise ModelError(f"the attention implementation '{TRACED}' works only inside a trace.")
    trace.is_computing_attention = True
    weights, values = weights_of_call(
        module, query, key, value, attention_mask, scaling, is_causal, options
    )
    output = (weights @ values).transpose(1, 2).contiguous()
    trace.is_computing_attention = False
    trace.attention(output)
    return output, None


AttentionInterface.register(TRACED, _traced_attention)
AttentionMaskInterface.register(TRACED, boolean_mask)
