"""Attribution: what each token or patch contributed, and why the numbers can be believed.

An `Attribution` is the end of the way through the house. It is immutable, holds numpy arrays only,
and knows how to rank itself, sum pieces to words, and become a dictionary, a file or a picture.
Building one from a solved flow is `explainer`'s business; drawing one is that of `views`.

The scores are the token's share of a maximum flow: non-negative, and their sum is the value of the
flow. They are not the Shapley values of the model (see docs/method.md).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from attnflow.errors import InputError, StorageError
from attnflow.files import write_whole

SCHEMA_VERSION = 3
ARRAYS = ("special", "scores", "logits", "edges", "raw_scores", "null_shares", "image")
OPTIONAL = ("edges", "raw_scores", "null_shares", "image")
LARGE = ("edges", "image")  # not in dictionaries


@dataclass(frozen=True)
class Certificate:
    """Why a flow can be believed. Flow values are in the units of the capacities.

    Attributes:
        value: Total flow from the source to the tokens.
        upper_bound: No flow through the network is larger than this (a cut proves it).
        mu: Weight of the log barrier.
        conservation: Largest imbalance of a node, relative to `value`.
        centrality: Largest relative error of the barrier's optimality conditions.
        iterations: Factorisations that the solver needed.
        status: "solved", or what stopped the solver.
    """

    value: float
    upper_bound: float
    mu: float
    conservation: float
    centrality: float
    iterations: int
    status: str

    @property
    def is_certified(self) -> bool:
        """Whether the flow is proven: solved, or empty because no path leads to a token."""
        return self.status in ("solved", "empty")

    @property
    def gap(self) -> float:
        """How far `value` is at most below the true maximum flow, relative to the bound, 0 to 1."""
        return max(0.0, 1 - self.value / self.upper_bound) if self.upper_bound > 0 else 0.0


@dataclass(frozen=True)
class Word:
    """A word of the text: its characters `start:end` and the sum of its tokens' scores."""

    text: str
    score: float
    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Attribution:
    """The scores of one text's tokens for one class, with what stands behind them.

    Of an image the tokens are patches, `rows * columns` of them from the top left in rows, named
    "r0c0" by row and column; tokens before them (the class token) are special.

    Attributes:
        text: The text explained; of an image the name of its file, "" where it has none.
        tokens: The tokenizer's tokens, special ones included, without padding; length t.
        offsets: For each token its half-open span of characters in `text`; (0, 0) for a special
            token.
        special: `(t,)` bool, true at the tokens that the tokenizer ([CLS], [SEP], ...) or a chat's
            template added; they are not ranked.
        word_ids: For each token the index of its word, or None for a special token.
        scores: `(t,)` float64, >= 0, flow units; their sum is the flow's value for the `input`
            read-out.
        tensor: The information tensor: "af", "gf", "agf", "cf" or "bcf".
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
            before the token explained. None where the model reads what it wants.
        against: Index of the class that the target is contrasted with, or None.
        span: Half-open indices of tokens explained at once, the first decided on at `position` and
            each other one at the token before it; None where one decision is explained.
        message_ids: Of a chat, for each token the index of its message, or None for a token of the
            template's; empty where the text is no chat.
        roles: Of a chat, the role of each message, that of a continuation last; else empty.
        attention_sink: What became of the first token that a decoder reads: "keep", "exclude" or
            "apart".
        raw_scores: `(t,)` float64, the scores with the first token, where it was excluded.
        null_shares: `(t,)` float64, sum 1: what the paths of a decoder, or of an encoder-decoder,
            alone would give each token (`attention_sink.path_null`), special ones too; None of
            models that do not write, and of targets that are functions.
        source_tokens: Of an encoder-decoder how many tokens its source has, which stand first: the
            index of the first token that the decoder reads; 0 of other models.
        image: `(h, w, 3)` uint8, the image as it was given; or as the model read it, where that was
            given (`pixel_values`). None for a text.
        grid: Rows and columns of patches, or None.
        box: Left, top, right and bottom edge of the grid of patches in `image`, in pixels; it ends
            outside where the image was padded. None for a text.
        segments: Where tokens were merged before the flow, for each segment the half-open span of
            tokens in it. `tokens` and all that goes with them, `position` and `edges` too, are then
            of segments, and each of them counts as a word. None where nothing was merged.
    """

    text: str
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    special: NDArray[np.bool_]
    word_ids: tuple[int | None, ...]
    scores: NDArray[np.float64]
    tensor: str
    readout: str
    target: int
    labels: tuple[str, ...]
    logits: NDArray[np.float64]
    certificate: Certificate
    model: str
    truncated: int = 0
    edges: NDArray[np.float64] | None = None
    task: str = "text-classification"
    position: int | None = None
    against: int | None = None
    span: tuple[int, int] | None = None
    message_ids: tuple[int | None, ...] = ()
    roles: tuple[str, ...] = ()
    attention_sink: str = "keep"
    raw_scores: NDArray[np.float64] | None = None
    null_shares: NDArray[np.float64] | None = None
    source_tokens: int = 0
    image: NDArray[np.uint8] | None = None
    grid: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    segments: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        for name in ARRAYS:
            if getattr(self, name) is not None:
                own = np.array(getattr(self, name))
                own.flags.writeable = False
                object.__setattr__(self, name, own)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def label(self) -> str:
        """Name of the explained class."""
        return self.labels[self.target]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """`(classes,)` softmax of the logits."""
        shifted = np.exp(self.logits - self.logits.max())
        probabilities: NDArray[np.float64] = shifted / shifted.sum()
        return probabilities

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
        """The token as it stands in the text; a special token under its own name."""
        start, end = self.offsets[index]
        return self.text[start:end] if end > start else self.tokens[index]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` ordinary tokens of highest score, best first, as (surface, score)."""
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}.")
        ordinary = [i for i in range(len(self)) if not self.special[i]]
        ordinary.sort(key=lambda i: (-self.scores[i], i))
        return [(self.surface(i), float(self.scores[i])) for i in ordinary[:k]]

    def words(self) -> list[Word]:
        """The words of the text in order, each with the sum of its tokens' scores.

        Raises:
            InputError: There is an image and no text.
        """
        if self.grid is not None:
            raise InputError("an image has no words: its patches are the tokens; see heatmap().")
        return [self._word(group) for group in self._groups()]

    def heatmap(self) -> NDArray[np.float64]:
        """`(rows, columns)` scores of an image's patches.

        Raises:
            InputError: There is a text and no image.
        """
        if self.grid is None:
            raise InputError("a text has no heatmap(): its tokens are in a row; see scores.")
        return self.scores[~self.special].reshape(self.grid)

    def overlay(self, size: int | tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """`(h, w, 3)` uint8, the image in grey with its patches coloured by their shares.

        Args:
            size: Height and width in pixels, or the longer side; None is that of the image.

        Raises:
            InputError: There is a text and no image, or the size is not positive.
        """
        from attnflow.attribution.views.image_overlay import overlay

        return overlay(self, size)

    def _groups(self) -> Iterator[tuple[int, ...]]:
        """Runs of neighbouring tokens that belong to one word."""
        group: list[int] = []
        for i, word in enumerate(self.word_ids):
            if group and word != self.word_ids[group[-1]]:
                yield tuple(group)
                group = []
            if word is not None:
                group.append(i)
        if group:
            yield tuple(group)

    def _word(self, tokens: tuple[int, ...]) -> Word:
        placed = [self.offsets[i] for i in tokens if self.offsets[i][1] > self.offsets[i][0]]
        start = min((start for start, _ in placed), default=0)
        end = max((end for _, end in placed), default=0)
        text = self.text[start:end] if placed else "".join(self.tokens[i] for i in tokens)
        return Word(text, float(sum(self.scores[i] for i in tokens)), start, end, tokens)

    def __repr__(self) -> str:
        best = ", ".join(f"{text} {score:.3g}" for text, score in self.top(3))
        return f"Attribution({self.label}: {best}; {self.tensor} flow {self.certificate.value:.4g})"

    def __str__(self) -> str:
        from attnflow.attribution.views.terminal import render

        return render(self)

    def _repr_html_(self) -> str:
        from attnflow.attribution.views.page import fragment

        return fragment(self)

    def to_html(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page of this attribution: one file, no network. Returns its path.

        The page pictures the flow where the attribution has `edges`.
        """
        from attnflow.attribution.views.page import write

        return write([self], Path(file), overwrite=overwrite)

    def to_dict(self) -> dict[str, Any]:
        """Everything but edge flows and image, as plain Python values ready for `json.dumps`."""
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LARGE}
        given = [n for n in ARRAYS if n not in LARGE and getattr(self, n) is not None]
        record |= {name: getattr(self, name).tolist() for name in given}
        record["certificate"] = asdict(self.certificate)
        derived = {
            "label": self.label,
            "probabilities": self.probabilities.tolist(),
            "shares": self.shares.tolist(),
            "special_share": self.special_share,
            "gap": self.certificate.gap,
            "words": [asdict(word) for word in self.words()] if self.grid is None else [],
        }
        return {"schema_version": SCHEMA_VERSION} | record | derived

    def save(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write all of this, `edges` too where there are any, as one safetensors file."""
        return save([self], file, overwrite=overwrite)

    @staticmethod
    def load(file: str | Path) -> "Attribution":
        """Read a file of exactly one attribution; `attnflow.load` reads any number."""
        found = load(file)
        if len(found) != 1:
            raise InputError(f"{file} holds {len(found)} attributions: read it with attnflow.load.")
        return found[0]


def save(attributions: Sequence[Attribution], file: str | Path, *, overwrite: bool = False) -> Path:
    """Write attributions as one safetensors file: arrays by number, the rest as JSON beside them.

    Raises:
        InputError: There is nothing to save.
        StorageError: The file exists and `overwrite` is false, or cannot be written.
    """
    if not attributions:
        raise InputError("there are no attributions to save.")
    arrays = {
        f"{i}.{name}": np.ascontiguousarray(getattr(a, name))
        for i, a in enumerate(attributions)
        for name in ARRAYS
        if getattr(a, name) is not None
    }
    records = [_header(a) for a in attributions]
    header = {"schema_version": SCHEMA_VERSION, "attributions": records}
    data = safetensors.numpy.save(arrays, {"attnflow": json.dumps(header)})
    return write_whole(Path(file), data, overwrite=overwrite)


def load(file: str | Path) -> list[Attribution]:
    """Read what `save` wrote.

    Raises:
        StorageError: The file is not there, is no file of attributions, or is of a newer schema.
    """
    path = Path(file)
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            header = json.loads((opened.metadata() or {})["attnflow"])
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}
        if header["schema_version"] <= SCHEMA_VERSION:
            return [_restored(record, arrays, i) for i, record in enumerate(header["attributions"])]
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}.") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{path} is no file of attributions: expected one written by Attribution.save "
            f"or --save ({error})."
        ) from error
    raise StorageError(
        f"{path} has schema {header['schema_version']} and this attnflow reads up to "
        f"{SCHEMA_VERSION}: upgrade attnflow."
    )


def _header(attribution: Attribution) -> dict[str, Any]:
    """The fields that are not arrays, as JSON can hold them."""
    names = [f.name for f in fields(attribution) if f.name not in ARRAYS]
    record = {name: getattr(attribution, name) for name in names}
    return record | {"certificate": asdict(attribution.certificate)}


def _restored(record: dict[str, Any], arrays: dict[str, Any], index: int) -> Attribution:
    values: dict[str, Any] = dict(record)
    values["certificate"] = Certificate(**record["certificate"])
    values["offsets"] = tuple((start, end) for start, end in record["offsets"])
    for name in ("tokens", "word_ids", "labels", "message_ids", "roles"):
        if name in record:  # schemas 1 and 2 have no chats
            values[name] = tuple(record[name])
    values |= {name: arrays[f"{index}.{name}"] for name in ARRAYS if name not in OPTIONAL}
    values |= {name: arrays.get(f"{index}.{name}") for name in OPTIONAL}
    for name in ("span", "grid", "box"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    if values.get("segments") is not None:
        values["segments"] = tuple((start, end) for start, end in values["segments"])
    return Attribution(**values)
