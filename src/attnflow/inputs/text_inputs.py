"""Texts, pairs, chats and token ids of a call, read for one model.

Whatever comes is checked here, once, and becomes an `EncodedText` for each example. Read next:
text.py for how a text is encoded, continuation.py for how it continues.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from attnflow.errors import InputError, ModelError, ModelWarning, shown, warn
from attnflow.inputs import batching
from attnflow.inputs.beginning import beginning_id, lacks_beginning, with_beginning
from attnflow.inputs.chat import Messages, append_reply, encode_chat, is_chat, listed
from attnflow.inputs.continuation import append, continuation_ids, generate, with_decoder_prefix
from attnflow.inputs.example import ContinuedText, ReadExamples
from attnflow.inputs.given import Given
from attnflow.inputs.per_example import ExampleLabels, one_for_each
from attnflow.inputs.text import EncodedText, encode
from attnflow.inputs.token_ids import check_length, encode_ids, unpadded_rows
from attnflow.models.loading import token_limit
from attnflow.models.tasks import Task

NO_VOCABULARY = 2**31  # more tokens than any tokenizer has, where a config does not say


class TextInputs:
    """Reads the texts of a call for one model, with its tokenizer if there is one.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer, or None.
        task: The task of the model.
        pooling: The pooling by which it embeds texts, if it does.
        limit: Most tokens that it takes, or None.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: Task,
        *,
        pooling: str = "mean",
        compares_pairs: bool = False,
    ) -> None:
        """Take a model and its tokenizer.

        Args:
            model: A model of transformers.
            tokenizer: Its tokenizer, or None.
            task: The task of the model.
            pooling: The pooling by which it embeds texts.
            compares_pairs: Encode a text and its pair apart, since their embeddings are compared.
        """
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.pooling, self.compares_pairs = pooling, compares_pairs
        self.limit = token_limit(model.config, tokenizer)

    def read(self, given: Given) -> ReadExamples[EncodedText]:
        """Encode the texts, chats or token ids of a call.

        Raises:
            InputError: Both texts and ids were given, or what was given cannot be explained.
            ModelError: Tokenizer and model do not belong together.
        """
        if given.input_ids is None:
            for name in ("attention_mask", "token_type_ids"):
                if getattr(given, name) is not None:
                    raise InputError(
                        f"{name} goes with input_ids: of texts the tokenizer makes it."
                    )
            # A chat is a list of dicts, and one example; a list of texts or chats is several.
            is_single = isinstance(given.texts, str) or is_chat(given.texts)
            texts = self._begun(self._read_texts(given), given.bos)
            return ReadExamples(texts, is_single, "text")
        if given.texts is not None:
            raise InputError("give texts or input_ids, and not both.")
        if given.pair is not None:
            raise InputError("pair goes with texts, and not with input_ids.")
        if given.bos:
            raise InputError("bos goes with texts: put the token in front of input_ids yourself.")
        encoded = self._read_ids(given)
        return ReadExamples(encoded, np.ndim(given.input_ids[0]) == 0, "text")

    def encode(
        self, text: Any, pair: str | None = None, *, truncate: bool = False, bos: bool = False
    ) -> EncodedText:
        """Encode one text or chat, with its pair after it, or apart where the two are compared.

        With `bos` a text that is cut leaves one place for the token that comes in front.

        Raises:
            InputError: As `text.encode` and `encode_chat`.
            ModelError: Tokenizer and model do not belong together.
        """
        limit = self.limit
        if bos and truncate and limit is not None:
            limit -= 1
        encoded = self._encode(text, pair, truncate=truncate, limit=limit)
        self._check_vocabulary(encoded)
        if encoded.compared is not None:
            self._check_vocabulary(encoded.compared)
        return encoded

    def _encode(
        self, text: Any, pair: str | None, *, truncate: bool, limit: int | None
    ) -> EncodedText:
        if is_chat(text):
            return self._encode_chat(text, pair)
        if pair is None or not self.compares_pairs:
            return encode(self.tokenizer, text, pair, limit=limit, truncate=truncate)
        whole, compared = (
            encode(self.tokenizer, part, limit=limit, truncate=truncate) for part in (text, pair)
        )
        return replace(whole, compared=compared)

    def with_prompt(self, example: EncodedText) -> EncodedText:
        """Return the text, for an encoder-decoder with the tokens that its own text begins with."""
        if not self.task.has_two_stacks:
            return example
        return with_decoder_prefix(self.model, self.tokenizer, example)

    def continued(
        self, example: EncodedText, continuation: str | int
    ) -> ContinuedText[EncodedText]:
        """Append a continuation: given as text, or so many generated tokens.

        Raises:
            InputError: The continuation is empty, or longer than the model takes.
        """
        # For the ids alone: the decoder's start tokens, after which an encoder-decoder generates,
        # are in the prompt, and `_append` puts them after the example itself.
        prompt = self.with_prompt(example)
        prompt_ids, limit = prompt.inputs["input_ids"], self.limit
        if self.task.has_two_stacks:  # the decoder's positions are counted by themselves
            prompt_ids = prompt.inputs["decoder_input_ids"]
            limit = token_limit(self.model.config, None)
        if isinstance(continuation, str):
            # A chat's answer comes after the template's marks, not after a text.
            before = example if self.task.reads_one_text and not example.roles else None
            ids = continuation_ids(self.tokenizer, continuation, before)
        else:
            ids = generate(self.model, prompt, continuation, limit)
        check_length(len(prompt_ids) + len(ids), limit, "the text with its continuation")
        return ContinuedText(self._append(example, ids), len(prompt.tokens), ids)

    def collate(self, examples: Sequence[EncodedText]) -> dict[str, Tensor]:
        """`(batch, t)` tensors on the model's device, padded on the right."""
        return batching.collate_texts(examples, self.model, self.tokenizer)

    def places(self, example: EncodedText, inputs: Mapping[str, Tensor]) -> list[int]:
        """Index of each token of the text among the nodes of its batch."""
        return batching.places(example, inputs)

    @property
    def neutral_token(self) -> int:
        """Id of the token that stands for a removed one.

        Raises:
            ModelError: Tokenizer and config have no such token.
        """
        return batching.neutral_token(self.tokenizer, self.model.config.get_text_config())

    def baseline(self, examples: Sequence[EncodedText], inputs: Mapping[str, Tensor]) -> Tensor:
        """`(batch, nodes)` ids with every ordinary token replaced by the neutral token.

        Raises:
            ModelError: There is no neutral token.
        """
        config = self.model.config.get_text_config()
        return batching.masked_ids(examples, inputs, self.tokenizer, config)

    def check_nodes(self, example: EncodedText, nodes: int) -> None:
        """Check nothing: the capture itself compares the tokens of texts with its nodes."""

    def _begun(self, texts: list[EncodedText], bos: bool) -> list[EncodedText]:
        """The texts with a beginning-of-text token, if that is asked for; else a word about it."""
        is_decoder = self.task.is_generative and not self.task.has_two_stacks
        if bos and not is_decoder:
            raise InputError(f"bos is for decoders of one stack; this one is for {self.task.name}.")
        token = beginning_id(self.model, self.tokenizer)
        if is_decoder and not bos and any(lacks_beginning(text, token) for text in texts):
            warn(
                f"the tokenizer of {type(self.model).__name__} puts no beginning-of-text token in "
                f"front, so that attention rests on the first word; bos=True (--bos) puts "
                f"{self._name(token)!r} there, which is not ranked.",
                ModelWarning,
            )
        if not bos:
            return texts
        labels = ExampleLabels([text.text for text in texts])
        begun = []
        for i, text in enumerate(texts):
            with labels.about(i):
                begun.append(with_beginning(text, token, self._name(token), self.limit))
        return begun

    def _name(self, token: int | None) -> str:
        return "" if token is None else str(self.tokenizer.convert_ids_to_tokens(token))

    def _read_texts(self, given: Given) -> list[EncodedText]:
        if self.tokenizer is None:
            raise InputError(
                "there is no tokenizer to read texts with: use Explainer(model, tokenizer), or "
                "give input_ids instead of texts."
            )
        if given.pair is not None and self.task.reads_one_text:
            raise InputError(
                f"pair is for models that read two texts; this one is for {self.task.name}, and "
                "reads one: write both into it as the model is to see them."
            )
        texts = _checked(given.texts)
        pairs = one_for_each(given.pair, len(texts), "pair")
        labels = ExampleLabels([_beginning(text) for text in texts])
        # Encoded one by one: an error can then name its text, and offsets need no padding.
        encoded = []
        for i, (text, pair) in enumerate(zip(texts, pairs, strict=True)):
            with labels.about(i):
                encoded.append(self.encode(text, pair, truncate=given.truncate, bos=given.bos))
        # After all are encoded: what is refused is not warned about.
        for index, example in enumerate(encoded):
            _warn_where_cut(index, example)
        return encoded

    def _check_vocabulary(self, text: EncodedText) -> None:
        """Check that the model knows every token that the tokenizer gave."""
        # A foreign tokenizer would index outside the embedding table, with a raw error.
        highest = max(text.inputs["input_ids"])
        if highest >= self._vocabulary:
            raise ModelError(
                f"the tokenizer gave token {highest}, and {type(self.model).__name__} knows "
                f"the tokens 0 to {self._vocabulary - 1}: they do not belong together."
            )

    def _encode_chat(self, messages: Messages, pair: str | None) -> EncodedText:
        if pair is not None or self.task.has_two_stacks:
            raise InputError(
                "a chat is a text by itself, for a model of one stack: leave pair out, or give an "
                "encoder-decoder its source as a text."
            )
        generates = self.task.is_generative
        return encode_chat(self.tokenizer, messages, limit=self.limit, generates=generates)

    def _read_ids(self, given: Given) -> list[EncodedText]:
        rows = unpadded_rows(given.input_ids, given.attention_mask)
        labels = ExampleLabels([""] * len(rows))
        encoded = []
        for i, ids in enumerate(rows):
            with labels.about(i):
                self._check_ids(ids)
                encoded.append(encode_ids(self.tokenizer, ids, self.limit))
        if given.token_type_ids is None:
            return encoded
        types = unpadded_rows(given.token_type_ids, given.attention_mask, "token_type_ids")
        if list(map(len, types)) != list(map(len, rows)):
            raise InputError("token_type_ids must have the shape of input_ids.")
        return [
            replace(text, inputs={**text.inputs, "token_type_ids": row})
            for text, row in zip(encoded, types, strict=True)
        ]

    def _check_ids(self, ids: Sequence[int]) -> None:
        unknown = [i for i in ids if not 0 <= i < self._vocabulary]
        if unknown:
            raise InputError(
                f"input_ids has {shown(unknown[0])}, which is not a token of "
                f"{type(self.model).__name__}: expected 0 to {self._vocabulary - 1}, "
                "as its own tokenizer gives them."
            )

    def _append(self, text: EncodedText, ids: list[int]) -> EncodedText:
        if self.task.has_two_stacks:
            return with_decoder_prefix(self.model, self.tokenizer, text, ids)
        if text.roles:
            return append_reply(self.tokenizer, text, ids)
        return append(self.tokenizer, text, ids)

    @property
    def _vocabulary(self) -> int:
        """Number of tokens that the model knows."""
        size = getattr(self.model.config.get_text_config(), "vocab_size", None)
        return NO_VOCABULARY if size is None else int(size)


def _warn_where_cut(index: int, example: EncodedText) -> None:
    for name, part in (("text", example), ("the pair of text", example.compared)):
        if part is not None and part.truncated:
            warn(
                f"{name} {index} was cut to {len(part.tokens)} tokens: "
                f"{part.truncated} more are not explained."
            )


def _beginning(text: Any) -> str:
    """The text, or the first message of a chat; "" where it is neither."""
    if is_chat(text):
        text = next(message for message in text if isinstance(message, Mapping)).get("content")
    return text if isinstance(text, str) else ""


def _checked(texts: Any) -> list[Any]:
    """The texts in a list; refuses what is none, or an empty sequence."""
    if isinstance(texts, Mapping):
        raise InputError(
            f"texts must be a text, a chat or a sequence of texts, got a {type(texts).__name__}; "
            "what a tokenizer gave is explained by explainer(**encoding), and a chat is a list."
        )
    if not isinstance(texts, Iterable) or isinstance(texts, Tensor | bytes | bytearray):
        raise InputError(
            f"texts must be a text, a chat or a sequence of texts, got {shown(texts)}."
        )
    many = listed(texts)
    if not many:
        raise InputError("texts is empty: give at least one text.")
    return many
