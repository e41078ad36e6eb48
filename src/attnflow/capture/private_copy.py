"""Private copies of a model: modules of their own on the same weights.

A pass that records needs another attention function, hooks, and parameters out of the graph.
Others may run the model at the same time, in threads of their own. So nothing is installed in the
model itself: a pass runs a copy of its modules and configs, which holds no number of its own and is
dropped with what was installed in it. What a caller installed in the model, hooks or functions in
place of `forward`, is part of the copy.
"""

from __future__ import annotations

import operator
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar, cast

import torch
from torch import nn
from transformers import PretrainedConfig

from attnflow.capture.families import share_family

Model = TypeVar("Model", bound=nn.Module)

# The internal names, since the properties' setters write into sub-configs, which others share.
_ATTENTION, _EXPERTS = "_attn_implementation_internal", "_experts_implementation_internal"

_PLAIN = frozenset({bool, int, float, str, bytes, type(None), torch.dtype, torch.device})
_LEAVES = (torch.Tensor, torch.Size)  # shared, with the numbers that they hold
_CONTAINERS = (dict, list, set, deque)
_LONGEST = 1000  # entries of a dictionary in a config that are looked through

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


def private_copy(model: Model, attention: str | None = None, experts: str | None = None) -> Model:
    """Return a copy of a model's modules and configs that shares its weights and buffers.

    Parameters of the copy require no gradient.

    Args:
        model: A model of transformers.
        attention: Name of the attention function that the copy runs; the model's own when None.
        experts: Name of the way in which the copy multiplies experts; the model's own when None.
    """
    copies = _Copies({_ATTENTION: attention, _EXPERTS: experts})
    private: Model = copies.module(model)
    # A module that is no submodule, such as one in a list, is one here, so that hooks find it.
    known = set(map(id, private.modules()))
    held = [module for module in copies.held if id(module) not in known]
    private._modules.update((f"held_{number}", module) for number, module in enumerate(held))
    share_family(model, private)
    return private


class _Copies:
    """Copies of modules and configs, and of what holds them, one for each original."""

    def __init__(self, implementations: dict[str, str | None]) -> None:
        self.implementations = implementations
        self._made: dict[int, Any] = {}
        # Originals stay alive, so that their ids stay theirs.
        self._originals: list[object] = []
        self.held: list[nn.Module] = []  # copies of modules that attributes hold besides submodules
        self._reached = 0  # how often a copy was asked for: what asks for none stays as it is

    def module(self, original: Any) -> Any:
        """Return the copy of a module and of all that it holds."""
        self._reached += 1
        made = self._made.get(id(original))
        if made is not None:
            return made
        if "_orig_mod" in original._modules:  # what torch.compile wraps: compiled code has no hooks
            return self.module(original._orig_mod)
        made = self._started(original, object.__new__(type(original)))
        # Not `setattr`, by which a module registers and checks what it is given.
        state = made.__dict__
        state.update(original.__dict__)
        state["_parameters"] = {
            name: p if p is None or not p.requires_grad else _without_gradient(p)
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
        state.pop("_compiled_call_impl", None)  # of `module.compile()`, bound to the original
        for name in state.keys() - _OF_EVERY_MODULE:
            if type(state[name]) not in _PLAIN:
                state[name] = self._own(state[name])
        self._copy_slots(original, made)
        return made

    def _config(self, original: PretrainedConfig) -> PretrainedConfig:
        self._reached += 1
        made = self._made.get(id(original))
        if made is not None:
            return made
        made = self._started(original, object.__new__(type(original)))
        for name, value in original.__dict__.items():
            # Labels are the one long dictionary, and hold no config.
            is_long = type(value) is dict and len(value) > _LONGEST
            is_plain = type(value) in _PLAIN or is_long
            made.__dict__[name] = value if is_plain else self._value(value)
        for name, implementation in self.implementations.items():
            if implementation is not None and name in made.__dict__:
                made.__dict__[name] = implementation
        self._copy_slots(original, made)
        return made

    def _started(self, original: Any, made: Any) -> Any:
        """Remember the copy of an object before anything is in it."""
        self._made[id(original)] = made
        self._originals.append(original)
        return made

    def _copy_slots(self, original: Any, made: Any) -> None:
        for name in _slots(type(original)):
            if hasattr(original, name):
                object.__setattr__(made, name, self._value(getattr(original, name)))

    def _value(self, value: Any) -> Any:
        """Return what an attribute of a copy holds, in which modules and configs are copies."""
        kind = type(value)
        if kind in _PLAIN or isinstance(value, _LEAVES):
            return value
        if isinstance(value, nn.Module):
            self.held.append(self.module(value))
            return self.held[-1]
        if isinstance(value, PretrainedConfig):
            return self._config(value)
        made = self._made.get(id(value))
        if made is not None:
            self._reached += made is not value
            return made
        if isinstance(value, _CONTAINERS):
            before = self._reached
            made = self._container(value, self._value)
            return made if self._reached > before else self._kept(value)
        if isinstance(value, tuple):
            parts = [self._value(part) for part in value]
            if all(map(operator.is_, parts, value)):
                return value
            return kind(*parts) if hasattr(value, "_fields") else kind(parts)
        if isinstance(value, MethodType):
            owner = self._value(value.__self__)
            return value if owner is value.__self__ else MethodType(value.__func__, owner)
        if kind is partial:
            return self._partial(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        return self._object(value)

    def _own(self, value: Any) -> Any:
        """Return what a module's attribute holds: its containers are its own, as it writes there.

        Those that only a function or another object holds stay theirs: a hook of the caller's
        collects what it sees.
        """
        if not isinstance(value, _CONTAINERS):
            return self._value(value)
        made = self._made.get(id(value), value)
        return self._container(value, self._own) if made is value else made

    def _container(self, value: Any, part_of: Callable[[Any], Any]) -> Any:
        """Return a container of the same class with copies of what is in it."""
        container = self._started(value, copy(value))
        if isinstance(value, dict):
            for key, part in value.items():
                container[key] = part_of(part)
        else:
            parts = [part_of(part) for part in value]
            container.clear()
            (container.update if isinstance(value, set) else container.extend)(parts)
        return container

    def _kept(self, value: Any) -> Any:
        """Remember that an object holds no copies and stays as it is."""
        self._made[id(value)] = value
        return value

    def _partial(self, value: Any) -> Any:
        keywords = {key: self._value(part) for key, part in value.keywords.items()}
        bound = partial(self._value(value.func), *map(self._value, value.args), **keywords)
        bound.__dict__.update(value.__dict__)
        return bound

    def _function(self, value: Any) -> Any:
        """Return a function over copies, where it holds modules: one in place of `forward` may."""
        compiled = getattr(value, "_torchdynamo_orig_callable", None)
        if compiled is not None:
            return self._value(compiled)
        if value.__closure__ is None and not value.__dict__:
            return value
        before = self._reached
        cells = tuple(CellType() for _ in value.__closure__ or ())
        function = FunctionType(
            value.__code__, value.__globals__, value.__name__, value.__defaults__, cells
        )
        function.__kwdefaults__ = value.__kwdefaults__
        self._started(value, function)
        for cell, original in zip(cells, value.__closure__ or (), strict=True):
            with suppress(ValueError):  # a variable that has no value yet
                cell.cell_contents = self._value(original.cell_contents)
        function.__dict__.update({k: self._value(part) for k, part in value.__dict__.items()})
        return function if self._reached > before else self._kept(value)

    def _object(self, value: Any) -> Any:
        """Return an object over copies if it holds any, and else the object itself."""
        state = getattr(value, "__dict__", None)
        # Types that make their objects themselves (enumerations, those of C) hold no modules.
        makes_itself = cast(Any, type(value)).__new__ is not object.__new__
        if not state or makes_itself or isinstance(value, ModuleType):
            return value
        before = self._reached
        made = self._started(value, object.__new__(type(value)))
        made.__dict__.update({name: self._value(part) for name, part in state.items()})
        if self._reached == before:
            return self._kept(value)
        self._copy_slots(value, made)
        return made


def _without_gradient(parameter: nn.Parameter) -> Any:
    # A parameter again, since hooks that bring weights from elsewhere make others of its class.
    is_plain = type(parameter) is nn.Parameter
    data = parameter.detach()
    return nn.Parameter(data, requires_grad=False) if is_plain else data


def _slots(kind: type) -> list[str]:
    names = [getattr(base, "__slots__", ()) for base in kind.__mro__]
    listed = [[name] if isinstance(name, str) else list(name) for name in names]
    return [name for group in listed for name in group if name not in ("__dict__", "__weakref__")]
