"""Files of strangers: each is refused in one line, or shows nothing but what the page's own are."""

import copy
import os
import tracemalloc
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from support.example_attributions import attribution_of
from support.hostile_files import (
    DTYPES,
    MARKUP,
    RAW,
    Tensor,
    drafts,
    hostile_file,
    loaded,
    use,
    use_together,
)

import attnflow
from attnflow import InputError, Status, StorageError
from attnflow.attribution import data
from attnflow.attribution.views import captions
from attnflow.models import literals, tasks

pytestmark = pytest.mark.attack

FEW = 300
MANY = 10_000


def attack(seeds, folder):
    """Load and use the file of each seed; return how many loaded."""
    count = 0
    for seed in seeds:
        path = folder / "hostile"
        path.write_bytes(hostile_file(seed))
        try:
            attributions = loaded(path)
            for attribution in attributions[:3]:
                use(attribution, folder / "again")
            if attributions:
                use_together(attributions)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        count += bool(attributions)
    return count


def test_files_that_are_whole_load(tmp_path):
    for draft in drafts():
        (tmp_path / "whole").write_bytes(draft.bytes())
        attributions = loaded(tmp_path / "whole")
        assert attributions
        for attribution in attributions:
            use(attribution, tmp_path / "again")
        use_together(attributions)


def test_hostile_files_are_refused_or_harmless(tmp_path):
    assert FEW / 10 < attack(range(FEW), tmp_path) < FEW / 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("start", range(FEW, FEW + MANY, 1000))
def test_ten_thousand_hostile_files_are_refused_or_harmless(tmp_path, start):
    assert attack(range(start, start + 1000), tmp_path) > 100


# A field of the file of a whole attribution, the value instead, and what the message says of it.
FAULTS = (
    ("target", 99, "target: expected an integer from 0 to 1, got 99"),
    ("target", "x", "target: expected an integer"),
    ("target", None, "target: expected an integer from 0 to 1, got None"),
    ("target", True, "target: expected an integer"),
    ("truncated", MARKUP, "truncated: expected an integer"),
    ("tokens", [1] * 10, r"tokens\[0\]: expected a text, got 1"),
    ("tokens", [], "tokens: expected a list of at least 1"),
    ("offsets", [["a", "b"]] * 10, r"offsets\[0\]\[0\]: expected an integer from 0 to 28"),
    ("offsets", [], r"offsets: expected a list of 10 \(tokens\), got one of 0"),
    ("offsets", [[0, 99]] * 10, r"offsets\[0\]\[1\]: expected an integer from 0 to 28, got 99"),
    ("offsets", [[5, 2]] * 10, r"offsets\[0\]: expected start <= end"),
    ("labels", [], "labels: expected a list of at least 1"),
    ("labels", ["a"], "target: expected an integer from 0 to 0, got 1"),
    ("text", None, "text: expected a text, got None"),
    ("position", 3, "position: expected None where the task is none of"),
    ("position", 99, "position: expected an integer from 0 to 9"),
    ("against", 7, "against: expected an integer from 0 to 1"),
    ("grid", [2, 2], "grid: expected image, grid and box, or none"),
    ("segments", [], "segments: expected a list of 10"),
    ("attention_sink", "zzz", "attention_sink: expected one of 'keep', .*, got 'zzz'"),
    ("task", "zzz", "task: expected one of"),
    ("readout", 5, "readout: expected one of"),
    ("roles", ["user"], "message_ids: expected one for each token where there are roles"),
    ("message_ids", [5] * 10, r"message_ids\[0\]: expected an integer from 0 to -1"),
    ("model", {"a": 1}, "model: expected a text"),
    ("span", [0, 2], "span: expected None where position is None"),
    ("certificate", {"value": "9"}, "certificate.upper_bound: expected a value, got none"),
    ("certificate", [], "certificate: expected a record"),
    ("scores", [1.0], "scores: expected an array, got"),
    ("unknown", 1, "unknown: expected no field of this name"),
)


@pytest.mark.parametrize(("field", "value", "message"), FAULTS, ids=str)
def test_a_fault_is_named(tmp_path, field, value, message):
    draft = copy.deepcopy(drafts()[0])
    draft.header["attributions"][0][field] = value
    (tmp_path / "file").write_bytes(draft.bytes())
    with pytest.raises(StorageError, match=f"attribution 0, {message}"):
        attnflow.load(tmp_path / "file")


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    (
        ("F8_E4M3", [10], "expected an array of F64, got one of F8_E4M3"),
        ("BF16", [10], "expected an array of F64, got one of BF16"),
        ("C64", [10], "expected an array of F64, got one of C64"),
        ("BOOL", [10], "expected an array of F64, got one of BOOL"),
        ("F64", [9], r"expected the shape \(10 tokens\), got \(9,\)"),
        ("F64", [10, 2], "expected the shape"),
        ("F64", [0], "expected the shape"),
        ("F64", [], "expected the shape"),
    ),
)
def test_arrays_of_another_type_or_shape(tmp_path, dtype, shape, message):
    draft = copy.deepcopy(drafts()[0])
    size = DTYPES[dtype] * int(np.prod(shape))
    draft.tensors["0.scores"] = Tensor(dtype, shape, bytes(size))
    (tmp_path / "file").write_bytes(draft.bytes())
    with pytest.raises(StorageError, match=f"attribution 0, scores: {message}"):
        attnflow.load(tmp_path / "file")


@pytest.mark.parametrize("number", (np.nan, np.inf, -1.0, 1e101))
def test_numbers_that_no_flow_has_are_neither_loaded_nor_saved(tmp_path, number):
    draft = copy.deepcopy(drafts()[0])
    scores = np.full(10, number)
    draft.tensors["0.scores"].data = scores.tobytes()
    (tmp_path / "file").write_bytes(draft.bytes())
    with pytest.raises(StorageError, match="scores: expected finite numbers from 0 to 1e"):
        attnflow.load(tmp_path / "file")
    made = replace(attribution_of("a fine film"), scores=np.full(5, number))
    with pytest.raises(StorageError, match="cannot write .* 0, scores: expected finite"):
        made.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: raw[:9])
def test_json_that_python_would_choke_on(tmp_path, raw):
    draft = copy.deepcopy(drafts()[0])
    draft.header["attributions"][0]["explained"] = "<raw>"
    (tmp_path / "file").write_bytes(draft.bytes(raw))
    assert loaded(tmp_path / "file") == []


@pytest.mark.parametrize("path", (None, b"file", 5, ["file"], "a\0b", "\ud800"))
def test_no_file_has_such_a_name(path):
    with pytest.raises(InputError, match="a file must be given|no file can be named"):
        attnflow.load(path)
    with pytest.raises(InputError, match="a file must be given|no file can be named"):
        attribution_of("a fine film").to_html(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="it is not a file"):
        attnflow.load(tmp_path / "pipe")


def test_tensors_that_end_outside_of_the_file_allocate_nothing(tmp_path):
    draft = copy.deepcopy(drafts()[0])
    draft.tensors["0.scores"].shape = [2**40]
    (tmp_path / "file").write_bytes(draft.bytes())
    tracemalloc.start()
    assert loaded(tmp_path / "file") == []
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_enumerations_are_those_of_options_and_tasks():
    assert get_args(literals.InformationTensor) == data.TENSORS
    assert get_args(literals.Readout) == data.READOUTS
    assert get_args(literals.SinkPolicy) == data.SINK_POLICIES
    assert get_args(literals.Pattern) == data.PATTERNS
    assert {task.name for task in tasks.TASKS} == set(data.TASKS)
    assert set(captions.DECISIONS) == set(data.POSITIONED)
    assert {status.name.lower() for status in Status} == set(get_args(data.CertificateStatus))
