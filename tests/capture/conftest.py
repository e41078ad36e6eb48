"""Tiny random models of every family, and batches for them. No hub is needed."""

import itertools

import pytest
import torch
from tiny_models import DECODERS, ENCODERS, TWO_STACKS, VISION, build, eager_twin


def padded_batch(side="right", lengths=(9, 6, 2), seed=3):
    """Random token ids with padding on one side."""
    generator = torch.Generator().manual_seed(seed)
    t = max(lengths)
    ids = torch.randint(3, 40, (len(lengths), t), generator=generator)
    places = torch.arange(t).expand(len(lengths), t)
    length = torch.tensor(lengths)[:, None]
    mask = places < length if side == "right" else places >= t - length
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


def state_of(model):
    """Everything that a capture lends or touches, for comparison before and after."""
    modules = dict(model.named_modules())
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_forward_hooks_with_kwargs",
    )
    return {
        "attention": [
            m.config._attn_implementation for m in modules.values() if "config" in vars(m)
        ],
        "hooks": {
            (name, kind): list(getattr(m, kind))
            for (name, m), kind in itertools.product(modules.items(), hooks)
        },
        "global hooks": len(torch.nn.modules.module._global_forward_hooks),
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad is None for p in model.parameters()],
        "training": [m.training for m in modules.values()],
        "weights": [(id(p), p._version) for p in model.parameters()],
        "config": model.config.to_dict(),
        "modes": torch.overrides._len_torch_function_stack(),
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="build")
def build_fixture():
    return build


@pytest.fixture
def eager():
    return eager_twin


@pytest.fixture
def batch():
    return padded_batch


@pytest.fixture
def state():
    return state_of


@pytest.fixture(params=ENCODERS)
def family(request):
    return request.param


@pytest.fixture(params=DECODERS)
def decoder_family(request):
    return request.param


@pytest.fixture(params=TWO_STACKS)
def two_stack_family(request):
    return request.param


@pytest.fixture(params=VISION)
def vision_family(request):
    return request.param
