"""The data of a result: what each token or patch contributed, and why the numbers can be believed.

`AttributionData` is immutable and holds numpy arrays only. It ranks its tokens, sums them to words
and turns into a dictionary. `ContinuationData` is a row of them, one for each token of a
continuation. Views read these two and nothing else; the public classes in `attribution` are the
same data, which can also show and save itself.

The scores are each token's share of a maximum flow: non-negative, and their sum is the value of the
flow. They are not the Shapley values of the model (see docs/method.md).

Each field states its form next to its type (`forms`); files are checked by them (`schema`).

Read next: `views`, which draw the data; `attribution`, the public classes.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.forms import (
    Array,
    Either,
    Integer,
    Nullable,
    Number,
    OneOf,
    Record,
    Several,
    Span,
    Text,
    form_of,
    of,
)
from attnflow.checks import check_count
from attnflow.errors import InputError

SCHEMA_VERSION = 5

TENSORS = ("af", "gf", "agf", "cf", "bcf", "net")
BALANCED = ("bcf", "net")
# Flows of `bcf` that carried less found the evidence in none of nine prompts, others in half of 36;
# none of `net` carried so little: benchmarks/faint_flows.py.
FAINT = 0.05

CertificateStatus = Literal["solved", "empty", "iteration_limit", "numerical_limit"]


READOUTS = ("input", "throughput")
SINK_POLICIES = ("keep", "exclude", "apart")
PATTERNS = ("shared", "frozen")
# Tasks whose decision is read at a position that the caller, not the model, chooses.
POSITIONED = (
    "text-generation",
    "text2text-generation",
    "image-text-to-text",
    "fill-mask",
    "token-classification",
)
TASKS = (
    "text-classification",
    *POSITIONED,
    "question-answering",
    "sentence-similarity",
    "image-feature-extraction",
    "image-classification",
)
FARTHEST = 1e7  # pixels from the image's corner that an edge of its grid can be

# Shares that add up to 1, with what rounding adds.
_WHOLE = 1 + 1e-9
_FLOWS = Array("F64", ("tokens",), low=0)
_SIGNED = Array("F64", ("tokens",))
_FINITE = Number(0, sys.float_info.max)
_STAGE = Either((Number(0, 1), OneOf(("halves",))), "a share from 0 to 1 or 'halves'")


@dataclass(frozen=True)
class Certificate:
    """Proof that a flow is the optimum. Flow values are in the units of the capacities.

    Attributes:
        value: Total flow from the source to the tokens.
        upper_bound: No flow through the network is larger than this (a cut proves it).
        mu: Weight of the log barrier.
        conservation: Largest imbalance of a node, relative to `value`.
        centrality: Largest relative error of the barrier's optimality conditions.
        iterations: Factorisations that the solver needed.
        status: "solved", or what stopped the solver.
    """

    value: float = of(_FINITE)
    upper_bound: float = of(_FINITE)
    mu: float = of(_FINITE)
    conservation: float = of(_FINITE)
    centrality: float = of(_FINITE)
    iterations: int = of(Integer())
    status: CertificateStatus = of(OneOf(get_args(CertificateStatus)))

    @property
    def is_certified(self) -> bool:
        """True where the flow is proven: solved, or empty because no path leads to a token."""
        return self.status in ("solved", "empty")

    @property
    def gap(self) -> float:
        """Largest distance of `value` below the maximum flow, relative to the bound, 0 to 1."""
        # Rounding can put the value above its bound by an ulp.
        return max(0.0, 1 - self.value / self.upper_bound) if self.upper_bound > 0 else 0.0


@dataclass(frozen=True)
class Word:
    """A word of the text: its characters `start:end` and the sum of its tokens' scores."""

    text: str
    score: float
    start: int
    end: int
    tokens: tuple[int, ...]


# Not `eq`: == of two arrays has no truth value, so that comparing two results would raise.
@dataclass(frozen=True, eq=False)
class AttributionData:
    """The scores of one text's tokens for one class, with the evidence for them.

    Of an image the tokens are patches, `rows * columns` of them from the top left in rows, named
    "r0c0" by row and column. Tokens before them (the class token) are special.

    Attributes:
        text: The text explained; of an image the name of its file, "" where it has none.
        tokens: The tokenizer's tokens, special ones included, without padding; length t.
        offsets: For each token its half-open span of characters in `text`; (0, 0) for a special
            token.
        special: `(t,)` bool, true at the tokens that the tokenizer ([CLS], [SEP], ...) or a chat's
            template added; they are not ranked.
        word_ids: For each token the index of its word, or None for a special token.
        scores: `(t,)` float64, >= 0, flow units; their sum is the flow's value for the `input`
            read-out. With the stages of "net" the mean over the stages that have the token.
        tensor: The information tensor: "af", "gf", "agf", "cf", "bcf" or "net".
        readout: "input" (outflow of the input row) or "throughput" (mean over all rows).
        target: Index of the explained class.
        labels: Names of the classes, in the order of `logits`. Of a vocabulary, or
            of answers, the likeliest and one entry for all others.
        logits: `(classes,)` float64, the model's output for this text; of all other tokens together
            the logsumexp.
        certificate: Why the flow can be believed.
        model: Name or folder of the model.
        truncated: Number of tokens that were cut off, of a pair from the longer text.
        edges: `(layers, t, t)` float64 flow on each edge, layer 0 next to the tokens; query, then
            key. None unless asked for.
        task: What the model decides, by the name of transformers' pipeline.
        position: Index of the token whose output was read: of a causal language model the last one
            before the token explained. None where the model itself chooses what it reads.
        against: Index of the class that the target is contrasted with, or None.
        span: Half-open indices of tokens explained at once; None where one decision is explained.
            The first is decided on at `position`, each other one at the token before it.
        message_ids: Of a chat, for each token the index of its message, or None for a token of the
            template's; empty where the text is not a chat.
        roles: Of a chat, the role of each message, that of a continuation last; else empty.
        attention_sink: Policy for the first token that a decoder reads: "keep", "exclude" or
            "apart".
        raw_scores: `(t,)` float64, the scores with the first token, where it was excluded.
        null_shares: `(t,)` float64, sum 1: share of each token, special ones too, under uniform
            attention, from the paths of a decoder or encoder-decoder alone
            (`attention_sink.path_null`). None for models that generate nothing, and for targets
            that are functions.
        source_tokens: Of an encoder-decoder the number of tokens of its source, which stand first:
            the index of the first token that the decoder reads; 0 of other models.
        image: `(h, w, 3)` uint8, the image as it was given; or as the model read it, where that was
            given (`pixel_values`). None for a text.
        grid: Rows and columns of patches, or None.
        box: Left, top, right and bottom edge of the grid of patches in `image`, in pixels; it ends
            outside where the image was padded. None for a text.
        contributions: `(t,)` float64, the signed effects of the tokens on `explained`, in its
            units: what speaks against the decision is negative. With stages the mean over those
            that have the token. None for the paper's tensors, whose effects have no signs.
        signed_scores: `(t,)` float64, the same with the flow, in the same units, where a token
            speaks for the decision; None like `contributions`.
        explained: The explained number itself: a logit, or with "bcf" and "net" the log-odds; None
            in results that older versions saved.
        stages: With "net" the rules of the stages after the first, shares of the tokens that were
            removed or "halves"; () where the whole text was the only one. None for other tensors.
        pattern: With "net" attention's pattern, "shared" or "frozen"; None for other tensors.
        precision: Type of the model's weights: "float32", "bfloat16", or the backend that quantised
            them.
        segments: Where tokens were merged before the flow, for each segment the half-open span of
            tokens in it. `tokens` and all that goes with them, `position` and `edges` too, are then
            of segments, and each of them counts as a word. None where nothing was merged.
        regions: Of a text with images, for each token left, top, right and bottom edge of the part
            of `image` that it stands for, in pixels, or None for a token of the text; None for
            other examples. Several images, and an image that is read as a whole besides its tiles,
            are one below the other in `image`. Such tokens are named "image r0 c1", by row and
            column of their image.
    """

    text: str = of(Text(length="characters"))
    tokens: tuple[str, ...] = of(Several(Text(), length="tokens", least=1))
    offsets: tuple[tuple[int, int], ...] = of(Several(Span("characters"), "tokens"))
    special: NDArray[np.bool_] = of(Array("BOOL", ("tokens",)))
    word_ids: tuple[int | None, ...] = of(Several(Nullable(Integer()), "tokens"))
    scores: NDArray[np.float64] = of(_FLOWS)
    tensor: str = of(OneOf(TENSORS))
    readout: str = of(OneOf(READOUTS))
    target: int = of(Integer(below="classes"))
    labels: tuple[str, ...] = of(Several(Text(), length="classes", least=1))
    logits: NDArray[np.float64] = of(Array("F64", ("classes",)))
    certificate: Certificate = of(Record(Certificate))
    model: str = of(Text())
    truncated: int = of(Integer(), default=0)
    edges: NDArray[np.float64] | None = of(
        Array("F64", ("layers", "tokens", "tokens"), low=0, large=True), default=None
    )
    task: str = of(OneOf(TASKS), default="text-classification")
    position: int | None = of(Nullable(Integer(below="tokens")), default=None)
    against: int | None = of(Nullable(Integer(below="classes")), default=None)
    span: tuple[int, int] | None = of(Nullable(Span("tokens", least=1)), default=None)
    message_ids: tuple[int | None, ...] = of(
        Several(Nullable(Integer(below="messages"))), default=()
    )
    roles: tuple[str, ...] = of(Several(Text(), length="messages"), default=())
    attention_sink: str = of(OneOf(SINK_POLICIES), default="keep")
    raw_scores: NDArray[np.float64] | None = of(_FLOWS, default=None)
    null_shares: NDArray[np.float64] | None = of(
        Array("F64", ("tokens",), low=0, high=_WHOLE), default=None
    )
    source_tokens: int = of(Integer(below="tokens", end=True), default=0)
    image: NDArray[np.uint8] | None = of(
        Array("U8", ("height", "width", 3), large=True), default=None
    )
    grid: tuple[int, int] | None = of(Nullable(Several(Integer(), 2)), default=None)
    box: tuple[float, float, float, float] | None = of(
        Nullable(Several(Number(-FARTHEST, FARTHEST), 4)), default=None
    )
    segments: tuple[tuple[int, int], ...] | None = of(
        Nullable(Several(Span(least=1), "tokens")), default=None
    )
    contributions: NDArray[np.float64] | None = of(_SIGNED, default=None)
    signed_scores: NDArray[np.float64] | None = of(_SIGNED, default=None)
    explained: float | None = of(Nullable(Number()), default=None)
    stages: tuple[float | str, ...] | None = of(Nullable(Several(_STAGE)), default=None)
    pattern: str | None = of(Nullable(OneOf(PATTERNS)), default=None)
    precision: str = of(Text(), default="float32")
    regions: tuple[tuple[float, float, float, float] | None, ...] | None = of(
        Nullable(Several(Nullable(Several(Number(-FARTHEST, FARTHEST), 4)), "tokens")),
        default=None,
    )

    def __post_init__(self) -> None:
        # A frozen dataclass freezes names, not arrays: each becomes a read-only copy, so that
        # neither the giver's later writes nor a reader's reach the result.
        for name in ARRAYS:
            if getattr(self, name) is not None:
                array = np.array(getattr(self, name))
                array.flags.writeable = False
                object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def label(self) -> str:
        """Name of the explained class."""
        return self.labels[self.target]

    @property
    def model_and_precision(self) -> str:
        """Name of the model, with the type of its weights where that is not float32."""
        return self.model if self.precision == "float32" else f"{self.model} ({self.precision})"

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """`(classes,)` softmax of the logits."""
        # Shifted by the largest, so that no exponential overflows.
        shifted = np.exp(self.logits - self.logits.max())
        return shifted / shifted.sum()

    @property
    def carried(self) -> float | None:
        """Share of what its layers could carry that the flow does, 0 to 1, the mean over stages.

        None for tensors whose layers are not balanced, where each layer could carry another amount,
        and where flow was kept from the first token.
        """
        is_whole = self.tensor in BALANCED and self.attention_sink != "exclude"
        return self.certificate.value if is_whole else None

    @property
    def remainder(self) -> float | None:
        """The explained number less the sum of all contributions, those of special tokens too.

        Biases, shared patterns and stages leave it over: contributions are means over texts that
        lack other tokens. None where one of the two is not known.
        """
        if self.explained is None or self.contributions is None:
            return None
        return float(self.explained - self.contributions.sum())

    @property
    def is_faint(self) -> bool:
        """True where the flow carries too little to be relied on, less than `FAINT`."""
        return self.carried is not None and self.carried < FAINT

    @property
    def shares(self) -> NDArray[np.float64]:
        """`(t,)` scores over the sum of the ordinary tokens' scores; special tokens are 0."""
        ordinary = np.where(self.special, 0.0, self.scores)
        total = ordinary.sum()
        return ordinary / total if total > 0 else ordinary

    @property
    def special_share(self) -> float:
        """Part of all the scores that went to special tokens, 0 to 1."""
        total = self.scores.sum()
        return float(self.scores[self.special].sum() / total) if total > 0 else 0.0

    def surface(self, index: int) -> str:
        """Return the token as it stands in the text; a special token under its own name."""
        # Special tokens are not the only ones without characters: a token that could not be placed
        # has none.
        start, end = self.offsets[index]
        return self.text[start:end] if end > start else self.tokens[index]

    def is_region(self, index: int) -> bool:
        """Return whether a token stands for a part of an image in a text."""
        return self.regions is not None and self.regions[index] is not None

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Return the `k` ordinary tokens of highest score, best first, as (surface, score).

        Raises:
            InputError: `k` is not an integer of at least 1.
        """
        check_count("k", k)
        ordinary = [i for i in range(len(self)) if not self.special[i]]
        # Equal scores rank in the order of the text, as in every view.
        ordinary.sort(key=lambda i: (-self.scores[i], i))
        return [(self.surface(i), float(self.scores[i])) for i in ordinary[:k]]

    def top_against(self, k: int = 5) -> list[tuple[str, float]]:
        """Return the ordinary tokens that speak most against the decision, as (surface, number).

        The numbers are those of `signed_scores`, below 0, the most negative first; there may be
        fewer than `k`.

        Raises:
            InputError: `k` is not an integer of at least 1, or the tensor's effects have no signs.
        """
        check_count("k", k)
        if self.signed_scores is None:
            raise InputError(
                f"tensor {self.tensor!r} has no signs: it cannot tell what speaks against; use "
                "tensor='net'."
            )
        signed = self.signed_scores
        against = [i for i in range(len(self)) if not self.special[i] and signed[i] < 0]
        against.sort(key=lambda i: (signed[i], i))
        return [(self.surface(i), float(signed[i])) for i in against[:k]]

    def words(self) -> list[Word]:
        """Return the words of the text in order, each with the sum of its tokens' scores.

        Raises:
            InputError: There is an image and no text.
        """
        if self.grid is not None:
            raise InputError("an image has no words: its patches are the tokens; see heatmap().")
        return [self._word(tokens) for tokens in self._tokens_by_word()]

    def heatmap(self) -> NDArray[np.float64]:
        """`(rows, columns)` scores of an image's patches.

        Raises:
            InputError: There is a text and no image.
        """
        if self.grid is None:
            raise InputError("a text has no heatmap(): its tokens are in a row; see scores.")
        return self.scores[~self.special].reshape(self.grid)

    def heatmaps(self) -> dict[str, NDArray[np.float64]]:
        """`(rows, columns)` scores of the regions of each picture of a text's images, by its name.

        A picture is "image", or of several "image 0"; an image that is also read in tiles is
        "image whole" besides. Regions that are no grid are in one row.

        Raises:
            InputError: There is no image in a text.
        """
        return {name: self.scores[tokens] for name, tokens in self._pictures().items()}

    def _pictures(self) -> dict[str, NDArray[np.intp]]:
        """`(rows, columns)` tokens of each picture."""
        if self.regions is None:
            raise InputError("there is no text with images: see scores, or heatmap() of an image.")
        groups: dict[str, list[tuple[float, float, int]]] = {}
        for token, region in enumerate(self.regions):
            if region is not None:
                name = self.tokens[token].rpartition(" r")[0]
                groups.setdefault(name, []).append((region[1], region[0], token))
        grids = {}
        for name, places in groups.items():
            rows, columns = (len({place[axis] for place in places}) for axis in (0, 1))
            is_grid = rows * columns == len(places)
            tokens = np.array([token for *_, token in sorted(places)])
            grids[name] = tokens.reshape((rows, columns) if is_grid else (1, -1))
        return grids

    def _tokens_by_word(self) -> Iterator[tuple[int, ...]]:
        """Runs of neighbouring tokens that belong to one word."""
        run: list[int] = []
        for i, word in enumerate(self.word_ids):
            if run and word != self.word_ids[run[-1]]:
                yield tuple(run)
                run = []
            if word is not None:
                run.append(i)
        if run:
            yield tuple(run)

    def _word(self, tokens: tuple[int, ...]) -> Word:
        # A token without characters of its own (an unknown one) widens no word.
        spans = [self.offsets[i] for i in tokens if self.offsets[i][1] > self.offsets[i][0]]
        start = min((start for start, _ in spans), default=0)
        end = max((end for _, end in spans), default=0)
        text = self.text[start:end] if spans else "".join(self.tokens[i] for i in tokens)
        return Word(text, float(sum(self.scores[i] for i in tokens)), start, end, tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return all but edge flows and image, as plain Python values ready for `json.dumps`."""
        large = {name for name, form in ARRAYS.items() if form.large}
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in large}
        record |= {name: a.tolist() for name, a in record.items() if isinstance(a, np.ndarray)}
        record["certificate"] = asdict(self.certificate)
        derived = {
            "label": self.label,
            "probabilities": self.probabilities.tolist(),
            "shares": self.shares.tolist(),
            "special_share": self.special_share,
            "gap": self.certificate.gap,
            "carried": self.carried,
            "remainder": self.remainder,
            "words": [asdict(word) for word in self.words()] if self.grid is None else [],
        }
        return {"schema_version": SCHEMA_VERSION} | record | derived


def _forms_of_arrays() -> dict[str, Array]:
    forms = {each.name: form_of(each) for each in fields(AttributionData)}
    return {name: form for name, form in forms.items() if isinstance(form, Array)}


ARRAYS = _forms_of_arrays()


class ContinuationData(Sequence[AttributionData]):
    """The attributions of a continuation, one for each of its tokens, in the order of the text.

    Each is about the next token at one position of the same text.
    """

    @property
    def explained(self) -> tuple[int, ...]:
        """Index in `tokens` of each token that is explained."""
        return tuple(a.position + 1 for a in self if a.position is not None)

    @property
    def begins(self) -> int:
        """Index in `tokens` where the continuation begins, after all that was given."""
        return min(self.explained)

    @property
    def written(self) -> str:
        """The continuation, as it stands in the text."""
        first = self[0]
        offsets = [first.offsets[i] for i in self.explained if i < len(first)]
        spans = [(start, end) for start, end in offsets if end > start]
        if not spans:
            return " ".join(a.label for a in self)
        return first.text[spans[0][0] : spans[-1][1]]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """`(len(self), t)` shares: how much of each explained token rests on each token.

        As in `Attribution.shares` special tokens are 0; a row sums to 1, or to 0 if it is empty.
        """
        return np.stack([a.shares for a in self])
