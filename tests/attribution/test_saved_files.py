"""Files of the version before results had a module of data load to the same numbers, and lightly.

`data/` holds results of tiny random models as that version saved them, each next to its
dictionaries as JSON.
"""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors

import attnflow
from attnflow.attribution import Attribution, Attributions

DATA = Path(__file__).parent / "data"
NAMES = ("text", "texts", "continuation", "span", "chat", "coarsened", "image")


def content(path):
    """Header and arrays of a file."""
    with safetensors.safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        return json.loads(file.metadata()["attnflow"]), arrays


def run(code, *arguments):
    """Standard output of a Python that starts afresh."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_has_a_test():
    assert {path.stem for path in DATA.glob("*.safetensors")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_has_the_same_numbers(name):
    attributions = attnflow.load(DATA / f"{name}.safetensors")
    assert all(type(a) is Attribution for a in attributions)
    records = json.loads(json.dumps([a.to_dict() for a in attributions]))
    expected = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    for record, wanted in zip(records, expected, strict=True):
        # Computed when asked for: exp of another processor may differ in the last digit.
        assert record.pop("probabilities") == pytest.approx(wanted.pop("probabilities"), rel=1e-14)
        assert record.pop("schema_version") > wanted.pop("schema_version")
        # What later versions added is empty, but for what is computed and what was the only one.
        assert record.pop("precision") == "float32"
        assert record.pop("carried") in (None, record["certificate"]["value"])
        assert {record.pop(name) for name in set(record) - set(wanted)} == {None}
        assert record == wanted and list(record) == list(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_is_saved_as_it_was(name, tmp_path):
    old = DATA / f"{name}.safetensors"
    new = attnflow.save(attnflow.load(old), tmp_path / "again")
    (old_header, old_arrays), (header, arrays) = content(old), content(new)
    for a, b in zip(header["attributions"], old_header["attributions"], strict=True):
        assert {name: a[name] for name in b} == b
        assert a.pop("precision") == "float32"
        assert all(a[name] is None for name in set(a) - set(b))
    assert set(arrays) == set(old_arrays)
    for key, array in arrays.items():
        assert array.dtype == old_arrays[key].dtype
        np.testing.assert_array_equal(array, old_arrays[key])


def test_values_left_out_of_dictionaries_come_back():
    (text,) = attnflow.load(DATA / "text.safetensors")
    assert text.edges.shape == (2, len(text), len(text))
    np.testing.assert_allclose(text.edges[0].sum(axis=0), text.scores)
    (image,) = attnflow.load(DATA / "image.safetensors")
    assert image.image.shape == (30, 20, 3) and image.image.dtype == np.uint8
    assert image.overlay().shape == image.image.shape
    continuation = Attributions(attnflow.load(DATA / "continuation.safetensors"))
    assert continuation.matrix.shape == (3, len(continuation[0]))


@pytest.mark.parametrize("name", NAMES)
def test_fields_have_their_types_again(name):
    for a in attnflow.load(DATA / f"{name}.safetensors"):
        for field in ("tokens", "offsets", "word_ids", "labels", "message_ids", "roles"):
            assert type(getattr(a, field)) is tuple
        assert all(type(pair) is tuple for pair in (*a.offsets, *(a.segments or ())))
        for field in ("span", "grid", "box"):
            assert type(getattr(a, field)) in (tuple, type(None))


def test_an_old_pickle_is_an_attribution():
    a = pickle.loads((DATA / "text.pickle").read_bytes())
    assert type(a) is attnflow.Attribution and a.text == "bad"
    assert type(a.certificate) is attnflow.Certificate and a.certificate.is_certified
    again = pickle.loads(pickle.dumps(a))
    assert repr(again) == repr(a) and again.to_dict() == a.to_dict()


def test_a_pickled_continuation_is_one_again():
    continuation = Attributions(attnflow.load(DATA / "continuation.safetensors"))
    again = pickle.loads(pickle.dumps(continuation))
    assert type(again) is Attributions and again.written == continuation.written


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_loaded_and_shown_without_torch(name):
    code = (
        "import sys, attnflow\n"
        "for a in attnflow.load(sys.argv[1]):\n"
        "    print(repr(a)), a.to_dict(), str(a)\n"
        "heavy = {'torch', 'transformers', 'jinja2'} & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else 0)"
    )
    assert "Attribution(" in run(code, DATA / f"{name}.safetensors")


def test_truth_values_that_are_neither(explainer, tmp_path):
    file = explainer("a good film", tensor="cf").save(tmp_path / "saved")
    data = bytearray(file.read_bytes())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    (name,) = [name for name in header if name.endswith("special")]
    data[8 + int.from_bytes(data[:8], "little") + header[name]["data_offsets"][0]] = 127
    file.write_bytes(data)
    with pytest.raises(attnflow.StorageError, match="truth values, bytes of 0 and 1"):
        attnflow.load(file)


def test_attributions_of_any_iterable_are_saved(explainer, tmp_path):
    found = explainer(["a good film", "bad"], tensor="cf")
    for number, given in enumerate((iter(found), dict(enumerate(found)).values())):
        file = attnflow.save(given, tmp_path / f"{number}")
        assert len(attnflow.load(file)) == 2
