"""An attribution cannot be changed, agrees with itself, and survives a file."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

import attnflow
from attnflow import Attribution, Certificate, InputError, StorageError
from attnflow.attribution.data import SCHEMA_VERSION


@pytest.fixture(scope="module")
def made(explainer, texts):
    return explainer(texts, edges=True)


@pytest.fixture(scope="module")
def one(made):
    return made[0]


def assert_same(left, right):
    for field in dataclasses.fields(Attribution):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and np.array_equal(a, b)
        else:
            assert a == b and type(a) is type(b)


def test_fields_and_arrays_are_frozen(one):
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.scores = one.scores
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.certificate.value = 2.0
    for name in ("special", "scores", "logits", "edges"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(one, name)[0] = 0


def test_arrays_that_were_given_stay_the_givers(one):
    scores = one.scores.copy()
    copy = dataclasses.replace(one, scores=scores)
    scores[0] += 1.0
    assert scores[0] == copy.scores[0] + 1.0


def test_top_is_a_ranking_of_the_ordinary_tokens(made):
    for a in made:
        everything = a.top(len(a))
        assert sorted(everything, key=lambda pair: -pair[1]) == everything
        assert len(everything) == (~a.special).sum()
        assert a.top(2) == everything[:2] and a.top(100) == everything
        assert sum(score for _, score in everything) == pytest.approx(a.scores[~a.special].sum())
        assert all(name in a.text for name, _ in everything)


def test_equal_scores_rank_in_the_order_of_the_text(one):
    level = dataclasses.replace(one, scores=np.ones(len(one)))
    assert [name for name, _ in level.top(3)] == ["the", "film", "is"]


def test_top_refuses_less_than_one(one):
    with pytest.raises(InputError, match="at least 1, got 0"):
        one.top(0)


def test_words_sum_their_pieces(made):
    a = made[3]
    words = a.words()
    assert [w.text for w in words] == ["the", "dullest", ",", "dullest", "films"]
    assert any(len(w.tokens) > 1 for w in words)
    for word in words:
        assert word.score == pytest.approx(a.scores[list(word.tokens)].sum())
        assert a.text[word.start : word.end] == word.text


def test_shares(made):
    for a in made:
        assert a.shares.sum() == pytest.approx(1)
        assert (a.shares[a.special] == 0).all()
        ordinary = ~a.special
        assert a.shares[ordinary] * a.scores[ordinary].sum() == pytest.approx(a.scores[ordinary])
        assert a.special_share == pytest.approx(1 - a.scores[ordinary].sum() / a.scores.sum())
        assert 0 < a.special_share < 1


def test_nothing_flowed(one):
    empty = dataclasses.replace(one, scores=np.zeros(len(one)))
    assert not empty.shares.any() and empty.special_share == 0.0
    assert Certificate(0.0, 0.0, 1e-3, 0.0, 0.0, 0, "empty").gap == 0.0


def test_gap_is_never_negative():
    assert Certificate(1.0 + 1e-15, 1.0, 1e-3, 0.0, 0.0, 9, "solved").gap == 0.0
    assert Certificate(0.75, 1.0, 1e-3, 0.0, 0.0, 9, "solved").gap == 0.25


def test_probabilities_and_label(made):
    for a in made:
        assert a.probabilities.sum() == pytest.approx(1)
        assert a.probabilities.argmax() == a.logits.argmax() == a.target
        assert a.label == a.labels[a.target]
    big = dataclasses.replace(made[0], logits=np.array([1e4, 0.0, -1e4]))
    assert big.probabilities.tolist() == [1.0, 0.0, 0.0]


def test_surface_names_special_tokens(one):
    assert one.surface(0) == "[CLS]" and one.surface(1) == "the"


def test_to_dict_is_json_and_agrees(made):
    for a in made:
        record = a.to_dict()
        again = json.loads(json.dumps(record, allow_nan=False))
        assert again["schema_version"] == SCHEMA_VERSION
        assert "edges" not in again
        for name in ("scores", "special", "logits", "shares", "probabilities"):
            assert np.array_equal(again[name], getattr(a, name))
        for name in ("text", "tensor", "readout", "target", "model", "truncated", "label"):
            assert again[name] == getattr(a, name)
        assert again["certificate"] == dataclasses.asdict(a.certificate)
        assert again["gap"] == a.certificate.gap and again["special_share"] == a.special_share
        assert tuple(again["tokens"]) == a.tokens and tuple(again["word_ids"]) == a.word_ids
        assert [tuple(span) for span in again["offsets"]] == list(a.offsets)
        assert [word["score"] for word in again["words"]] == [word.score for word in a.words()]


def test_repr_is_short_and_names_the_best(one):
    assert len(repr(one)) < 200 and one.top(1)[0][0] in repr(one) and one.label in repr(one)


def test_string_and_html(one):
    assert one.label in str(one) and "certificate" in str(one)
    assert one.label in one._repr_html_() and "<" in one._repr_html_()


def test_round_trip_with_and_without_edges(made, tmp_path):
    mixed = [made[0], dataclasses.replace(made[1], edges=None, truncated=3), *made[2:]]
    path = attnflow.save(mixed, tmp_path / "all.safetensors")
    assert path == tmp_path / "all.safetensors"
    loaded = attnflow.load(str(path))
    assert len(loaded) == len(mixed)
    for a, b in zip(mixed, loaded, strict=True):
        assert_same(a, b)
        assert not b.scores.flags.writeable


def test_round_trip_of_one(one, tmp_path):
    assert_same(one, Attribution.load(one.save(tmp_path / "one")))


def test_round_trip_keeps_every_character(one, tmp_path):
    odd = dataclasses.replace(one, labels=("\x1b[2J", "é\u2028", "日\ud800"), model="../<b>\n")
    assert_same(odd, Attribution.load(odd.save(tmp_path / "odd")))


def test_many_in_a_file_are_not_one(made, tmp_path):
    path = attnflow.save(made, tmp_path / "all")
    with pytest.raises(InputError, match="holds 4 attributions.*attnflow.load"):
        Attribution.load(path)


def test_nothing_to_save(tmp_path):
    with pytest.raises(InputError, match="no attributions"):
        attnflow.save([], tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_existing_file_is_kept(made, tmp_path):
    path = made[0].save(tmp_path / "kept")
    before = path.read_bytes()
    for write in (made[1].save, made[1].to_html):
        with pytest.raises(StorageError, match="exists already"):
            write(path)
    assert path.read_bytes() == before
    made[1].save(path, overwrite=True)
    assert_same(made[1], Attribution.load(path))
    made[1].to_html(path, overwrite=True)
    assert path.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")


def rewritten(path, change):
    """The file again, with its header changed."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as opened:
        header = json.loads(opened.metadata()["attnflow"])
    change(header, arrays)
    safetensors.numpy.save_file(arrays, path, {"attnflow": json.dumps(header)})


def test_a_newer_schema_is_refused(one, tmp_path):
    path = one.save(tmp_path / "new")

    def newer(header, arrays):
        header["schema_version"] = SCHEMA_VERSION + 1
        header["attributions"] = {"in another": "form"}

    rewritten(path, newer)
    with pytest.raises(StorageError, match=rf"schema {SCHEMA_VERSION + 1}.*upgrade"):
        attnflow.load(path)


@pytest.mark.parametrize(
    "change",
    (
        lambda header, arrays: header.pop("schema_version"),
        lambda header, arrays: header.update(schema_version="new"),
        lambda header, arrays: header.pop("attributions"),
        lambda header, arrays: header.update(attributions=[3]),
        lambda header, arrays: header["attributions"][0].pop("tokens"),
        lambda header, arrays: header["attributions"][0].update(surprise=1),
        lambda header, arrays: header["attributions"][0].update(offsets=[1, 2]),
        lambda header, arrays: arrays.pop("0.scores"),
    ),
)
def test_a_file_that_lacks_something_is_refused(one, tmp_path, change):
    path = one.save(tmp_path / "changed")
    rewritten(path, change)
    with pytest.raises(StorageError, match="is not a file of attributions"):
        attnflow.load(path)


@pytest.mark.parametrize("content", (b"", b"junk", b"\x80\x04N.", b"{}" * 50))
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="is not a file of attributions"):
        attnflow.load(path)


def test_other_tensors_are_refused(tmp_path):
    safetensors.numpy.save_file({"x": np.ones(3)}, tmp_path / "weights")
    with pytest.raises(StorageError, match="is not a file of attributions"):
        attnflow.load(tmp_path / "weights")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(StorageError, match=str(path)):
            attnflow.load(path)


def test_loading_never_unpickles(one, tmp_path, monkeypatch):
    path = one.save(tmp_path / "safe")

    def refuse(*args, **kwargs):
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "Unpickler", "dump", "dumps"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    assert_same(one, Attribution.load(path))
    one.save(path, overwrite=True)
