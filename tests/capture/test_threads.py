"""Threads that share a model get the answers that they get alone, and the model stays as it was."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from support.family_measurements import RIGHT, batch, captured, images, texts
from support.model_state import state_of
from support.tiny_models import TINY, build

from attnflow.capture.private_copy import private_copy
from attnflow.errors import ModelError

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
