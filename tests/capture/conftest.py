"""Tiny random models of every family, and batches for them. No hub is needed."""

import pytest
import torch
from support.tiny_models import DECODERS, ENCODERS, TWO_STACKS, VISION, build, eager_twin


def padded_batch(side="right", lengths=(9, 6, 2), seed=3):
    """Random token ids with padding on one side."""
    generator = torch.Generator().manual_seed(seed)
    t = max(lengths)
    ids = torch.randint(3, 40, (len(lengths), t), generator=generator)
    places = torch.arange(t).expand(len(lengths), t)
    length = torch.tensor(lengths)[:, None]
    mask = places < length if side == "right" else places >= t - length
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


@pytest.fixture(name="build")
def build_fixture():
    return build


@pytest.fixture
def eager():
    return eager_twin


@pytest.fixture
def batch():
    return padded_batch


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
