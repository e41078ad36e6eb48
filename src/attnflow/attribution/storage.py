"""Files of attributions: dictionaries of fields in and out, as safetensors.

A file holds arrays by number and name ("0.scores"), and all other fields as JSON in its header. No
class is built here and nothing is unpickled: what the fields mean is stated in `data`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from attnflow.attribution.data import SCHEMA_VERSION
from attnflow.errors import StorageError
from attnflow.files import write_whole


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
    data = safetensors.numpy.save(arrays, {"attnflow": json.dumps(header)})
    return write_whole(path, data, overwrite=overwrite)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the dictionary of fields of each attribution in a file.

    Raises:
        StorageError: The file is missing, is not a file of attributions, or is of a newer schema.
    """
    with refusing_malformed(path):
        with safetensors.safe_open(path, framework="numpy") as file:
            # A file of another program may have no metadata at all.
            header = json.loads((file.metadata() or {})["attnflow"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        is_newer = header["schema_version"] > SCHEMA_VERSION
    # Before anything else is read: a newer file may have another form altogether.
    if is_newer:
        raise StorageError(
            f"{path} has schema {header['schema_version']} and this attnflow reads up to "
            f"{SCHEMA_VERSION}: upgrade attnflow."
        )
    with refusing_malformed(path):
        records = [dict(record) for record in header["attributions"]]
        for name, array in arrays.items():
            index, _, field = name.partition(".")
            records[int(index)][field] = array
        return records


@contextmanager
def refusing_malformed(path: Path) -> Iterator[None]:
    """Turn the errors of a missing or malformed file into a `StorageError` about `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}.") from error
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
        raise StorageError(
            f"{path} is not a file of attributions: expected one written by Attribution.save "
            f"or --save ({error})."
        ) from error
