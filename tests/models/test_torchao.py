"""Weights quantised by torchao, on a real model. `make test-torchao` installs it and runs these.

It is in no extra of the tests, since transformers imports it where it is, and its import prints.
"""

import os

import numpy as np
import pytest
import torch
from transformers import TorchAoConfig

from attnflow import Explainer

FOLDER = os.environ.get("ATTNFLOW_SMOLLM2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(FOLDER is None, reason="ATTNFLOW_SMOLLM2 names no folder of make smollm2"),
]
quantization = pytest.importorskip("torchao.quantization")


# Those of 4 bits need kernels of a GPU.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_alone_of_8_bits(dtype):
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    explainer = Explainer.from_pretrained(FOLDER, quantization_config=config, dtype=dtype)
    found = explainer("The capital of France is", target=" Paris")
    assert found.top(1)[0][0].strip() == "France" and "torchao" in found.precision
    wanted = Explainer.from_pretrained(FOLDER)("The capital of France is", target=" Paris")
    off = np.abs(found.signed_scores - wanted.signed_scores).sum()
    assert off < 0.25 * np.abs(wanted.signed_scores).sum()
