"""Private copies of a model: modules of their own on the same weights.

A pass that records needs another attention function, hooks, and parameters out of the graph.
Others may run the model at the same time, in threads of their own. So nothing is installed in the
model itself: a pass runs a copy of its modules and configs, which holds no number of its own and is
dropped with what was installed in it. What a caller installed in the model, hooks or functions in
place of `forward`, is part of the copy.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial, update_wrapper
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PretrainedConfig

Model = TypeVar("Model", bound=nn.Module)

# The internal name, since the property's setter writes into sub-configs, which others share.
_ATTENTION = "_attn_implementation_internal"

_PLAIN = frozenset({bool, int, float, str, bytes, type(None), torch.dtype, torch.device})

# What every module has: copied by name, since most of it is empty and modules are many.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def private_copy(model: Model, attention: str | None = None) -> Model:
    """Return a copy of a model's modules and configs that shares its weights and buffers.

    Parameters of the copy require no gradient.

    Args:
        model: A model of transformers.
        attention: Name of the attention function that the copy runs; the model's own when None.
    """
    return _Copies(attention).module(model)


class _Copies:
    """Copies of modules and configs, one for each original."""

    def __init__(self, attention: str | None) -> None:
        self.attention = attention
        self._made: dict[int, Any] = {}
        # Originals stay alive, so that their ids stay theirs.
        self._originals: list[object] = []

    def module(self, original: Any) -> Any:
        """Return the copy of a module and of all that it holds."""
        copy = self._made.get(id(original))
        if copy is not None:
            return copy
        copy = self._started(original)
        # Not `setattr`, by which a module registers and checks what it is given.
        state = copy.__dict__
        state.update(original.__dict__)
        state["_parameters"] = {
            name: p if p is None or not p.requires_grad else p.detach()
            for name, p in original._parameters.items()
        }
        state["_buffers"] = original._buffers.copy()
        state["_modules"] = {
            name: None if child is None else self.module(child)
            for name, child in original._modules.items()
        }
        for name in _HOOKS:
            hooks = state[name]
            state[name] = OrderedDict()
            if hooks:
                state[name].update((key, self._value(hook)) for key, hook in hooks.items())
        for name in state.keys() - _OF_EVERY_MODULE:
            if type(state[name]) not in _PLAIN:
                state[name] = self._value(state[name])
        return copy

    def _config(self, original: PretrainedConfig) -> PretrainedConfig:
        copy = self._made.get(id(original))
        if copy is not None:
            return copy
        copy = self._started(original)
        for name, value in original.__dict__.items():
            is_config = isinstance(value, PretrainedConfig)
            copy.__dict__[name] = self._config(value) if is_config else value
        if self.attention is not None and _ATTENTION in copy.__dict__:
            copy.__dict__[_ATTENTION] = self.attention
        return copy

    def _started(self, original: Any) -> Any:
        """Return the copy of an object before anything is in it."""
        copy = self._made[id(original)] = object.__new__(type(original))
        self._originals.append(original)
        return copy

    def _value(self, value: Any) -> Any:
        """Return what an attribute of a copy holds, in which modules and configs are copies."""
        if isinstance(value, nn.Module):
            return self.module(value)
        if isinstance(value, PretrainedConfig):
            return self._config(value)
        if type(value) is dict:
            return {key: self._value(x) for key, x in value.items()}
        if type(value) in (list, tuple):
            return type(value)(map(self._value, value)) if value else value
        # Functions in place of `forward` are bound to their module, as accelerate's are.
        if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
            return MethodType(value.__func__, self.module(value.__self__))
        if type(value) is partial:
            bound = partial(value.func, *map(self._value, value.args), **value.keywords)
            return update_wrapper(bound, value) if value.__dict__ else bound
        return value
