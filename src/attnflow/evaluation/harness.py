"""Measure methods on examples, and keep every row so that a killed run can be resumed.

1. `open_run` makes the run's folder, or reads the rows measured so far.
2. Every method that has no row for an example yet scores it (`run_method`).
3. The protocol removes what the scores rank first and asks the model (`measure_faithfulness`).
4. The rows are written at once, an example at a time.

A method's scores never depend on which other methods run, so methods can be added later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from attnflow.errors import InputError, ModelError, UnsolvedError
from attnflow.evaluation.datasets import Example
from attnflow.evaluation.json_lines import as_lines
from attnflow.evaluation.protocol import (
    EXTERNAL,
    MethodOutput,
    Protocol,
    measure_faithfulness,
    run_method,
)
from attnflow.evaluation.rows import Row, RowLayout
from attnflow.evaluation.run_folder import ROWS, RunSettings, open_run
from attnflow.files import Growing, make_folder
from attnflow.methods import METHODS, Instance, Method, Scores
from attnflow.one_writer import one_writer

TIMED = 20  # only the first examples are timed; later ones share passes between methods

ExternalScores = Mapping[str, Mapping[int, Scores]]


def evaluate(
    settings: RunSettings,
    instances: Sequence[tuple[Example, Instance]],
    methods: Sequence[Method],
    folder: Path,
    *,
    external_scores: ExternalScores | None = None,
    progress: Callable[[int], object] | None = None,
    wait: bool = False,
) -> list[Row]:
    """Measure what is still missing in a folder, and return all its rows.

    Args:
        settings: What is measured.
        instances: Each example with its instance (the content and the class or token to explain),
            from `sample_instances`.
        methods: Methods to measure. A method scores the instances for which the folder has no row
            of it.
        folder: Folder of the run. Created if missing.
        external_scores: Scores computed elsewhere: name -> example index -> `(t,)` scores.
        progress: Called with the number of rows finished, first with the number found in the
            folder.
        wait: Wait for another process that writes into the folder, instead of an error.

    Raises:
        InputError: The folder holds a run with other settings, texts or probabilities; the
            protocol needs what the model's kind cannot do; or the protocol explains labels, and an
            instance explains another class than the label of its example.
        StorageError: The folder or a file in it cannot be written, or another process writes there.
    """
    for adapter in {id(i.adapter): i.adapter for _, i in instances}.values():
        settings.protocol.check(adapter)
    _check_targets(settings.protocol, instances)
    external = dict(external_scores or {})
    _check_external_scores(external, instances, methods)
    every = {m.name: m for m in (*methods, *map(partial(_external_method, external), external))}
    make_folder(folder)
    with one_writer(folder, wait=wait):
        rows = open_run(settings, folder, instances)
        done = {(row["method"], row["example"]) for row in rows}
        if progress is not None:
            progress(sum(row["method"] in every for row in rows))
        with Growing(folder / ROWS) as file:
            for i, (example, instance) in enumerate(instances):
                pending = [
                    method
                    for method in every.values()
                    if (method.name, example.index) not in done
                    # A file of scores may lack examples.
                    and (method.passes != EXTERNAL or example.index in external[method.name])
                ]
                if not pending:
                    continue
                new = _measure(example, instance, pending, settings.protocol, timed=i < TIMED)
                file.append(as_lines(new))
                rows += new
                if progress is not None:
                    progress(len(pending))
    return rows


def _check_targets(protocol: Protocol, instances: Sequence[tuple[Example, Instance]]) -> None:
    if protocol.target != "label":
        return
    for example, instance in instances:
        if example.label != instance.target:
            raise InputError(
                f"the protocol explains labels, but the instance of example {example.index} "
                f"is about class {instance.target}, not {example.label}: choose the instances "
                "with target='label'."
            )


def _check_external_scores(
    external_scores: ExternalScores,
    instances: Sequence[tuple[Example, Instance]],
    methods: Sequence[Method],
) -> None:
    """Raise unless all scores have names of their own, and a finite number for every token."""
    # Every method's name, since any may be added to the folder later.
    taken = {m.name for m in methods} | set(METHODS)
    for name, by_example in external_scores.items():
        if name in taken:
            raise InputError(f"{name!r} is the name of a method: choose another name.")
        for example, instance in instances:
            scores = by_example.get(example.index)
            if scores is None:
                continue
            if scores.shape != (instance.nodes,) or not np.isfinite(scores).all():
                raise InputError(
                    f"the scores of {name!r} for example {example.index} must be "
                    f"{instance.nodes} finite numbers, one for each token, got {scores.size}."
                )


def _external_method(external_scores: ExternalScores, name: str) -> Method:
    """Return a method that looks its scores up; an instance's seed is its example's index."""
    return Method(name, lambda instance: external_scores[name][instance.seed], EXTERNAL)


def _measure(
    example: Example, instance: Instance, methods: Sequence[Method], protocol: Protocol, *,
    timed: bool,
) -> list[Row]:  # fmt: skip
    """Return a row for each method, with the reason in place of numbers where it failed."""
    fresh = instance.with_empty_cache()  # otherwise every instance's passes stay in memory
    outputs: list[MethodOutput] = []
    rows: list[Row] = []
    for method in methods:
        try:
            outputs.append(run_method(method, fresh, timed=timed and method.passes != EXTERNAL))
        except (ModelError, UnsolvedError) as error:
            rows.append({"example": example.index, "method": method.name, "failed": str(error)})
    if outputs:
        head = {
            "example": example.index,
            "label": example.label,
            "target": instance.target,
            "tokens": instance.nodes,
        }
        measured = measure_faithfulness(fresh, outputs, protocol)
        rows += [_finite({**head, **row}, protocol) for row in measured]
    return rows


def _finite(row: Row, protocol: Protocol) -> Row:
    """Return a row, or its failure where a metric is not a finite number."""
    fault = RowLayout.of(asdict(protocol)).fault(row)
    if fault is None:
        return row
    failure = f"{row['method']} gave a row that {fault}."
    return {"example": row["example"], "method": row["method"], "failed": failure}
