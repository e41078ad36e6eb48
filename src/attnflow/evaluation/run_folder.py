"""The folder of a run: what is measured, with which versions, and the rows measured so far.

`run.json` has the settings and the versions; `rows.jsonl` has a line for each method and example,
in the order in which they were finished. Damaged lines are moved to `rows.damaged.jsonl` when the
run is resumed, and measured anew. Read next: `rows`, `harness`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnflow.errors import InputError, shown, warn
from attnflow.evaluation.datasets import Example
from attnflow.evaluation.json_lines import DamagedLine, read_records, resume_records
from attnflow.evaluation.protocol import Protocol
from attnflow.evaluation.rows import Row, RowCheck, RowLayout, is_finite
from attnflow.files import is_there, parse_json, read_bytes, write_whole
from attnflow.methods import Instance
from attnflow.versions import installed_versions

ROWS, RUN = "rows.jsonl", "run.json"
FINGERPRINTED = 5  # texts by which a run recognises its data and its model
LIBRARIES = ("attnflow", "torch", "transformers", "numpy", "captum", "shap", "igraph")
RENAMED = {"least": "min_tokens", "most": "max_tokens"}  # settings of older runs
NAMED = 3  # damaged lines that a warning names


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, without its methods, that must not change when it is resumed.

    Attributes:
        model: Name or folder of the model.
        data: File, folder or id of the texts or images.
        protocol: How rankings are judged.
        limit: Largest number of examples; the only setting that may change.
        min_tokens: Fewest tokens of a text.
        max_tokens: Most tokens of a text.
        noise: What was done to the texts, a name of `NOISE`.
        position: Where the next token of a language model is explained, one of
            `sampling.POSITIONS`.
    """

    model: str
    data: str
    protocol: Protocol
    limit: int | None = None
    min_tokens: int = 10
    max_tokens: int = 256
    noise: str | None = None
    position: str = "end"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for JSON.

        Paths keep their last two parts alone, so that a run does not depend on a machine.
        """
        # By way of JSON, so that tuples are lists, as in the file that these are compared with.
        settings = json.loads(json.dumps(asdict(self)))
        return {**settings, "model": _last_parts(self.model), "data": _last_parts(self.data)}


def _last_parts(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def open_run(
    settings: RunSettings, folder: Path, instances: Sequence[tuple[Example, Instance]]
) -> list[Row]:
    """Make the folder of a run, or resume the run in it, and return the rows measured so far.

    Args:
        settings: What is measured.
        folder: An existing folder, in which no other process writes.
        instances: The examples with their instances.

    Raises:
        InputError: The folder holds a run with other settings, texts or probabilities, or its
            settings are damaged.
        StorageError: A file in the folder cannot be read or written.
    """
    fingerprints = _fingerprints(instances)
    current = {**settings.to_dict(), "texts": [_digest(one) for one in fingerprints]}
    versions = installed_versions(LIBRARIES)
    record: dict[str, Any] = {"run": current, "versions": [versions]}
    if is_there(folder / RUN):
        record = read_run(folder)
        before = _current_names(record["run"])
        if isinstance(before["texts"], str):
            before["texts"] = _digests_of_older(before["texts"], fingerprints)
        _check_same_run(current, before, folder)
        # A smaller limit forgets no text: later runs are compared with all of them.
        current["texts"] = max(current["texts"], before["texts"], key=len)
        if versions not in record["versions"][-1:]:
            # All are kept: rows of one run may come from several versions.
            record["versions"].append(versions)
        # The limit alone may differ from before.
        record["run"] = current
    elif is_there(folder / ROWS) and read_bytes(folder / ROWS).strip():
        raise InputError(f"{folder} has {ROWS} and no {RUN}{_WITHOUT_SETTINGS}")
    write_whole(folder / RUN, json.dumps(record, indent=2) + "\n", overwrite=True)
    known = {example.index: instance for example, instance in instances}
    check = RowCheck(RowLayout.of(current["protocol"]), known)
    return resume_records(folder / ROWS, check=check, on_damage=_set_aside)


def _set_aside(path: Path, damaged: Sequence[DamagedLine]) -> None:
    warn(
        f"{path}: {_named(damaged)}. Damaged lines are moved to "
        f"{path.stem}.damaged{path.suffix} next to it, and measured anew."
    )


def _leave_out(path: Path, damaged: Sequence[DamagedLine]) -> None:
    warn(
        f"{path}: {_named(damaged)}. Damaged lines are left out; the command that measured them "
        "measures them anew."
    )


def _named(damaged: Sequence[DamagedLine]) -> str:
    named = "; ".join(f"line {line.number} {line.reason:.160}" for line in damaged[:NAMED])
    return named if len(damaged) <= NAMED else f"{named}; and {len(damaged) - NAMED} more"


def _check_same_run(current: dict[str, Any], before: dict[str, Any], folder: Path) -> None:
    """Raise unless nothing but the limit differs."""
    for key, value in current.items():
        if key not in ("limit", "texts") and before.get(key) != value:
            raise InputError(
                f"{folder} holds a run with another {key} ({shown(before.get(key), 300)}, not "
                f"{shown(value, 300)}): name another folder."
            )
    # One of the runs may have fewer texts, by its limit.
    both = zip(current["texts"], before["texts"], strict=False)
    if not before["texts"] or any(now != then for now, then in both):
        raise InputError(
            f"{folder} holds a run of other texts, or of a model that gives other probabilities: "
            "name another folder."
        )


def _current_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an older run under the names of today, so that it can be resumed."""
    renamed = {RENAMED.get(key, key): value for key, value in settings.items()}
    position = renamed.get("position", RunSettings.position)
    return {**renamed, "position": "random" if position == "drawn" else position}


def _fingerprints(instances: Sequence[tuple[Example, Instance]]) -> list[bytes]:
    """Return the bytes of the first inputs and of the model's probabilities for each."""
    fingerprints = []
    for _, instance in instances[:FINGERPRINTED]:
        adapter = instance.adapter
        log_p = adapter.log_probabilities([adapter.whole_variant(instance.content)])[0]
        # Rounded, since another machine's last digits are not another model.
        fingerprints.append(adapter.identity(instance.content) + log_p.round(2).tobytes())
    return fingerprints


def _digest(fingerprint: bytes) -> str:
    return hashlib.sha256(fingerprint).hexdigest()[:16]


def _digests_of_older(digest: str, fingerprints: Sequence[bytes]) -> list[str]:
    """Return a digest for each text of an older run, which has one of all; [] if others made it."""
    for count in range(len(fingerprints), 0, -1):
        if _digest(b"".join(fingerprints[:count])) == digest:
            return [_digest(one) for one in fingerprints[:count]]
    return []


def read_rows(folder: Path) -> list[Row]:
    """Return all whole rows of a run's folder; damaged lines are left out with a warning.

    Raises:
        InputError: There is no run, or its settings are damaged.
        StorageError: A file in it cannot be read.
    """
    path = _existing(folder, ROWS)
    check = RowCheck(RowLayout.of(read_run(folder)["run"]["protocol"]))
    return read_records(path, check=check, on_damage=_leave_out)


def read_runs(folders: Sequence[Path]) -> list[Row]:
    """Return the whole rows of several runs, as if they were of one.

    The same text in two runs counts as two examples: it may have been cut elsewhere. Examples are
    numbered anew after those of the first run.

    Raises:
        InputError: As `read_rows`, or a folder has another model or protocol than the first, or
            is named twice.
    """
    rows: list[Row] = []
    first = _judged(folders[0]) if len(folders) > 1 else {}
    for at, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:at]]:
            raise InputError(f"{folder} is named twice: its texts would count twice.")
        if at:
            _check_judged_alike(first, folders[0], _judged(folder), folder)
        # The next number after all so far; 0 in the first run.
        start = 1 + max((row["example"] for row in rows), default=-1)
        rows += [{**row, "example": start + row["example"]} for row in read_rows(folder)]
    return rows


def _check_judged_alike(
    first: dict[str, Any], first_folder: Path, other: dict[str, Any], folder: Path
) -> None:
    for key in first | other:  # an older run may lack a setting
        if other.get(key) != first.get(key):
            raise InputError(
                f"{folder} holds a run with another {key} than {first_folder} "
                f"({shown(other.get(key), 300)}, not {shown(first.get(key), 300)}): show it by "
                "itself."
            )


def _judged(folder: Path) -> dict[str, Any]:
    """Return what rows of several runs must have in common."""
    run = read_run(folder)["run"]
    # The seed draws texts and breaks ties: another one judges in the same way.
    protocol = {key: value for key, value in run["protocol"].items() if key != "seed"}
    return {"model": run["model"], **protocol}


def read_run(folder: Path) -> dict[str, Any]:
    """Return the settings and versions of a run's folder.

    Raises:
        InputError: There is no run, or its settings are damaged.
        StorageError: They cannot be read.
    """
    path = _existing(folder, RUN)
    content = read_bytes(path)
    try:
        record = parse_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        fault: str | None = "is not UTF-8"
    except InputError as error:
        fault = f"is not JSON: {error}" if content.strip() else "is empty"
    else:
        fault = _fault_of_record(record)
    if fault is not None:
        raise InputError(f"{path} {fault}{_WITHOUT_SETTINGS}")
    return {"versions": [], **record}


_WITHOUT_SETTINGS = (
    ": without settings nothing tells what the rows are of. Put a copy of the file back, or name "
    "another folder."
)


def _fault_of_record(record: object) -> str | None:
    """Return what is wrong with settings and versions as a file has them, None if nothing is."""
    if not isinstance(record, dict):
        return "is not a JSON object"
    run, versions = record.get("run"), record.get("versions", [])
    if not isinstance(versions, list):
        return "has no list of versions"
    if not isinstance(run, dict):
        return "has no settings of a run"
    for name in ("model", "data"):
        if not isinstance(run.get(name), str):
            return f"has no name of the {name}"
    texts, protocol = run.get("texts"), run.get("protocol")
    if not isinstance(texts, str | list) or not all(isinstance(text, str) for text in texts):
        return "has no fingerprints of the texts"
    if not isinstance(protocol, dict):
        return "has no protocol"
    shares, operators = protocol.get("shares"), protocol.get("operators")
    if not (isinstance(shares, list) and shares and all(map(is_finite, shares))):
        return "has no shares in its protocol"
    if not (isinstance(operators, list) and operators and all(type(o) is str for o in operators)):
        return "has no operators in its protocol"
    return None


def _existing(folder: Path, name: str) -> Path:
    if not is_there(folder):
        raise InputError(f"{folder} holds no run: there is no such folder.")
    if not is_there(folder / name):
        raise InputError(f"{folder} holds no run: there is no {name} in it.")
    return folder / name
