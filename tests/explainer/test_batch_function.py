"""Batches of columns: the answers of a call, a value for each text."""

import pickle

import numpy as np
import pytest

from attnflow import InputError, batch_function
from attnflow.explainer.batch_function import NEW_COLUMNS


def test_columns_have_the_answers_of_a_call(explainer, texts):
    columns = batch_function(explainer, "review")({"review": texts, "stars": [1] * len(texts)})
    assert tuple(columns) == NEW_COLUMNS
    for i, a in enumerate(explainer(texts)):
        assert columns["tokens"][i] == list(a.tokens)
        spans = zip(columns["starts"][i], columns["ends"][i], strict=True)
        assert tuple(spans) == a.offsets
        for name in ("special", "scores", "contributions", "signed_scores"):
            assert np.array_equal(columns[name][i], getattr(a, name))
        assert columns["explained_label"][i] == a.label
        assert columns["probability"][i] == a.probabilities[a.target]
        assert columns["flow"][i] == a.certificate.value
        assert columns["gap"][i] == a.certificate.gap


def test_columns_of_pairs_and_targets(explainer, texts):
    batch = {"text": texts, "other": texts[::-1], "gold": [0, 1, 2, "neutral"][: len(texts)]}
    explain = batch_function(explainer, pair_column="other", target_column="gold", tensor="agf")
    columns, expected = (
        explain(batch),
        explainer(texts, pair=texts[::-1], target=batch["gold"], tensor="agf"),
    )
    assert columns["explained_label"] == [a.label for a in expected]
    assert columns["scores"] == [a.scores.tolist() for a in expected]
    assert columns["contributions"] == [None] * len(texts)


def test_a_prefix(explainer, texts):
    batch = {"text": texts, "tokens": texts}
    with pytest.raises(InputError, match="has a column 'tokens' already: .* prefix="):
        batch_function(explainer)(batch)
    columns = batch_function(explainer, prefix="flow_")(batch)
    assert set(columns) == {f"flow_{name}" for name in NEW_COLUMNS}


def test_a_function_that_is_pickled_gives_the_same(explainer, texts):
    """Data sets hash the function, and send it to other processes."""
    explain = batch_function(explainer)
    again = pickle.loads(pickle.dumps(explain))
    assert again({"text": texts[:1]})["scores"] == explain({"text": texts[:1]})["scores"]


def test_a_data_set_gets_the_columns(explainer, texts):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": texts, "label": list(range(len(texts)))})
    explained = data.map(batch_function(explainer), batched=True, batch_size=2)
    assert set(explained.column_names) == {"text", "label", *NEW_COLUMNS}
    for row, a in zip(explained, explainer(texts), strict=True):
        assert row["tokens"] == list(a.tokens) and row["explained_label"] == a.label
        assert row["scores"] == pytest.approx(a.scores, rel=1e-4, abs=1e-6)  # of other batches


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    (
        (dict(text_column=None), "name of a column must be a string, got None"),
        (dict(pair_column=3), "name of a column must be a string, got 3"),
        (dict(target_column="gold", target=1), "target is the column 'gold': leave out target="),
        (dict(texts=["a"]), "texts is the column 'text': leave out texts="),
        (dict(prefix=None), "prefix must be a string, got None"),
    ),
)
def test_refused_arguments(explainer, arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        batch_function(explainer, **arguments)


def test_refused_batches(explainer, texts):
    with pytest.raises(InputError, match="no column 'review' in the batch: .*'text', 'stars'"):
        batch_function(explainer, "review")({"text": texts, "stars": texts})
    with pytest.raises(InputError, match="a text can have one result"):
        batch_function(explainer, target="all")({"text": texts})
    with pytest.raises(InputError, match="text 1 "):
        batch_function(explainer)({"text": [texts[0], ""]})
