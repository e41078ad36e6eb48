"""Judge all methods on one example: the model's probabilities without what each ranks first.

1. `run_method` scores the nodes, and `rank_units` orders the units: tokens, words or patches.
2. An operator removes the first units at each share, or all others.
3. The variants of all methods go to the model together, and those that several methods share only
   once: short texts share most of them.
4. Each method gets a row of log-probabilities, which `metrics` turns into numbers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.capture import whole_units
from attnflow.errors import InputError, ModelError, shown
from attnflow.evaluation.extra_metrics import EXTRAS, EXTRAS_OF_ANY, MetricInput
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.ranking import GRANULARITIES, Ranking, rank_units, unit_masks
from attnflow.evaluation.sampling import TARGETS
from attnflow.methods import Instance, Method, ModelAdapter, Scores

EXTERNAL = "made elsewhere"  # `Method.passes` of scores that come with a file
COUNTED = ("units", "positions")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Protocol:
    """Rules by which rankings are judged.

    Attributes:
        shares: Shares of the units to remove or keep, inside (0, 1].
        counted: The whole that shares refer to: "units", rounded up; or "positions", all tokens
            and special ones too, rounded to the nearest number and at most all units.
        operators: Names of `OPERATORS`.
        granularity: The unit that is removed as a whole, a name of `ranking.GRANULARITIES`.
        target: The class explained, "predicted" by the model or the "label" of the text.
        precision: Precision of the passes that judge, "float32" or "bfloat16". The latter is
            several times as fast where the processor has it, and changes a probability by some
            thousandths. Methods always run as the model is.
        kept: True to judge also what is left when only the top is kept, for sufficiency and
            insertion and as many passes again.
        seed: Of the order of ties, together with the text's own.
        extras: Names of `EXTRAS`, metrics that cost more.
    """

    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    operators: tuple[str, ...] = ("mask", "delete")
    granularity: str = "token"
    counted: str = "units"
    target: str = "predicted"
    precision: str = "float32"
    kept: bool = True
    seed: int = 0
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise InputError(f"shares must lie inside (0, 1], got {shown(self.shares)}.")
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"seed must be an integer of at least 0, got {shown(self.seed)}.")
        for option, names, known in (
            ("operators", self.operators, tuple(OPERATORS)),
            ("granularity", (self.granularity,), GRANULARITIES),
            ("counted", (self.counted,), COUNTED),
            ("target", (self.target,), TARGETS),
            ("precision", (self.precision,), PRECISIONS),
            ("extras", self.extras, tuple(EXTRAS)),
        ):
            unknown = [name for name in names if name not in known]
            if unknown or (option == "operators" and not names):
                raise InputError(f"{option} must be of {', '.join(known)}, got {shown(names)}.")

    def check(self, adapter: ModelAdapter) -> None:
        """Raise unless the adapter's kind of model can do all that the protocol needs.

        Raises:
            InputError: It cannot.
        """
        known = tuple(EXTRAS) if adapter.has_embeddings else EXTRAS_OF_ANY
        for option, names, possible in (
            ("operators", self.operators, tuple(adapter.operators)),
            ("granularity", (self.granularity,), adapter.granularities),
            ("extras", self.extras, known),
        ):
            impossible = [name for name in names if name not in possible]
            if impossible:
                raise InputError(
                    f"{option}: {impossible[0]!r} is not for {adapter.kind}: expected "
                    f"{', '.join(possible)}."
                )

    @property
    def bfloat16(self) -> bool:
        """True where the passes that judge multiply in bfloat16."""
        return self.precision == "bfloat16"

    def counts(self, units: int, positions: int) -> list[int]:
        """Number of units to remove at each share, for a text of `units` units and `positions`."""
        if self.counted == "units":
            return [whole_units(share, units) for share in self.shares]
        return [min(units, round(share * positions)) for share in self.shares]


# AttCAT's code (Qiang et al. 2022), with what is unusual in it. The label is explained, not what
# the model predicts. Shares are of all positions, special tokens too, which yet are passed over.
# [PAD] is attended, and changes count without their sign (`absolute_aopc`). Two things are left
# out. That code hides the special tokens from attention while it explains, which is another model.
# And it never removes the token that comes last of all.
PRESETS = {
    "paper": Protocol(),
    "attcat": Protocol(
        shares=tuple(k / 9 for k in range(1, 10)),
        operators=("delete", "pad-attended"),
        counted="positions",
        target="label",
    ),
}


@dataclass(frozen=True)
class MethodOutput:
    """A method's scores for an instance, and the seconds that they took, None if not measured."""

    method: Method
    scores: Scores
    seconds: float | None


def run_method(method: Method, instance: Instance, *, timed: bool = True) -> MethodOutput:
    """Score an instance by a method.

    Args:
        method: A way to score nodes.
        instance: The content and class to explain.
        timed: Start with an empty cache and measure the time; otherwise methods that need the same
            passes of the model share them.

    Raises:
        ModelError: A score is not a finite number.
    """
    scored = instance.with_empty_cache() if timed else instance
    started = time.perf_counter()
    scores = np.asarray(method.scores(scored), dtype=np.float64)
    seconds = time.perf_counter() - started
    if scores.shape != (instance.nodes,) or not np.isfinite(scores).all():
        raise ModelError(
            f"{method.name} gave scores of shape {scores.shape} for {instance.nodes} nodes, or "
            f"not all finite, for {instance.name}."
        )
    return MethodOutput(method, scores, seconds if timed else None)


def measure_faithfulness(
    instance: Instance, outputs: Sequence[MethodOutput], protocol: Protocol
) -> list[dict[str, Any]]:
    """Return one row for each output: log-probabilities of the explained class at every share.

    A row's "removed" and "kept" have a list for each operator, in the order of the shares; what is
    not judged has none.
    """
    units = unit_masks(instance, protocol.granularity)
    rankings = [_rank(output, instance, units, protocol) for output in outputs]
    counts = protocol.counts(len(units), instance.nodes)
    removed = [ranking.first(count) for ranking in rankings for count in counts]
    kept = [ranking.rest(count) for ranking in rankings for count in counts if protocol.kept]
    operators = [OPERATORS[name] for name in protocol.operators]
    variants = [operator(instance, nodes) for operator in operators for nodes in (*removed, *kept)]
    # Deleting nothing leaves the content as it is, for every kind of model.
    whole = OPERATORS["delete"](instance, np.zeros(instance.nodes, bool))
    log_p = instance.log_probability([whole, *variants], bfloat16=protocol.bfloat16)
    # operators x (removed, kept) x outputs x shares, the order in which the variants were listed.
    of_variants = log_p[1:].reshape(len(operators), -1, len(outputs), len(counts))
    return [
        {
            "method": output.method.name,
            "units": len(units),
            "ties": round(ranking.ties, 4),
            "seconds": None if output.seconds is None else round(output.seconds, 6),
            "log_p": float(log_p[0]),
            "removed": _by_operator(protocol.operators, of_variants[:, 0, i]),
            "kept": _by_operator(protocol.operators, of_variants[:, 1, i]) if protocol.kept else {},
            "extras": _extras(instance, output, ranking, protocol),
        }
        for i, (output, ranking) in enumerate(zip(outputs, rankings, strict=True))
    ]


def _rank(
    output: MethodOutput, instance: Instance, units: NDArray[np.bool_], protocol: Protocol
) -> Ranking:
    # The same seed for all methods: equal scores give equal orders.
    rng = np.random.default_rng([protocol.seed, instance.seed])
    return rank_units(output.scores, units, rng)


def _extras(
    instance: Instance, output: MethodOutput, ranking: Ranking, protocol: Protocol
) -> dict[str, float]:
    metric_input = MetricInput(
        instance=instance,
        method=output.method,
        scores=output.scores,
        ranking=ranking,
        operators=protocol.operators,
        bfloat16=protocol.bfloat16,
        granularity=protocol.granularity,
    )
    values: dict[str, float] = {}
    for name in protocol.extras:
        # Scores from a file cannot be computed again for moved embeddings.
        if name != "sensitivity" or output.method.passes != EXTERNAL:
            values |= EXTRAS[name](metric_input)
    return {name: round(value, 7) for name, value in values.items()}


def _by_operator(names: Sequence[str], values: Scores) -> dict[str, list[float]]:
    return {name: row.tolist() for name, row in zip(names, values, strict=True)}
