"""Files of attributions: dictionaries of fields in and out, as safetensors.

A file holds arrays by number and name ("0.scores"), and all other fields as JSON in its header. No
class is built here and nothing is unpickled: what the fields must be is stated in `data`, and
checked by `schema`. A file may come from anyone. Its tensors lie inside of it, or safetensors
refuses it, so that no more is ever allocated than the file is long; its header is 100 MB at most.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from attnflow.attribution.data import ARRAYS, SCHEMA_VERSION
from attnflow.attribution.forms import LARGEST_INTEGER, Misfit, Unread, described
from attnflow.errors import StorageError
from attnflow.files import write_whole

_DIGITS = len(str(LARGEST_INTEGER))


def write_records(records: Sequence[Mapping[str, Any]], path: Path, *, overwrite: bool) -> Path:
    """Write one dictionary of fields for each attribution, and return `path`.

    Values are numpy arrays, or what JSON holds.

    Raises:
        StorageError: The file exists and `overwrite` is false, or cannot be written.
    """
    arrays = {
        f"{i}.{name}": np.ascontiguousarray(value)
        for i, record in enumerate(records)
        for name, value in record.items()
        if isinstance(value, np.ndarray)
    }
    plain = [
        {name: value for name, value in record.items() if not isinstance(value, np.ndarray)}
        for record in records
    ]
    header = {"schema_version": SCHEMA_VERSION, "attributions": plain}
    data = safetensors.numpy.save(arrays, {"attnflow": json.dumps(header, allow_nan=False)})
    return write_whole(path, data, overwrite=overwrite)


@contextmanager
def read_records(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the dictionary of fields of each attribution in a file; arrays are `Unread`.

    They can be read until the context ends.

    Raises:
        StorageError: The file is missing, is not a file of attributions, or is of a newer schema.
    """
    with refusing_malformed(path):
        # A pipe would be waited for, and a device is of any length.
        if path.exists() and not path.is_file():
            raise StorageError(f"cannot read {path}: it is not a file.")
        opened = safetensors.safe_open(path, framework="numpy")
    with opened as file:
        with refusing_malformed(path):
            records = _records(path, file)
        yield records


def _records(path: Path, file: Any) -> list[dict[str, Any]]:
    # A file of another program may have no metadata at all.
    header = _parsed((file.metadata() or {}).get("attnflow"))
    _check_version(path, header.get("schema_version"))
    plain = header.get("attributions")
    if not isinstance(plain, list) or not plain:
        raise Misfit("attributions", "a list of at least one", described(plain))
    records: list[dict[str, Any]] = []
    for i, record in enumerate(plain):
        if not isinstance(record, dict):
            raise Misfit(f"attribution {i}", "a record", described(record))
        for name in ARRAYS.keys() & record.keys():
            raise Misfit(f"attribution {i}, {name}", "an array", described(record[name]))
        records.append(dict(record))
    for name in file.keys():
        number, _, field = name.partition(".")
        # In one spelling, so that no two arrays are for one field.
        i = int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else -1
        if not 0 <= i < len(records) or str(i) != number or field not in ARRAYS:
            expected = f"names such as '0.scores' below {len(records)}"
            raise Misfit("arrays", expected, described(name))
        part = file.get_slice(name)
        dtype, shape = part.get_dtype(), tuple(part.get_shape())
        records[i][field] = Unread(dtype, shape, partial(file.get_tensor, name))
    return records


def _parsed(header: str | None) -> dict[str, Any]:
    """Return the header's JSON, whose numbers are all of a size that they can be shown in."""
    if header is None:
        raise Misfit("metadata", "'attnflow'", "none")
    try:
        parsed = json.loads(header, parse_int=_integer, parse_constant=_constant)
    except RecursionError as error:
        raise Misfit("metadata", "JSON a few levels deep", "one of too many") from error
    if not isinstance(parsed, dict):
        raise Misfit("metadata", "a record", described(parsed))
    return parsed


def _integer(digits: str) -> int:
    # Python itself refuses thousands of digits, and takes quadratic time up to there.
    if len(digits) > _DIGITS + 1:
        raise Misfit("metadata", f"integers of at most {_DIGITS} digits", f"one of {len(digits)}")
    return int(digits)


def _constant(name: str) -> float:
    raise Misfit("metadata", "finite numbers", name)


def _check_version(path: Path, version: Any) -> None:
    """Raise unless the schema is known; a newer file may have another form altogether."""
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Misfit("schema_version", f"1 to {SCHEMA_VERSION}", described(version))
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} has schema {version} and this attnflow reads up to {SCHEMA_VERSION}: upgrade "
            "attnflow."
        )


@contextmanager
def refusing_malformed(path: Path, number: int | None = None) -> Iterator[None]:
    """Turn the errors of a missing or malformed file into a `StorageError` about `path`.

    Args:
        path: The file.
        number: The attribution in it that is read, from 0; None where it is the file as a whole.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}.") from error
    except (safetensors.SafetensorError, ValueError) as error:
        about = "" if number is None else f"attribution {number}, "
        # Those of parsers cite the file.
        reason = str(error) if isinstance(error, Misfit) else described(str(error))
        raise StorageError(
            f"{path} is not a file of attributions: expected one written by Attribution.save "
            f"or --save ({about}{reason})."
        ) from error
