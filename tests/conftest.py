"""What all tests share: one thread, which small problems like best, and the embedded model."""

import pytest
import torch

from attnflow import Explainer


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def embedded() -> Explainer:
    """The embedded model, loaded once."""
    return Explainer.from_pretrained()
