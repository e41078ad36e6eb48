"""Explainer: the front door. A model, and texts or images in; one `Attribution` a decision out.

The way through the house: `reading` places each text's tokens (`images` each image's patches),
`decisions` says which of the model's decisions is meant, `asking` has `capture` run the model
forward and backward, `network` takes the information tensor for capacities, `solver` finds the
flow, and the outflow of the input row (or the throughput of all rows) becomes the scores.

The explainer holds a model and what it reads with, and nothing that a call leaves behind.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

import torch

from attnflow.attribution.attribution import Attribution
from attnflow.attribution.continuation import Attributions
from attnflow.capture import check_model
from attnflow.capture.objectives import Value
from attnflow.errors import InputError
from attnflow.explainer.attention_sink import check_policy
from attnflow.explainer.attribution_builder import Results, check_certified
from attnflow.explainer.coarsening import Coarsen, all_coarsened, check_merges
from attnflow.explainer.memory.estimate import Estimate, Estimator
from attnflow.explainer.memory.sizes import Size, sizes_of_images, sizes_of_texts
from attnflow.explainer.model_passes import Asker
from attnflow.explainer.options import FlowOptions, Options, check_options
from attnflow.explainer.request import Choosing, Rows, batched, check_read, image_rows, text_rows
from attnflow.explainer.targets.output_space import Target, choosing_of
from attnflow.explainer.targets.span import Span
from attnflow.inputs.image_reader import ImageReader
from attnflow.inputs.text_reader import Reader, check_kind
from attnflow.models import loading
from attnflow.models.embedded import EMBEDDED_MODEL
from attnflow.models.pooling import check_pooling
from attnflow.models.tasks import Task, explained_task, labels_of, reads_images


class Explainer:
    """Explains the decisions of one model: a classifier's class, a language model's next token.

    Attributes:
        model: The model, as it was given.
        tokenizer: Its tokenizer, or None.
        image_processor: Its image processor, or None.
        name: What results call the model.
        pooling: How it embeds a text, if it does.
    """

    def __init__(
        self,
        model: Any,
        processor: Any = None,
        *,
        name: str | None = None,
        pooling: str = "mean",
    ) -> None:
        """Take a model of transformers in evaluation mode, in float32, and what it reads with.

        Args:
            model: The model.
            processor: Its tokenizer; without one the explainer takes `input_ids`, and names tokens
                by their ids. Of a model of images its image processor; without one the explainer
                takes `pixel_values`.
            name: What results call the model.
            pooling: Of a model that embeds: how the states of its last layer become one vector,
                "mean", "cls" (the first token's) or "last" (the last token's).

        Raises:
            InputError: One of these is something else.
        """
        if not hasattr(model, "config") or not (processor is None or callable(processor)):
            raise InputError(
                f"Explainer takes a model of transformers and its tokenizer or image processor, "
                f"got {type(model).__name__} and {type(processor).__name__}; to load both by name, "
                "use Explainer.from_pretrained."
            )
        images = reads_images(model)
        if hasattr(processor, "get_vocab" if images else "preprocess"):
            raise InputError(
                f"{type(model).__name__} reads {'images' if images else 'texts'}, and "
                f"{type(processor).__name__} is no {'image processor' if images else 'tokenizer'}."
            )
        self.model = model
        self.tokenizer = None if images else processor
        self.image_processor = processor if images else None
        self.pooling = check_pooling(pooling)
        self.name = name or getattr(model.config, "name_or_path", "") or type(model).__name__

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = EMBEDDED_MODEL,
        *,
        device: str | torch.device | None = None,
        pooling: str | None = None,
    ) -> "Explainer":
        """Load a model by folder or hub id, in float32; the embedded one by default.

        A model of embeddings pools as the files of sentence-transformers beside it say, or as
        `pooling` does.

        Raises:
            InputError: The device or the folder is not what it should be, or the model embeds
                nothing and a pooling is given.
            ModelError: There is no such model, or none that can be explained.
        """
        model, processor = loading.load(name, device=device)
        task = explained_task(model)
        embeds = task.chooses == "nothing" and task.reads == "text"
        if pooling is not None and not embeds:
            raise InputError(
                f"pooling is of models that embed texts, and {name} is for {task.name}: leave it "
                "out."
            )
        if pooling is None:
            pooling = loading.pooling(name) if embeds else "mean"
        return cls(model, processor, name=str(name), pooling=pooling)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too, to the checker
        self, texts: str, *, continuation: None = ..., **options: Unpack[Options]
    ) -> Attribution: ...
    @overload
    def __call__(
        self, texts: Sequence[str], *, continuation: None = ..., **options: Unpack[Options]
    ) -> list[Attribution]: ...
    @overload
    def __call__(
        self,
        texts: str | Sequence[str] | None = ...,
        *,
        images: Any = ...,
        pixel_values: Any = ...,
        continuation: str | int | None = ...,
        input_ids: Any = ...,
        attention_mask: Any = ...,
        **options: Unpack[Options],
    ) -> Any: ...

    def __call__(
        self,
        texts: str | Sequence[str] | None = None,
        *,
        images: Any = None,
        pixel_values: Any = None,
        continuation: str | int | None = None,
        input_ids: Any = None,
        attention_mask: Any = None,
        pair: str | Sequence[str] | None = None,
        target: Target | Value | Sequence[Target] = None,
        against: Target | Sequence[Target] = None,
        position: int | Sequence[int] | None = None,
        span: Span | Sequence[Span] | None = None,
        attention_sink: str = "keep",
        tensor: str = "bcf",
        readout: str = "input",
        gap: float = 1e-2,
        mu: float | None = None,
        edges: bool = False,
        truncate: bool = False,
        batch_size: int = 16,
        coarsen: Coarsen = None,
        max_memory: float | str | None = None,
        keep_unsolved: bool = False,
        neutral: Any = None,
        progress: Callable[[int], object] | None = None,
    ) -> Any:
        """Explain one text or image, or several as a batch.

        Args:
            texts: A text, or a chat: a list of messages, `{"role": "user", "content": "..."}` each,
                which the tokenizer's template writes out; or a sequence of texts or chats.
            images: Of a model of images, instead of texts: an image or a sequence of them, each a
                path, an image of Pillow, or an array `(h, w)` or `(h, w, 1 or 3)` of uint8 or of
                floats in 0..1.
            pixel_values: Instead of images: what the model reads, `(channels, height, width)` or
                `(batch, channels, height, width)` floats.
            continuation: Of a language model: how the text goes on, or how many tokens the model is
                to write (greedily). Each of these tokens is explained. An encoder-decoder writes a
                text of its own, whose tokens follow the source's in the result.
            input_ids: Token ids instead of texts, `(t,)` or `(batch, t)`.
            attention_mask: Of `input_ids`: 0 at padding, on the left or on the right.
            pair: A second text, for all texts or one for each. Models that read two (entailment,
                paraphrase, question and context) read it behind the text; in the result it stands
                on a line of its own. With a model of embeddings it is what the text is compared
                with: the text's part in their cosine is explained.
            target: The class, token or answer to explain, by label, text or index, for all texts or
                one for each; None is what the model predicts. An answer is meant where it first
                stands, by its text alone. Or a function that makes a number for each text,
                `(batch,)`, of the model's output: whatever it is, it is explained.
            against: Another class or token: why the target and not this one, by the difference of
                their logits. Spans and continuations have none: explain both, one after the other.
            position: Of models that decide at every token: the index of the one whose output is
                read. A causal language model predicts there the token after it, by default after
                the last; tokens behind the position get exactly 0. A masked one fills the mask.
            span: Of a language model: explain tokens `start` to `stop` of the result, half-open, at
                once, by the sum of their numbers; True is the whole continuation.
            attention_sink: Of a language model, what becomes of the first token that its decoder
                reads: "keep" it like any other, "exclude" it (no flow may end there; the result
                has the scores with it in `raw_scores`), or "apart": a score, and no rank.
            tensor: Information tensor: "bcf" (balanced conservative, four backward passes), "cf"
                (conservative, one), both of docs/method.md, or the paper's "af", "gf" or "agf".
            readout: "input" scores a token by its outflow from the input row, so that scores sum to
                the flow; "throughput" by its mean flow over all rows, for "bcf" and "cf" alone,
                where a token's rows are its own residual stream.
            gap: Accuracy of the flow, relative to the capacity of its narrowest row, inside (0, 1);
                see `maximum_flow`.
            mu: Absolute weight of the barrier, > 0, instead of `gap`.
            edges: Keep the flow on every edge in the result (layers * t * t numbers a text).
            truncate: Cut texts that are longer than the model takes, with a warning.
            batch_size: Most texts or images in one forward pass.
            coarsen: Merge so many neighbouring tokens, or those of a "word" or "sentence", into one
                node of the flow: for long texts. The result's tokens are then these segments, and
                it says so (`segments`); `edges` are between them. See docs/long.md. Patches of
                images are not merged.
            max_memory: Bytes, or as in "8GB", that the call may take beside the loaded model. The
                solver goes over to its method of least memory to keep to it. What the model takes
                is measured first: on short texts, or in one pass for each size of images. When
                None nothing is held back, but a flow that cannot fit into what is free is refused.
            keep_unsolved: Return flows that have no certificate too, instead of raising.
            neutral: Of images: what "bcf" puts in the place of removed patches, in the units of
                pixel values: a number, one for each channel, or pixel values. None is the image
                processor's mean, 0 after it.
            progress: Called with the number of texts done, after each batch.

        Returns:
            One attribution for a text or image, a list in their order for a sequence; with a
            continuation the `Attributions` of its tokens, a list, in the place of each.

        Raises:
            InputError: An argument, a label, a text or an image is not what it should be, or the
                call needs more memory than it may take.
            StorageError: The file of an image cannot be read.
            ModelError: The model cannot be explained.
            UnsolvedError: A flow could not be certified.
        """
        check_options(tensor, readout, batch_size, coarsen)
        check_model(getattr(self.model, "_orig_mod", self.model))  # of torch.compile
        task = explained_task(self.model)
        check_merges(task, coarsen)
        check_policy(attention_sink, task)
        choosing = choosing_of(task, self.model, self.tokenizer, target)
        asked = dict(target=target, against=against, position=position)
        of_images = dict(images=images, pixel_values=pixel_values, neutral=neutral)
        of_texts = dict(
            texts=texts,
            pair=pair,
            input_ids=input_ids,
            attention_mask=attention_mask,
            truncate=truncate,
            continuation=continuation,
            span=span,
        )
        alone, rows, counts = self._rows(task, choosing, asked, of_texts, of_images)
        merged = all_coarsened(rows, coarsen, task)
        sizes = [Size.of(example) for example in merged]
        most = batch_size if batched(self.model, task, target) else 1
        asker = Asker(self.model, self.tokenizer, task, tensor, pooling=self.pooling)
        options = FlowOptions(tensor, readout, gap, mu, edges, attention_sink)
        results = Results(self.tokenizer, task, choosing, self.name, options)
        found: dict[int, Attribution] = {}
        for group, room in Estimator(self.model, tensor).batches(sizes, most, max_memory):
            some = [merged[i] for i in group]
            captured = asker(some, [rows[i][1] for i in group])
            check_read(self.model, rows, group, captured, against)
            each = results(captured, some, [rows[i] for i in group], room)
            found |= zip(group, each, strict=True)
            if progress is not None:
                progress(len(group))
        ordered = [found[i] for i in range(len(rows))]
        if not keep_unsolved:
            check_certified(ordered)
        examples = ordered if counts is None else _split(ordered, counts)
        return examples[0] if alone else examples

    def _rows(
        self,
        task: Task,
        choosing: Choosing,
        asked: dict[str, Any],
        of_texts: dict[str, Any],
        of_images: dict[str, Any],
    ) -> Rows:
        """What is asked, of texts or of images: whichever the model reads."""
        if task.reads == "image":
            check_kind(self.model, "images", **of_texts)
            seen = ImageReader(self.model, self.image_processor)
            return image_rows(seen, task, choosing, asked, **of_images)
        check_kind(self.model, "texts", **of_images)
        compares = task.chooses == "nothing" and not callable(asked["target"])
        reader = Reader(self.model, self.tokenizer, task, compares=compares)
        return text_rows(reader, choosing, asked, **of_texts)

    def estimate(
        self,
        texts: str | int | Sequence[str | int] | None = None,
        *,
        images: Any = None,
        pixel_values: Any = None,
        tensor: str = "bcf",
        batch_size: int = 16,
        coarsen: Coarsen = None,
        truncate: bool = False,
        max_memory: float | str | None = None,
    ) -> Estimate:
        """What a call would need in memory beside the loaded model, in the batch that needs most.

        A few passes of the model measure its part: of texts short ones, of images one pass with an
        image of each size.

        Args:
            texts: Texts or chats as in a call, or how many tokens they have.
            images: As in a call, like the options that follow.
            pixel_values: As in a call.
            tensor: As in a call.
            batch_size: As in a call; of a target that is a function, which is read one by one, 1.
            coarsen: As in a call.
            truncate: As in a call.
            max_memory: As in a call; the solver's method depends on it.

        Raises:
            InputError: As in a call, but for too little memory.
            StorageError: As in a call.
            ModelError: As in a call.
        """
        check_options(tensor, batch_size=batch_size, coarsen=coarsen)
        task = explained_task(self.model)
        check_merges(task, coarsen)
        of_texts = dict(texts=texts, truncate=truncate)
        of_images = dict(images=images, pixel_values=pixel_values)
        sizes = self._sizes(task, coarsen, of_texts, of_images)
        most = batch_size if batched(self.model, task, None) else 1
        return Estimator(self.model, tensor).largest(sizes, most, max_memory)

    def _sizes(
        self, task: Task, coarsen: Coarsen, of_texts: dict[str, Any], of_images: dict[str, Any]
    ) -> list[Size]:
        """How large what is asked about is."""
        if task.reads == "image":
            check_kind(self.model, "images", **of_texts)
            return sizes_of_images(ImageReader(self.model, self.image_processor), **of_images)
        check_kind(self.model, "texts", **of_images)
        return sizes_of_texts(Reader(self.model, self.tokenizer, task), coarsen=coarsen, **of_texts)

    def __repr__(self) -> str:
        return f"Explainer({self.name!r})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return labels_of(self.model)

    @property
    def limit(self) -> int | None:
        """Most tokens the model takes, special ones included; None where nothing bounds it."""
        return loading.token_limit(self.model.config, self.tokenizer)


def _split(ordered: list[Attribution], counts: Sequence[int]) -> list[Attributions]:
    """Runs of so many."""
    rest = iter(ordered)
    return [Attributions(next(rest) for _ in range(count)) for count in counts]
