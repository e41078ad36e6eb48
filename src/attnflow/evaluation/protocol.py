"""One example under all methods: what the model says of what each ranking removes and keeps.

All methods' variants of a text go to the model together, and those that several methods ask for
only once: short texts share most of them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.capture import whole_units
from attnflow.errors import InputError, ModelError
from attnflow.evaluation.extra_metrics import EXTRAS, EXTRAS_OF_ANY, MetricInput
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.ranking import GRANULARITIES, Ranking, rank_units, unit_masks
from attnflow.evaluation.sampling import TARGETS
from attnflow.methods import Instance, Method, ModelAdapter, Scores

EXTERNAL = "made elsewhere"  # passes of a method whose scores came with a file
COUNTED = ("units", "positions")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Protocol:
    """How rankings are judged.

    Attributes:
        shares: Of the units, to be removed or kept, inside (0, 1].
        counted: What shares are of: "units", rounded up to whole ones; or "positions", all tokens
            with the special ones among them, to the nearest number, of which there may be fewer.
        operators: Names of `OPERATORS`.
        granularity: What is removed as a whole, a name of `ranking.GRANULARITIES`.
        target: The class explained, "predicted" by the model or the "label" of the text.
        precision: Of the passes that judge, "float32" or "bfloat16", which is several times as fast
            where the processor has it and changes a probability by some thousandths; methods
            always run as the model is.
        kept: Whether what is left when only the top is kept is judged too: sufficiency and
            insertion, for as many passes again.
        seed: Of the order of ties, with the text's own.
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
            raise InputError(f"shares must lie inside (0, 1], got {self.shares!r}.")
        for what, names, known in (
            ("operators", self.operators, tuple(OPERATORS)),
            ("granularity", (self.granularity,), GRANULARITIES),
            ("counted", (self.counted,), COUNTED),
            ("target", (self.target,), TARGETS),
            ("precision", (self.precision,), PRECISIONS),
            ("extras", self.extras, tuple(EXTRAS)),
        ):
            unknown = [name for name in names if name not in known]
            if unknown or (what == "operators" and not names):
                raise InputError(f"{what} must be of {', '.join(known)}, got {names!r}.")

    def check(self, adapter: ModelAdapter) -> None:
        """Nothing is asked of an adapter that its kind cannot do.

        Raises:
            InputError: Something is.
        """
        known = tuple(EXTRAS) if adapter.has_embeddings else EXTRAS_OF_ANY
        for what, names, possible in (
            ("operators", self.operators, tuple(adapter.operators)),
            ("granularity", (self.granularity,), adapter.granularities),
            ("extras", self.extras, known),
        ):
            impossible = [name for name in names if name not in possible]
            if impossible:
                raise InputError(
                    f"{what}: {impossible[0]!r} is not for {adapter.kind}: expected "
                    f"{', '.join(possible)}."
                )

    @property
    def bfloat16(self) -> bool:
        """Whether the passes that judge multiply in bfloat16."""
        return self.precision == "bfloat16"

    def counts(self, units: int, positions: int) -> list[int]:
        """Units at each share, of a text that has so many, and so many tokens."""
        if self.counted == "units":
            return [whole_units(share, units) for share in self.shares]
        return [min(units, round(share * positions)) for share in self.shares]


# AttCAT's code (Qiang et al. 2022), with what is unusual in it: the label is explained, not what
# the model predicts; shares are of all positions, special tokens too, which yet are passed over;
# [PAD] is attended; changes count without their sign (`absolute_aopc`). Two things are left out:
# that code hides the special tokens from attention while it explains, which is another model, and
# never removes the token that comes last of all.
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
    """Ask a method.

    Args:
        method: Which.
        instance: What.
        timed: Ask with nothing left over from another method, and measure the time; else methods
            that need the same passes of the model share them.

    Raises:
        ModelError: A score is not a finite number.
    """
    asked = instance.with_empty_cache() if timed else instance
    started = time.perf_counter()
    scores = np.asarray(method.scores(asked), dtype=np.float64)
    seconds = time.perf_counter() - started
    if scores.shape != (instance.nodes,) or not np.isfinite(scores).all():
        raise ModelError(
            f"{method.name} gave scores of shape {scores.shape} for {instance.nodes} nodes, or "
            f"not all finite, for {instance.name}."
        )
    return MethodOutput(method, scores, seconds if timed else None)


def measure_faithfulness(
    instance: Instance, answers: Sequence[MethodOutput], protocol: Protocol
) -> list[dict[str, Any]]:
    """One row for each answer: log-probabilities of the explained class at every share.

    A row's "removed" and "kept" have a list for each operator, in the order of the shares; what is
    not judged has none.
    """
    units = unit_masks(instance, protocol.granularity)
    rankings = [_ranked(one, instance, units, protocol) for one in answers]
    counts = protocol.counts(len(units), instance.nodes)
    removed = [one.first(count) for one in rankings for count in counts]
    kept = [one.rest(count) for one in rankings for count in counts if protocol.kept]
    operators = [OPERATORS[name] for name in protocol.operators]
    nothing = np.zeros(instance.nodes, bool)
    variants = [operator(instance, gone) for operator in operators for gone in (*removed, *kept)]
    whole = OPERATORS["delete"](instance, nothing)
    found = instance.log_probability([whole, *variants], bfloat16=protocol.bfloat16)
    shaped = found[1:].reshape(len(operators), -1, len(answers), len(counts))
    return [
        {
            "method": one.method.name,
            "units": len(units),
            "ties": round(rank.ties, 4),
            "seconds": None if one.seconds is None else round(one.seconds, 6),
            "log_p": float(found[0]),
            "removed": _named(protocol.operators, shaped[:, 0, at]),
            "kept": _named(protocol.operators, shaped[:, 1, at]) if protocol.kept else {},
            "extras": _extras(instance, one, rank, protocol),
        }
        for at, (one, rank) in enumerate(zip(answers, rankings, strict=True))
    ]


def _ranked(
    one: MethodOutput, instance: Instance, units: NDArray[np.bool_], protocol: Protocol
) -> Ranking:
    rng = np.random.default_rng([protocol.seed, instance.seed])
    return rank_units(one.scores, units, rng)


def _extras(
    instance: Instance, one: MethodOutput, rank: Ranking, protocol: Protocol
) -> dict[str, float]:
    asked = MetricInput(
        instance,
        one.method,
        one.scores,
        rank,
        protocol.operators,
        protocol.bfloat16,
        protocol.granularity,
    )
    found: dict[str, float] = {}
    for name in protocol.extras:
        if name != "sensitivity" or one.method.passes != EXTERNAL:  # those cannot be asked again
            found |= EXTRAS[name](asked)
    return {name: round(value, 7) for name, value in found.items()}


def _named(names: Sequence[str], values: Scores) -> dict[str, list[float]]:
    return {name: row.tolist() for name, row in zip(names, values, strict=True)}
