"""One explainer in several threads, and in the contexts that torch's callers work in."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
import torch
from support.model_state import state_of

from attnflow.errors import InputError

pytestmark = pytest.mark.attack

TEXTS = ("a fine film", "a film", "not a fine film , a dull one", "dull")


def numbers(attribution):
    """Return every number that an answer rests on."""
    parts = (attribution.scores, attribution.contributions, attribution.logits)
    return [*(np.asarray(part).tolist() for part in parts), attribution.certificate.value]


@pytest.mark.parametrize("tensor", ["net", "bcf", "agf", "af"])
def test_threads_share_an_explainer(explainer, tensor):
    """Batches, single texts and calls that fail, while others run and tokenize plainly."""
    sys.setswitchinterval(1e-5)
    start = Barrier(6)
    ids = torch.tensor([explainer.tokenizer(TEXTS[2])["input_ids"]])

    def failing():
        with pytest.raises(InputError, match="nonsense"):
            explainer(TEXTS[0], target="nonsense")

    def logits():
        return explainer.model(ids).logits.tolist()

    calls = [
        lambda: [numbers(a) for a in explainer(TEXTS, tensor=tensor)],
        lambda: numbers(explainer(TEXTS[2], tensor=tensor, target=1)),
        lambda: numbers(explainer(TEXTS[0], tensor=tensor, truncate=True)),
        failing,
        logits,
        lambda: explainer.tokenizer(TEXTS[1])["input_ids"],
    ]
    alone, before = [call() for call in calls], state_of(explainer.model)

    def repeated(call):
        start.wait(timeout=60)
        return [call() for _ in range(6)]

    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            results = [pool.submit(repeated, call) for call in calls]
            found = [result.result(timeout=120) for result in results]
    finally:
        sys.setswitchinterval(5e-3)
    for one, wanted in zip(found, alone, strict=True):
        assert one == [wanted] * 6
    assert state_of(explainer.model) == before


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


CONTEXTS = {
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
}


@pytest.mark.parametrize("tensor", ["net", "bcf", "agf", "af"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_around_the_call_changes_nothing(explainer, context, tensor):
    def answers():
        estimate = explainer.estimate(TEXTS[2], tensor=tensor)
        return numbers(explainer(TEXTS[2], tensor=tensor)), replace(estimate, budget=0.0)

    wanted = answers()
    with CONTEXTS[context]():
        found = answers()
    assert found == wanted
