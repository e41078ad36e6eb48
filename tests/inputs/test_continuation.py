"""Continuations that a model writes."""

import pytest
from support.text_models import language_model

from attnflow import InputError
from attnflow.inputs import continuation
from attnflow.inputs.continuation import generate
from attnflow.inputs.token_ids import encode_ids


def test_a_text_that_fills_the_limit(monkeypatch):
    model, text = language_model(), encode_ids(None, [4] * 30, None)
    monkeypatch.setattr(continuation, "_generated", lambda *given: [4] * 30 + [9, 7])
    for ends in (7, [5, 7]):
        model.generation_config.eos_token_id = ends
        assert generate(model, text, 5, 32) == [9, 7]
    for ends in (9, None):
        model.generation_config.eos_token_id = ends
        with pytest.raises(InputError, match="continuation=5 is too long"):
            generate(model, text, 5, 32)
