"""Threads that share a model get the answers that they get alone, and the model stays as it was."""

import sys
from collections import OrderedDict, deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from threading import Barrier

import pytest
import torch
from support.family_measurements import RIGHT, batch, captured, images, texts
from support.model_state import state_of
from support.tiny_models import TINY, build
from transformers import LlamaConfig

from attnflow.capture.private_copy import private_copy
from attnflow.errors import ModelError

pytestmark = pytest.mark.attack

ROUNDS = 3


@pytest.fixture(autouse=True)
def switching_often():
    """Threads take turns after microseconds, instead of after five milliseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*calls):
    """Return the results of calls that start at once in a thread each, in `ROUNDS` rounds."""
    start = Barrier(len(calls))

    def repeated(call):
        start.wait(timeout=60)
        return [call() for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(calls)) as pool:
        results = [pool.submit(repeated, call) for call in calls]
        return [result.result(timeout=300) for result in results]


def plain(model, kind):
    """Return the output of the model for the same examples, from a pass of its own."""
    if kind == "vision":
        inputs = {"pixel_values": torch.cat(list(images(model)))}
    else:
        inputs, _ = batch(model, kind, texts(), RIGHT)
    return model(**inputs)[0]


def plain_gradient(model, kind):
    """Return gradients of a sum of outputs by the model's parameters, where they have a part."""
    value, trained = plain(model, kind).square().sum(), [*filter(_is_trained, model.parameters())]
    gradients = torch.autograd.grad(value, trained, allow_unused=True)
    return [gradient for gradient in gradients if gradient is not None]


def _is_trained(parameter):
    return parameter.requires_grad


def equal(found, wanted):
    if isinstance(wanted, torch.Tensor):
        return torch.equal(found, wanted)
    return len(found) == len(wanted) and all(map(equal, found, wanted))


@pytest.mark.parametrize("name", TINY)
def test_threads_share_a_model(name):
    model, kind = build(name), TINY[name].kind
    examples = images(model) if kind == "vision" else texts()

    def tensor(name):
        return lambda: captured(model, kind, examples, [0, 1, 2], RIGHT, name)

    calls = [tensor("agf"), tensor("agf"), lambda: plain(model, kind).detach()]
    calls.append(lambda: plain_gradient(model, kind))
    try:
        tensor("cf")()
        calls.append(tensor("cf"))
    except ModelError:
        calls.append(tensor("af"))  # of families that have no conservative tensor
    alone = [call() for call in calls]
    before = state_of(model)
    for found, wanted in zip(together(*calls), alone, strict=True):
        assert all(equal(one, wanted) for one in found)
    assert state_of(model) == before


def test_a_private_copy_is_the_same_model_on_the_same_weights():
    model = build("llama")
    ids = torch.arange(3, 9)[None]
    copy = private_copy(model, "eager")
    assert type(copy) is type(model) and copy.config == model.config
    assert copy.model.layers[0].self_attn.config is copy.model.config
    assert copy.config._attn_implementation == "eager" != model.config._attn_implementation
    assert not any(p.requires_grad for p in copy.parameters())
    pairs = zip(copy.state_dict().items(), model.state_dict().items(), strict=True)
    assert all(a == b and x.data_ptr() == y.data_ptr() for (a, x), (b, y) in pairs)
    with torch.no_grad():
        model.model.norm.weight.mul_(2)  # an optimiser's step is seen
        torch.testing.assert_close(copy(ids).logits, model(ids).logits)


def test_a_private_copy_keeps_what_others_installed():
    """Hooks run, and functions in place of `forward` run the copy's own modules."""
    model, seen = build("bert"), []
    model.bert.register_forward_hook(lambda module, args, output: seen.append(module))
    dense, forward = model.classifier, model.classifier.forward
    dense._old_forward = forward

    def scaled(module, *args):
        return 3 * module._old_forward(*args)

    dense.forward = scaled.__get__(dense)
    copy = private_copy(model)
    ids = torch.arange(3, 9)[None]
    copy.classifier.register_forward_hook(lambda module, args, output: seen.append(module))
    copy.bert.pooler.register_forward_hook(lambda module, args, output: seen.append(module))
    torch.testing.assert_close(copy(ids).logits, model(ids).logits)
    assert seen == [copy.bert.pooler, copy.bert, copy.classifier, model.bert]
    assert copy.classifier._old_forward.__self__ is copy.classifier


class Kind(Enum):
    ONE = 1


class Held:
    def __init__(self, module):
        self.module, self.itself, self.kind = module, self, Kind.ONE


Pair = namedtuple("Pair", "first second")


class Modules(list):
    pass


def wrapped(forward):
    """Return a function in place of `forward`, as programs set that measure or log."""

    def logged(*args, **options):
        return forward(*args, **options)

    return logged


def _wrap(module):
    module.forward = wrapped(module.forward)


def _hold(module, container):
    """Let a module find a part of its own in an attribute that is no submodule."""
    part = module.mlp
    del module.mlp
    object.__setattr__(module, "held", container(part))
    kind = type("Holding", (type(module),), {"mlp": property(lambda self: _first(self.held))})
    kind.__name__ = type(module).__name__
    module.__class__ = kind


def _first(held):
    while not isinstance(held, torch.nn.Module):
        held = held.module if isinstance(held, Held) else next(iter(_values(held)))
    return held


def _values(held):
    return held.values() if isinstance(held, dict) else held


ODD = {
    "forward in a closure": lambda layer: _wrap(layer.mlp),
    "attention in a closure": lambda layer: _wrap(layer.self_attn),
    "layer in a closure": _wrap,
    "a list's subclass": lambda layer: _hold(layer, lambda m: Modules([m])),
    "a tuple": lambda layer: _hold(layer, lambda m: (m, 1)),
    "a named tuple": lambda layer: _hold(layer, lambda m: Pair(m, 1)),
    "an ordered dictionary": lambda layer: _hold(layer, lambda m: OrderedDict(a=m)),
    "a deque": lambda layer: _hold(layer, lambda m: deque([m])),
    "an object that holds itself": lambda layer: _hold(layer, Held),
    "compiled": lambda layer: layer.mlp.compile(backend="eager"),
    "compiled layer": lambda layer: layer.compile(backend="eager"),
    "compiled forward": lambda layer: setattr(
        layer, "forward", torch.compile(layer.forward, backend="eager")
    ),
    "compiled submodule": lambda layer: setattr(
        layer, "mlp", torch.compile(layer.mlp, backend="eager")
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_private_copy_runs_its_own_modules_wherever_they_are(odd):
    """Hooks of a pass are in the copy: a module of the original would run without them."""
    model = build("llama", dtype=torch.float64)

    def capacities():
        return captured(model, "decoder", texts(), [0, 1, 2], RIGHT, "cf")

    wanted = capacities()
    for layer in model.model.layers:
        ODD[odd](layer)
    assert equal(capacities(), wanted)


def test_a_private_copy_has_lists_of_its_own():
    """Shared by its modules as by the model's, and empty ones too."""
    model = build("llama")
    shared, endless = [], []
    endless.append(endless)
    for layer in model.model.layers:
        layer.seen, layer.endless = shared, endless
    copy = private_copy(model)
    copy.model.layers[0].seen.append(1)
    assert copy.model.layers[1].seen == [1] and shared == []
    assert copy.model.layers[0].endless[0] is copy.model.layers[1].endless is not endless


def test_hooks_of_the_caller_fill_the_callers_lists():
    model, seen = build("llama"), []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda *_: seen.append(1))
    private_copy(model)(torch.arange(3, 9)[None])
    assert len(seen) == len(model.model.layers)


def test_a_private_copy_has_what_slots_hold():
    class Config(LlamaConfig):
        __slots__ = ("scale",)

    module = torch.nn.Module()
    module.config = Config()
    module.config.scale = 3
    assert private_copy(module).config.scale == 3
