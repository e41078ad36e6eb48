"""Every method scores a model in half precision, nearly as the same weights in float32."""

import copy

import numpy as np
import pytest
import torch

from attnflow.methods import DEFAULT, Classifier, Instance, method

# Those that draw at random, or rank by what a rounding turns over.
LOOSE = {"random", "lime", "kernel-shap", "attention-flow", "partition-shap"}


def judged(instance):
    adapter = instance.adapter
    return adapter.log_probabilities([adapter.whole_variant(instance.content)])


def in_half(bert, dtype):
    half = copy.deepcopy(bert.adapter.model).to(dtype)
    adapters = [
        Classifier(model, bert.adapter.tokenizer) for model in (copy.deepcopy(half).float(), half)
    ]
    return [Instance(adapter, adapter.encode(bert.content.text), 1) for adapter in adapters]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("name", DEFAULT)
def test_every_method_runs(bert, name, dtype):
    full, half = in_half(bert, dtype)
    try:
        wanted = method(name).scores(full)
    except Exception as error:
        pytest.skip(f"not for this model: {error!s:.60}")
    found = method(name).scores(half)
    assert found.shape == wanted.shape and np.isfinite(found).all()
    if name not in LOOSE and dtype == torch.float16:
        assert np.corrcoef(found, wanted)[0, 1] > 0.9 or np.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
def test_methods_are_judged_by_the_function_that_is_explained(bert, dtype):
    full, half = in_half(bert, dtype)
    whole, same = (judged(i) for i in (full, half))
    np.testing.assert_allclose(same, whole, atol=0.05 if dtype == torch.bfloat16 else 0.005)
