"""Explainer: explanations of a model's decisions, one `Attribution` for each.

A call takes these steps:

1. **Options** - the arguments become three frozen objects: the examples as they were given
   (`Given`), what to explain (`TargetOptions`), and how (`CallOptions`).
2. **Inputs** - `TextInputs` or `ImageInputs` reads the examples: tokens or patches with their
   places, and the continuation, if any.
3. **Requests** - each decision about an example becomes a `Request` with its output space; with
   `coarsen` its tokens are merged into segments (`request`, `targets`, `coarsening`).
4. **Memory plan** - requests of similar length form batches that fit into memory (`memory`).
5. **Model passes** - a forward and some backward passes turn a batch into a `Capture`: one network
   of capacities for each request (`model_passes`, and the package `capture`).
6. **Flows** - the solver finds each network's maximum flow with its certificate (`flows`, and the
   package `solver`).
7. **Attributions** - scores are read off the flow and joined with example and decision
   (`attribution_builder`), then handed back in the form that the examples came in.

The explainer holds a model with its tokenizer or image processor, and keeps no state between calls.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

import torch

from attnflow.attribution import Attribution
from attnflow.capture import StageRule, check_model, learn_family
from attnflow.capture.contexts import plain_torch
from attnflow.capture.objectives import Value
from attnflow.errors import InputError, shown
from attnflow.explainer.call import Call
from attnflow.explainer.call_progress import call_progress
from attnflow.explainer.flows import check_certified, warn_of_faint
from attnflow.explainer.memory.estimate import Estimate, MemoryPlanner
from attnflow.explainer.memory.sizes import sizes_of
from attnflow.explainer.model_passes import can_share_pass, hides_tokens
from attnflow.explainer.options import CallKeywords, CallOptions, Coarsen, check_progress
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.explainer.targets.output_space import Span, Target, output_spaces
from attnflow.inputs.example import ModelInputs
from attnflow.inputs.given import Given
from attnflow.inputs.image_inputs import ImageInputs
from attnflow.inputs.multimodal_inputs import MultimodalInputs
from attnflow.inputs.text_inputs import TextInputs
from attnflow.models import loading
from attnflow.models.embedded import EMBEDDED_MODEL
from attnflow.models.held import held_model
from attnflow.models.literals import Pattern
from attnflow.models.load_options import LoadOptions
from attnflow.models.pooling import check_pooling
from attnflow.models.tasks import Task, explained_task, labels_of, reads_images, task_of
from attnflow.models.timm_models import TransformProcessor, is_transform


class Explainer:
    """Explains the decisions of one model: a classifier's class, a language model's next token.

    Attributes:
        model: The model, as it was given.
        tokenizer: Its tokenizer, or None.
        image_processor: Its image processor, or None.
        processor: The processor of a vision-language model, with both of them, or None.
        name: The name that results give to the model.
        pooling: The pooling by which it embeds texts, if it does.
    """

    def __init__(
        self,
        model: Any,
        processor: Any = None,
        *,
        tokenizer: Any = None,
        name: str | Path | None = None,
        pooling: str | None = None,
    ) -> None:
        """Take a transformers model in evaluation mode, and its tokenizer.

        Args:
            model: The model; or what holds one: a pipeline of transformers, a PEFT model, or a
                SentenceTransformer, which bring their own tokenizer and pooling; or a vision
                transformer of timm, with a transform of torchvision as its processor.
            processor: Its tokenizer; without one the explainer takes `input_ids`, and names tokens
                by their ids. For an image model its image processor; without one the explainer
                takes `pixel_values`. For a vision-language model its processor, with both; with a
                tokenizer it reads texts alone.
            tokenizer: Alias for `processor`.
            name: The name that results give to the model.
            pooling: For a model that embeds: how the states of its last layer become one vector,
                "mean", "cls" (the first token's) or "last" (the last token's). None is a
                SentenceTransformer's own, else "mean".

        Raises:
            InputError: An argument has the wrong type, or both processor and tokenizer are given.
            ModelError: What holds the model does more than can be explained.
        """
        if processor is not None and tokenizer is not None:
            raise InputError("give processor= or tokenizer=, two names of one argument, not both.")
        held = held_model(model)
        model, processor = held.model, tokenizer if processor is None else processor
        processor = held.processor if processor is None else processor
        processor = TransformProcessor(processor) if is_transform(processor) else processor
        if not hasattr(model, "config") or not (processor is None or callable(processor)):
            raise InputError(
                f"Explainer takes a transformers model and its tokenizer or image processor, "
                f"got {type(model).__name__} and {type(processor).__name__}; to load both by name, "
                "use Explainer.from_pretrained."
            )
        images = reads_images(model)
        has_both = all(hasattr(processor, name) for name in ("tokenizer", "image_processor"))
        is_multimodal = has_both and _takes_images(model)
        is_other = hasattr(processor, "get_vocab" if images else "preprocess")
        if is_other or (has_both and not is_multimodal) or isinstance(processor, torch.nn.Module):
            expected = "an image processor" if images else "a tokenizer"
            part = f"its {'image_processor' if images else 'tokenizer'} may be" if has_both else ""
            raise InputError(
                f"{type(model).__name__} reads {'images' if images else 'texts'}, and "
                f"{type(processor).__name__} is not {expected}{part and '; '}{part}."
            )
        self.model = model
        self.processor = processor if is_multimodal else None
        self.tokenizer = processor.tokenizer if is_multimodal else None if images else processor
        self.image_processor = processor if images else None
        if is_multimodal:
            self.image_processor = processor.image_processor
        if not isinstance(name, str | Path | None):
            raise InputError(f"name must be a string, got {shown(name)}.")
        self.pooling = held.pooling or "mean" if pooling is None else check_pooling(pooling)
        known = held.name or getattr(model.config, "name_or_path", "")
        self.name = str(name or known) or type(model).__name__

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = EMBEDDED_MODEL,
        *,
        device: str | torch.device | None = None,
        pooling: str | None = None,
        dtype: str | torch.dtype | None = None,
        device_map: str | torch.device | Mapping[str, Any] | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        subfolder: str | None = None,
        quantization_config: Any = None,
        gguf_file: str | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
    ) -> "Explainer":
        """Load a model by folder, file or hub id; the embedded one by default.

        Args:
            name: A folder, a GGUF file, a hub id, or the name of the embedded model.
            device: The device of the model; the CPU when None.
            pooling: For an embedding model, as in `Explainer`; when None, what the files of
                sentence-transformers next to its weights say.
            dtype: Type of the weights: "float32", "bfloat16", "float16", "float64", a torch type,
                or "auto" for the checkpoint's. None is float32, and the checkpoint's for quantised
                weights. All but products with weights is computed in float32 at least.
            device_map: As transformers takes it, instead of `device`: "auto", or a device for each
                part; layers may lie on several devices, or on "disk".
            revision: Branch, tag or commit on the hub.
            token: The hub's token, or True for the one that is stored.
            subfolder: Folder of the model inside `name`.
            quantization_config: Configuration of a backend of transformers that quantises while it
                loads, such as `BitsAndBytesConfig(load_in_4bit=True)`.
            gguf_file: Name of a GGUF file in `name`; its weights become those of `dtype`.
            attn_implementation: Back end of attention outside of explanations.
            trust_remote_code: Run code that comes with the model. It may do anything: off.

        Raises:
            InputError: An option or the folder is invalid, or a pooling is given and the model
                does not embed texts.
            ModelError: There is no such model, or it cannot be explained.
            MissingExtraError: A package that an option needs is not installed.
        """
        options = LoadOptions(
            device=device,
            dtype=dtype,
            device_map=device_map,
            revision=revision,
            token=token,
            subfolder=subfolder,
            quantization_config=quantization_config,
            gguf_file=gguf_file,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
        )
        model, processor = loading.load(name, options)
        task = explained_task(model)
        if pooling is not None and not task.embeds_texts:
            raise InputError(
                f"pooling applies only to models that embed texts, and {name} is for {task.name}: "
                "leave it out."
            )
        if pooling is None:
            pooling = loading.pooling(name, options) if task.embeds_texts else "mean"
        return cls(model, processor, name=str(name), pooling=pooling)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too, to the checker
        self, texts: str, *, continuation: None = ..., **options: Unpack[CallKeywords]
    ) -> Attribution: ...
    @overload
    def __call__(
        self, texts: Sequence[str], *, continuation: None = ..., **options: Unpack[CallKeywords]
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
        token_type_ids: Any = ...,
        **options: Unpack[CallKeywords],
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
        token_type_ids: Any = None,
        pair: str | Sequence[str] | None = None,
        target: Target | Value | Sequence[Target] | Sequence[Sequence[Target]] = None,
        against: Target | Sequence[Target] = None,
        position: int | Sequence[int] | None = None,
        span: Span | Sequence[Span] | None = None,
        attention_sink: str = "keep",
        tensor: str = "net",
        stages: Sequence[StageRule] | None = None,
        pattern: Pattern | None = None,
        readout: str = "input",
        gap: float = 1e-2,
        mu: float | None = None,
        edges: bool = False,
        truncate: bool = False,
        bos: bool = False,
        batch_size: int = 16,
        coarsen: Coarsen = None,
        max_memory: float | str | None = None,
        keep_unsolved: bool = False,
        neutral: Any = None,
        progress: Callable[[int], object] | bool | None = None,
    ) -> Any:
        """Explain one text or image, or several as a batch.

        Args:
            texts: A text, or a chat: a list of messages, `{"role": "user", "content": "..."}` each,
                which the tokenizer's template renders; or a sequence of texts or chats.
            images: For an image model, instead of texts: an image or a sequence of images. Each is
                a path, a Pillow image, or an array `(h, w)` or `(h, w, 1 or 3)` of uint8 or
                of floats in 0..1. For a vision-language model, with its texts: the images of one
                text, or for several texts an image or a list of images each. A text without places
                for them has them in front; a chat has {"type": "image"} in its contents.
            pixel_values: Instead of images: what the model reads, `(channels, height, width)` or
                `(batch, channels, height, width)` floats.
            continuation: For a language model: how the text continues, or how many tokens the model
                generates (greedily). Each of these tokens is explained. An encoder-decoder
                generates a text of its own, whose tokens follow the source's in the result.
            input_ids: Token ids instead of texts, `(t,)` or `(batch, t)`.
            attention_mask: 0 at padding of `input_ids`, on the left or on the right.
            token_type_ids: Which of two texts each of `input_ids` belongs to, as the tokenizer has
                it: `explainer(**tokenizer(text, pair))` explains an encoding.
            pair: A second text, for all texts or one for each. Models that read two (entailment,
                paraphrase, question and context) read it after the text; in the result it stands
                on a line of its own. With an embedding model, the text's contribution to the cosine
                of the two embeddings is explained.
            target: The class, token or answer to explain, by label, text or index, for all texts or
                one for each; None is the predicted one. "all" is every class, "top3" are the three
                most probable classes, tokens or answers (or another number), and a list for one
                text by itself, or a list of lists, several targets of a text: each text then has a
                list of attributions. Those of one text by itself share its first pass. An answer is
                the first run of tokens with its text. Or a function that computes a number for each
                text, `(batch,)`, from the model's output: that number is explained.
            against: Another class or token: why the target and not this one, by the difference of
                their logits. Not for spans and continuations: to contrast two of them, explain each
                in a call of its own.
            position: For models that decide at every token: the index of the token whose output is
                read. A causal language model predicts the next token there, by default the one
                after the last; tokens after the position get exactly 0. A masked language model
                fills the mask.
            span: For a language model: explain tokens `start` to `stop` of the result, half-open,
                at once, by the sum of their numbers; True is the whole continuation.
            attention_sink: For a language model, the policy for the first token that its decoder
                reads: "keep" it like any other, "exclude" it (no flow may end there; `raw_scores`
                of the result has the scores with it), or "apart": scored but not ranked.
            tensor: Information tensor: "net" (effects net at every token, four backward passes),
                "bcf" (balanced conservative, four), "cf" (conservative, one), all three of
                docs/method.md, or the paper's "af", "gf" or "agf".
            stages: For "net": what the stages after the first remove, a forward and a backward pass
                for each. A share, inside (0, 1), is of the tokens that contributed the most so far;
                "halves" are two stages, each without every other token in that order. () is the
                whole text alone. None is (0.1, "halves") where tokens can be hidden by the
                attention mask, in models that write; (0.05, 0.15, 0.3) elsewhere.
            pattern: For "net": "shared" gives queries and keys a part of what attention's weights
                do, "frozen" holds the weights constant. None is "shared" where tokens can be
                hidden, and "frozen" elsewhere and for models that compute attention themselves.
            readout: "input" scores a token by its outflow from the input row, so that scores sum to
                the flow; "throughput" by its mean flow over all rows, for "net", "bcf" and
                "cf" alone, where a token's rows are its own residual stream.
            gap: Accuracy of the flow, relative to the capacity of its narrowest row, inside (0, 1);
                see `maximum_flow`.
            mu: Absolute weight of the barrier, > 0, instead of `gap`.
            edges: Keep the flow on every edge in the result (layers * t * t numbers for each text).
            truncate: Cut texts that are longer than the model takes, with a warning.
            bos: For a decoder whose tokenizer puts no beginning-of-text token in front: put the
                model's own there. It is a special token, which is not ranked.
            batch_size: The maximum number of texts or images in one forward pass.
            coarsen: Merge this many neighbouring tokens, or those of a "word" or "sentence", into
                one node of the flow: for long texts. The result's tokens are then these segments,
                with `segments` set; `edges` are between them. See docs/long.md. Patches of images
                are not merged.
            max_memory: Bytes, or as in "8GB", that the call may take besides the loaded model. The
                solver switches to its method of least memory to stay below it. The model's part
                is measured first: on short texts, or in one pass for each size of images. When
                None there is no limit, but a flow that cannot fit into the free memory is refused.
            keep_unsolved: Also return uncertified flows, instead of raising.
            neutral: For images: the pixel values that stages put into removed patches, in the units
                of `pixel_values`: a number, one for each channel, or pixel values. None is the
                image processor's mean, 0 after it.
            progress: A function that is called after each batch with the number of texts or images
                done in it. A text with a continuation counts as done once its last token is. True
                shows a bar after two seconds, False never; None shows it in terminals and
                notebooks.

        Returns:
            One attribution for a text or image, and a list of them, in the order given, for a
            sequence. With several targets the place of each attribution is taken by a list of them,
            with a continuation by `Attributions`, a list with one attribution for each of its
            tokens.

        Raises:
            InputError: An argument, a label, a text or an image is invalid, or the call needs more
                memory than it may take.
            StorageError: The file of an image cannot be read.
            ModelError: The model cannot be explained.
            UnsolvedError: A flow could not be certified.
        """
        options = CallOptions(
            tensor=tensor,
            stages=stages,
            pattern=pattern,
            readout=readout,
            gap=gap,
            mu=mu,
            edges=edges,
            attention_sink=attention_sink,
            batch_size=batch_size,
            coarsen=coarsen,
            max_memory=max_memory,
            keep_unsolved=keep_unsolved,
        )
        check_progress(progress)
        given = Given(
            texts=texts,
            pair=pair,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            truncate=truncate,
            bos=bos,
            continuation=continuation,
            images=images,
            pixel_values=pixel_values,
            neutral=neutral,
        )
        explained = TargetOptions(target=target, against=against, position=position, span=span)
        with plain_torch():
            call = self.begin_call(options, target)
            requests = call.requests(given, explained)
            with call_progress(requests, call.options, call.inputs.task, progress) as shown:
                attributions = call.explain_all(requests, shown)
            if not options.keep_unsolved:
                check_certified(attributions)
            warn_of_faint(attributions)
            return requests.regroup(attributions)

    def begin_call(self, options: CallOptions, target: Any) -> Call:
        """Return a call of these options, whose examples are not read yet.

        Raises:
            ModelError: The model cannot be explained.
            InputError: An option does not suit it.
        """
        check_model(getattr(self.model, "_orig_mod", self.model))  # torch.compile wraps the model
        task = explained_task(self.model)
        options.check_task(task)
        learn_family(self.model)
        options.check_pattern(self.model)
        return Call(
            inputs=self._inputs(task, compares_pairs=not callable(target)),
            options=options.with_defaults(hidden=hides_tokens(self.model, task, target)),
            space_of=output_spaces(task, self.model, self.tokenizer, target),
            shares_pass=can_share_pass(self.model, task, target),
            name=self.name,
        )

    def _inputs(self, task: Task, *, compares_pairs: bool = True) -> ModelInputs[Any]:
        """Return the reader of texts, or of images if the model reads images."""
        if task.modality == "image":
            return ImageInputs(self.model, self.image_processor, task)
        if task.takes_images:
            return MultimodalInputs(self.model, self.processor, self.tokenizer, task)
        # A function of the output may want both texts in one, as a cross-encoder reads them.
        compares_pairs = task.embeds_texts and compares_pairs
        return TextInputs(
            self.model, self.tokenizer, task, pooling=self.pooling, compares_pairs=compares_pairs
        )

    def estimate(
        self,
        texts: str | int | Sequence[str | int] | None = None,
        *,
        images: Any = None,
        pixel_values: Any = None,
        tensor: str = "net",
        stages: Sequence[StageRule] | None = None,
        batch_size: int = 16,
        coarsen: Coarsen = None,
        truncate: bool = False,
        max_memory: float | str | None = None,
    ) -> Estimate:
        """Estimate the memory of a call besides the loaded model, in the batch that needs most.

        A few passes of the model measure its part: on short texts, or one pass with an image of
        each size.

        Args:
            texts: Texts or chats as in a call, or how many tokens they have.
            images: As in a call, like the options that follow.
            pixel_values: As in a call.
            tensor: As in a call.
            stages: As in a call.
            batch_size: As in a call; 1 for a target that is a function, whose texts are read one by
                one.
            coarsen: As in a call.
            truncate: As in a call.
            max_memory: As in a call; the solver's method depends on it.

        Raises:
            InputError: As in a call, except for too little memory.
            StorageError: As in a call.
            ModelError: As in a call.
        """
        options = CallOptions(
            tensor=tensor,
            stages=stages,
            batch_size=batch_size,
            coarsen=coarsen,
            max_memory=max_memory,
        )
        given = Given(texts=texts, images=images, pixel_values=pixel_values, truncate=truncate)
        task = explained_task(self.model)
        options.check_task(task)
        learn_family(self.model)
        batch_size = batch_size if can_share_pass(self.model, task, None) else 1
        with plain_torch():
            sizes = sizes_of(self._inputs(task, compares_pairs=False), given, coarsen)
            planner = MemoryPlanner(self.model, tensor, options.networks)
            return planner.largest(sizes, batch_size, max_memory)

    def __repr__(self) -> str:
        return f"Explainer({self.name!r})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return labels_of(self.model)

    @property
    def limit(self) -> int | None:
        """The maximum number of tokens, special ones included; None where nothing bounds it."""
        return loading.token_limit(self.model.config, self.tokenizer)


def _takes_images(model: Any) -> bool:
    """Return whether a model reads texts with images in them, by the name of its class."""
    task = task_of(type(getattr(model, "_orig_mod", model)).__name__)
    return task is not None and task.takes_images
