"""The options of a call that select tensor, flow, readout and memory; each is checked once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, get_args

from attnflow.capture import (
    REMOVED,
    StageRule,
    check_stage_rules,
    default_pattern,
    default_stages,
    product_rules,
    stage_count,
)
from attnflow.capture.families import family_of
from attnflow.capture.objectives import Value
from attnflow.capture.validation import check_pattern
from attnflow.checks import check_count, check_name, check_switch
from attnflow.errors import InputError, shown
from attnflow.explainer.memory.units import parse_bytes
from attnflow.explainer.targets.output_space import Span, Target
from attnflow.models.literals import (
    ConservativeTensor,
    InformationTensor,
    Pattern,
    Readout,
    SegmentUnit,
    SinkPolicy,
)
from attnflow.models.tasks import Task
from attnflow.solver import check_accuracy

Coarsen = int | str | None


@dataclass(frozen=True)
class CallOptions:
    """Options of a call; see `Explainer.__call__` for each.

    Raises:
        InputError: An option is not what `Explainer.__call__` takes, or two do not fit together.
    """

    tensor: str = "net"
    stages: Sequence[StageRule] | None = None
    pattern: Pattern | None = None
    readout: str = "input"
    gap: float = 1e-2
    mu: float | None = None
    edges: bool = False
    attention_sink: str = "keep"
    batch_size: int = 16
    coarsen: Coarsen = None
    max_memory: float | str | None = None
    keep_unsolved: bool = False

    def __post_init__(self) -> None:
        check_name("tensor", self.tensor, get_args(InformationTensor))
        check_name("readout", self.readout, get_args(Readout))
        if self.readout == "throughput" and not self.is_conservative:
            raise InputError(
                "readout 'throughput' needs tensor 'net', 'bcf' or 'cf', got "
                f"{shown(self.tensor)}: without residual edges a token's rows are not its own."
            )
        self._check_net()
        check_count("batch_size", self.batch_size)
        _check_coarsen(self.coarsen)
        check_accuracy(self.gap, self.mu)
        parse_bytes(self.max_memory)
        check_switch("edges", self.edges)
        check_switch("keep_unsolved", self.keep_unsolved)

    @property
    def is_conservative(self) -> bool:
        """True where layers have residual edges, so that a token's rows are its own."""
        return self.tensor in get_args(ConservativeTensor)

    @property
    def removed(self) -> tuple[StageRule, ...]:
        """The rules by which the stages after the first remove tokens; () where there are none.

        A tensor with stages is measured in all of them; the whole text is the first stage.
        """
        if self.tensor == "bcf":
            return REMOVED
        if self.tensor != "net":
            return ()
        return default_stages(hidden=False) if self.stages is None else tuple(self.stages)

    def with_defaults(self, *, hidden: bool) -> "CallOptions":
        """Return the options with those of "net" that suit the model, where none are given.

        Args:
            hidden: True where stages hide tokens, False where others replace them.
        """
        if self.tensor != "net":
            return self
        return replace(
            self,
            stages=default_stages(hidden=hidden) if self.stages is None else self.stages,
            pattern=default_pattern(hidden=hidden) if self.pattern is None else self.pattern,
        )

    @property
    def networks(self) -> int:
        """Networks that each decision becomes: one in each stage of "net"."""
        return stage_count(self.removed) if self.tensor == "net" else 1

    @property
    def reads_edges(self) -> bool:
        """True where a result needs the flow on every edge."""
        return self.edges or self.readout == "throughput"

    @property
    def explains_log_odds(self) -> bool:
        """True where the log-odds are explained, False where it is the logit."""
        return self.tensor in ("bcf", "net")

    def _check_net(self) -> None:
        """Check the options that only "net" has."""
        if self.tensor != "net":
            for name in ("stages", "pattern"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"{name} is an option of tensor 'net', got tensor {self.tensor!r}: leave "
                        f"{name} out."
                    )
        if self.pattern is not None:
            check_name("pattern", self.pattern, get_args(Pattern))
        if self.stages is not None:
            _check_stages(self.stages)

    def check_pattern(self, model: Any) -> None:
        """Check that the model's queries and keys are seen, if they are to have a share.

        Raises:
            InputError: The model computes attention itself.
        """
        family = family_of(getattr(model, "_orig_mod", model))
        if self.pattern is not None and family is not None:
            check_pattern(product_rules(model, self.pattern), family, model)

    def check_task(self, task: Task) -> None:
        """Check the options that only some tasks have.

        Raises:
            InputError: Patches are to be merged, there is no such policy, or no token that a
                decoder reads first.
        """
        if self.coarsen is not None and task.modality == "image":
            raise InputError(
                "coarsen merges neighbouring tokens of a text, and an image's tokens are its "
                "patches, which have neighbours on all sides and are scored each by itself: leave "
                "coarsen out. Smaller images, where the model takes them, or a model of larger "
                "patches have fewer."
            )
        check_name("attention_sink", self.attention_sink, get_args(SinkPolicy))
        if self.attention_sink != "keep" and not task.is_generative:
            raise InputError(
                f"attention_sink {self.attention_sink!r} is for models that read from the left and "
                f"write; this one is for {task.name}: leave it out (--attention-sink)."
            )


class CallKeywords(TypedDict, total=False):
    """Keywords of `Explainer.__call__` besides its examples, for type checkers."""

    pair: str | Sequence[str] | None
    target: Target | Value | Sequence[Target] | Sequence[Sequence[Target]]
    against: Target | Sequence[Target]
    position: int | Sequence[int] | None
    span: Span | Sequence[Span] | None
    tensor: str
    stages: Sequence[StageRule] | None
    pattern: Pattern | None
    readout: str
    gap: float
    mu: float | None
    edges: bool
    attention_sink: str
    truncate: bool
    bos: bool
    batch_size: int
    coarsen: Coarsen
    max_memory: float | str | None
    keep_unsolved: bool
    neutral: Any
    progress: Callable[[int], object] | bool | None


def check_progress(progress: Any) -> None:
    """Check that progress can be reported.

    Raises:
        InputError: It is no function.
    """
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise InputError(
            "progress must be a function of a number, or True or False for a bar, got "
            f"{shown(progress)}."
        )


def _check_stages(stages: Any) -> None:
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise InputError(
            "stages (--stages) must be a list of shares of the tokens and 'halves', such as "
            f"(0.1, 'halves'), or () for one stage (--stages none), got {shown(stages)}."
        )
    check_stage_rules(stages)


def _check_coarsen(coarsen: Any) -> None:
    is_count = isinstance(coarsen, int) and not isinstance(coarsen, bool) and coarsen >= 1
    is_unit = isinstance(coarsen, str) and coarsen in get_args(SegmentUnit)
    if not (coarsen is None or is_count or is_unit):
        raise InputError(
            f"coarsen must be a number of tokens of at least 1, 'word' or 'sentence', got "
            f"{shown(coarsen)}."
        )
