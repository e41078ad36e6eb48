"""Methods x examples -> rows in a file of JSON lines that a killed run goes on from.

A run is a folder: `run.json` says what is measured, with what versions; `rows.jsonl` has one line
for each method and example, in the order in which they were finished. A line is written at once and
whole; what a kill cut short at the end of the file is dropped when the run goes on. A method's
answer never depends on which others are asked, so methods can be added later.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from attnflow.errors import InputError, ModelError, StorageError, UnsolvedError
from attnflow.evaluation.datasets import Example
from attnflow.evaluation.protocol import (
    EXTERNAL,
    MethodOutput,
    Protocol,
    measure_faithfulness,
    run_method,
)
from attnflow.files import write_whole
from attnflow.methods import METHODS, Instance, Method, Scores

ROWS, RUN = "rows.jsonl", "run.json"
FIRST = 5  # texts by which a run is known again
TIMED = 20  # examples at first, whose seconds are measured; later methods share passes of the model
LIBRARIES = ("attnflow", "torch", "transformers", "numpy", "captum", "shap", "igraph")

Row = dict[str, Any]


@dataclass(frozen=True)
class RunSettings:
    """What a run measures, beside its methods: all that must not change when it goes on.

    Attributes:
        model: Name or folder of the model.
        data: File, folder or id of the texts or images.
        protocol: How rankings are judged.
        limit: Most texts.
        min_tokens, max_tokens: Bounds of a text's tokens.
        noise: What was done to the texts, a name of `NOISE`.
        position: Where a language model was asked, a name of `choosing.POSITIONS`.
    """

    model: str
    data: str
    protocol: Protocol
    limit: int | None = None
    min_tokens: int = 10
    max_tokens: int = 256
    noise: str | None = None
    position: str = "end"

    def settings(self) -> dict[str, Any]:
        """For JSON; paths by their last two parts, so that a run does not depend on a machine."""
        found = json.loads(json.dumps(asdict(self)))
        return {**found, "model": _tail(self.model), "data": _tail(self.data)}


def _tail(name: str) -> str:
    return "/".join(Path(name).parts[-2:])


def evaluate(
    run: RunSettings,
    instances: Sequence[tuple[Example, Instance]],
    methods: Sequence[Method],
    folder: Path,
    *,
    external_scores: Mapping[str, Mapping[int, Scores]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Row]:
    """Measure what is still missing in a folder, and return all its rows.

    Args:
        run: What is measured.
        instances: Of `examples.chosen`.
        methods: Each is asked every instance that it has no row for.
        folder: Made if there is none.
        external_scores: Scores made elsewhere, `(t,)` by example index, by name.
        progress: Called with the number of rows finished, at first those that were there.

    Raises:
        InputError: The folder holds a run of something else, the protocol asks what the model's
            kind cannot do, or it wants labels explained and an instance does not ask for its own.
        StorageError: The folder or a file in it cannot be written.
    """
    for adapter in {id(q.adapter): q.adapter for _, q in instances}.values():
        run.protocol.check(adapter)
    _check_targets(run.protocol, instances)
    own = dict(external_scores or {})
    _check_external_scores(own, instances, methods)
    wanted = list({m.name: m for m in (*methods, *map(partial(_given, own), own))}.values())
    rows = _opened(run, folder, instances)
    done = {(row["method"], row["example"]) for row in rows}
    if progress is not None:
        named = {m.name for m in wanted}
        progress(sum(row["method"] in named for row in rows))
    with open(folder / ROWS, "a", encoding="utf-8") as file:
        for at, (example, kept) in enumerate(instances):
            instance = kept.with_empty_cache()  # else all instances' passes stay in memory
            asked = [m for m in wanted if (m.name, example.index) not in done]
            asked = [m for m in asked if m.passes != EXTERNAL or example.index in own[m.name]]
            answers, failed = _answers(example, instance, asked, timed=at < TIMED)
            for row in failed + list(_rows(example, instance, answers, run.protocol)):
                rows.append(row)
                file.write(json.dumps(row) + "\n")
            file.flush()
            if progress is not None and asked:
                progress(len(asked))
        os.fsync(file.fileno())
    return rows


def _check_targets(protocol: Protocol, instances: Sequence[tuple[Example, Instance]]) -> None:
    if protocol.target == "label":
        for example, instance in instances:
            if example.label != instance.target:
                raise InputError(
                    f"the protocol explains labels, but the instance of example {example.index} "
                    f"is about class {instance.target}, not {example.label}: choose the instances "
                    "with target='label'."
                )


def _check_external_scores(
    external_scores: Mapping[str, Mapping[int, Scores]],
    instances: Sequence[tuple[Example, Instance]],
    methods: Sequence[Method],
) -> None:
    """Scores made elsewhere have a name of their own, and a finite number for every token."""
    taken = [
        name for name in external_scores if name in {m.name for m in methods} or name in METHODS
    ]
    if taken:
        raise InputError(f"{taken[0]!r} is the name of a method: give your scores another.")
    for name, scores in external_scores.items():
        for example, instance in instances:
            own = scores.get(example.index)
            if own is not None and not (own.shape == (instance.nodes,) and np.isfinite(own).all()):
                raise InputError(
                    f"the scores of {name!r} for example {example.index} must be "
                    f"{instance.nodes} finite numbers, one for each token, got {own.size}."
                )


def _given(external_scores: Mapping[str, Mapping[int, Scores]], name: str) -> Method:
    """Scores made elsewhere as a method; an instance's seed is its example's index."""
    return Method(name, lambda instance: external_scores[name][instance.seed], EXTERNAL)


def _answers(
    example: Example, instance: Instance, asked: Sequence[Method], *, timed: bool
) -> tuple[list[MethodOutput], list[Row]]:
    """What the methods say, and a row for each that cannot, with the reason."""
    answers, failed = [], []
    for method in asked:
        try:
            one = run_method(method, instance, timed=timed and method.passes != EXTERNAL)
            answers.append(one)
        except (ModelError, UnsolvedError) as error:
            failed.append({"example": example.index, "method": method.name, "failed": str(error)})
    return answers, failed


def _rows(
    example: Example, instance: Instance, answers: Sequence[MethodOutput], protocol: Protocol
) -> Iterator[Row]:
    if not answers:
        return
    for row in measure_faithfulness(instance, answers, protocol):
        head = {"example": example.index, "label": example.label, "target": instance.target}
        yield {**head, "tokens": instance.nodes, **row}


def _opened(
    run: RunSettings, folder: Path, instances: Sequence[tuple[Example, Instance]]
) -> list[Row]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror}.") from error
    path, settings = folder / RUN, {**run.settings(), "texts": _fingerprint(instances)}
    here = versions()
    record: dict[str, Any] = {"run": settings, "versions": [here]}
    if path.exists():
        record = read_run(folder)
        before = _current_names(record["run"])
        differing = [key for key, value in settings.items() if before.get(key) != value]
        differing = [key for key in differing if key != "limit"]
        if differing:
            raise InputError(
                f"{folder} holds a run with another {differing[0]} "
                f"({before.get(differing[0])!r}, not {settings[differing[0]]!r}): name another "
                "folder."
            )
        if record["versions"][-1] != here:
            record["versions"].append(here)
        record["run"] = settings
    write_whole(path, json.dumps(record, indent=2) + "\n", overwrite=True)
    return _mended(folder / ROWS)


def _current_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of an older run under the names of today, so that it can be resumed."""
    names = {"least": "min_tokens", "most": "max_tokens"}
    renamed = {names.get(key, key): value for key, value in settings.items()}
    position = renamed.get("position", RunSettings.position)
    return {**renamed, "position": "random" if position == "drawn" else position}


def _fingerprint(instances: Sequence[tuple[Example, Instance]]) -> str:
    """Of the first texts as the model reads them and of what it says: other data, other number."""
    content = hashlib.sha256()
    for _, instance in instances[:FIRST]:
        adapter = instance.adapter
        found = adapter.log_probabilities([adapter.whole_variant(instance.content)])[0]
        content.update(adapter.identity(instance.content) + found.round(2).tobytes())
    return content.hexdigest()[:16]


def _mended(path: Path) -> list[Row]:
    """The rows of a file, from whose end a line that was cut short is removed."""
    if not path.exists():
        return []
    whole = _whole_lines(path)
    if len(whole) < path.stat().st_size:
        write_whole(path, whole, overwrite=True)
    return _parsed(whole, path)


def _whole_lines(path: Path) -> bytes:
    """A file up to the end of its last line that was not cut short."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _parsed(lines: bytes, path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(lines.decode("utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number} is no JSON: {error}.") from error
    return rows


def read_rows(folder: Path) -> list[Row]:
    """All whole rows of a run's folder.

    Raises:
        InputError: There is no run, or a line of it is no JSON.
    """
    path = folder / ROWS
    if not path.exists():
        raise InputError(f"{folder} holds no run: there is no {ROWS} in it.")
    return _parsed(_whole_lines(path), path)


def read_run(folder: Path) -> dict[str, Any]:
    """What a run's folder says it measures."""
    path = folder / RUN
    if not path.exists():
        raise InputError(f"{folder} holds no run: there is no {RUN} in it.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def versions() -> dict[str, str]:
    """Of Python and the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
