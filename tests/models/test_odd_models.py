"""Models whose config or tokenizer says odd things: refused in a line of readable length."""

import pytest
import torch

from attnflow import Explainer, InputError, ModelError
from attnflow.capture.validation import check_logits
from attnflow.explainer.targets.output_space import class_index

pytestmark = pytest.mark.attack

LONGEST = 2000  # characters of a message


def labelled(tiny, tokenizer, labels):
    model = tiny()
    model.config.id2label = labels
    return Explainer(model, tokenizer)


@pytest.mark.parametrize(
    "labels",
    (None, [], ["a", "b", "c"], {}, {0: "a", 2: "c"}, {1: "a"}, {"a": 0}, {0.5: "a"}, 5, "abc"),
    ids=str,
)
def test_labels_that_are_not_in_a_row(tiny, tokenizer, labels):
    with pytest.raises(ModelError, match="names no classes: expected id2label"):
        labelled(tiny, tokenizer, labels)("a dog", tensor="af")


@pytest.mark.parametrize("count", (1, 2, 4, 100_000))
def test_another_number_of_labels_than_logits(tiny, tokenizer, count):
    explainer = labelled(tiny, tokenizer, {i: f"class {i}" for i in range(count)})
    with pytest.raises(ModelError, match=f"gives 3 logits and its config names {count} classes"):
        explainer("a dog", tensor="af")


@pytest.mark.parametrize("labels", ({0: None, 1: {"a": [1]}, 2: 7}, {"2": "c", "0": "a", "1": "b"}))
def test_labels_of_any_type_are_names(tiny, tokenizer, labels):
    made = labelled(tiny, tokenizer, labels)("a dog", tensor="af")
    assert all(isinstance(label, str) for label in made.labels)
    assert made.labels[2] == str({str(i): name for i, name in labels.items()}["2"])


def test_many_labels_are_not_all_listed():
    with pytest.raises(InputError, match="and 99980 more, or an index from 0 to 99999") as refusal:
        class_index("x" * 10**6, [f"class {i} {'y' * 100}" for i in range(100_000)])
    assert len(str(refusal.value)) < LONGEST


def test_many_logits_are_not_all_listed():
    with pytest.raises(ModelError, match="and 99995 more") as refusal:
        check_logits(torch.full((1, 100_000), torch.nan), "Model", 1)
    assert len(str(refusal.value)) < LONGEST


@pytest.mark.parametrize("limit", ("abc", None, [5], float("nan")))
def test_limits_that_are_no_number(tiny, tokenizer, monkeypatch, limit):
    monkeypatch.setattr(tokenizer, "model_max_length", limit)
    with pytest.raises(ModelError, match="must be a number, got .* model_max_length"):
        Explainer(tiny(), tokenizer)("a dog", tensor="af")


def test_a_model_is_no_tokenizer(tiny):
    with pytest.raises(InputError, match="is not a tokenizer"):
        Explainer(tiny(), tiny())
