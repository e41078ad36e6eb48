"""Files of JSON lines after a kill, and the versions written next to them."""

import platform

import pytest

from attnflow import InputError
from attnflow.evaluation.json_lines import as_lines, read_records, resume_records
from attnflow.versions import installed_version, installed_versions

pytestmark = pytest.mark.attack

RECORDS = [{"name": "a", "value": 1.5}, {"name": "b", "value": None}]


@pytest.fixture
def path(tmp_path):
    """A file of two records and half a line."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(as_lines(RECORDS) + b'{"name": "c", "va')
    return path


def test_half_a_line_is_not_read_and_reading_does_not_change_the_file(path):
    before = path.read_bytes()
    assert read_records(path) == RECORDS
    assert path.read_bytes() == before


def test_a_resumed_file_takes_the_next_record_on_a_line_of_its_own(path):
    assert resume_records(path) == RECORDS
    with path.open("ab") as file:
        file.write(as_lines([{"name": "c"}]))
    assert read_records(path) == [*RECORDS, {"name": "c"}]


def test_no_file_has_no_records(tmp_path):
    assert resume_records(tmp_path / "none.jsonl") == []
    assert not (tmp_path / "none.jsonl").exists()


def test_a_whole_line_that_is_no_json_is_named(path):
    path.write_text('{"name": "a"}\nname: b\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2 is not JSON"):
        resume_records(path)


def test_versions_of_what_is_installed_and_what_is_not():
    versions = installed_versions(("numpy", "no-such-library"))
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == installed_version("numpy") != "not installed"
    assert versions["no-such-library"] == "not installed"
