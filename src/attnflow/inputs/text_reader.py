"""What a call gives to be explained, as the model reads it: texts, pairs, chats, token ids.

Whatever comes is checked here, once, and becomes an `EncodedText` for each example. Read next:
tokens.py for how a text is placed, continuations.py for ids and for how a text goes on.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from attnflow.errors import InputError, ModelError
from attnflow.explainer.targets.decision import Decision, continued
from attnflow.explainer.targets.span import decision_on
from attnflow.inputs.chat import Messages, encode_chat, is_chat, replied
from attnflow.inputs.continuation import begun, extended, ids_of, written
from attnflow.inputs.per_example import Names, one_for_each
from attnflow.inputs.text import EncodedText, encode
from attnflow.inputs.token_ids import check_length, of_ids, rows_of_ids
from attnflow.models import loading
from attnflow.models.tasks import Task


class Reader:
    """Reads examples for one model, with its tokenizer if there is one.

    With `compares`, a text and its pair are two examples whose embeddings are compared.
    """

    def __init__(self, model: Any, tokenizer: Any, task: Task, *, compares: bool = False) -> None:
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.compares = compares
        self.limit = loading.token_limit(model.config, tokenizer)

    def texts(
        self, texts: Any, pair: str | Sequence[str] | None, truncate: bool
    ) -> list[EncodedText]:
        """One for each text or chat, behind which its pair stands where there is one.

        Raises:
            InputError: There is no tokenizer, no text, or a text that cannot be explained.
            ModelError: The tokenizer is not the model's.
        """
        if self.tokenizer is None:
            raise InputError("there is no tokenizer to read texts with: give input_ids.")
        if pair is not None and self.task.reads == "last":
            raise InputError(
                f"pair is for models that read two texts; this one is for {self.task.name}, and "
                "reads one: write both into it as the model is to see them."
            )
        many = _listed(texts)
        pairs = one_for_each(pair, len(many), "pair")
        names = Names([_beginning(text) for text in many])
        found = names.each(lambda i: self._encoded(many[i], pairs[i], truncate))
        for index, encoded in enumerate(found):
            for name, part in (("text", encoded), ("the pair of text", encoded.compared)):
                if part is not None and self._known(part).truncated:
                    warnings.warn(
                        f"{name} {index} was cut to {len(part.tokens)} tokens: "
                        f"{part.truncated} more are not explained.",
                        stacklevel=6,
                    )
        return found

    def _encoded(self, text: Any, other: str | None, truncate: bool) -> EncodedText:
        """A text with its pair behind it, or beside it where the two are compared; or a chat."""
        options: Any = {"limit": self.limit, "truncate": truncate}
        if is_chat(text):
            return self._chat(text, other)
        if other is None or not self.compares:
            return encode(self.tokenizer, text, other, **options)
        compared = encode(self.tokenizer, other, **options)
        return replace(encode(self.tokenizer, text, **options), compared=compared)

    def _chat(self, messages: Messages, pair: str | None) -> EncodedText:
        if pair is not None or self.task.reads == "prefix":
            raise InputError(
                "a chat is a text by itself, for a model of one stack: leave pair out, or give an "
                "encoder-decoder its source as a text."
            )
        return encode_chat(self.tokenizer, messages, limit=self.limit, writes=self.task.writes)

    def ids(self, input_ids: Any, attention_mask: Any) -> list[EncodedText]:
        """One for each row of ids, without its padding.

        Raises:
            InputError: They are no such rows, too long, or not in the model's vocabulary.
        """
        rows = rows_of_ids(input_ids, attention_mask)
        names = Names([""] * len(rows))
        return names.each(lambda i: self._of_ids(rows[i]))

    def _of_ids(self, ids: list[int]) -> EncodedText:
        known = self._vocabulary
        wrong = [i for i in ids if not 0 <= i < known]
        if wrong:
            raise InputError(
                f"input_ids has {wrong[0]}, which is no token of {type(self.model).__name__}: "
                f"expected 0 to {known - 1}, as its own tokenizer gives them."
            )
        return of_ids(self.tokenizer, ids, self.limit)

    def begun(self, text: EncodedText) -> EncodedText:
        """The text, and for an encoder-decoder the tokens that its own text begins with."""
        return begun(self.model, self.tokenizer, text) if self.task.reads == "prefix" else text

    def continued(
        self, text: EncodedText, continuation: str | int
    ) -> list[tuple[EncodedText, Decision]]:
        """The text as it goes on, with a decision for each token that follows."""
        whole, start, ids = self._gone_on(text, continuation)
        return [(whole, decision) for decision in continued(start, ids)]

    def spanned(
        self, text: EncodedText, continuation: str | int | None, span: Any
    ) -> tuple[EncodedText, Decision]:
        """The text, as it goes on where it does, with one decision about a span of its tokens."""
        if continuation is None:
            whole, start = self.begun(text), None
        else:
            whole, start, _ = self._gone_on(text, continuation)
        return whole, decision_on(self.task, whole, span, start)

    def _gone_on(
        self, text: EncodedText, continuation: str | int
    ) -> tuple[EncodedText, int, list[int]]:
        """The text as it goes on, where that begins, and its tokens."""
        start = self.begun(text)
        known, limit = start.inputs["input_ids"], self.limit
        if self.task.reads == "prefix":  # what is written has positions of its own
            known = start.inputs["decoder_input_ids"]
            limit = loading.token_limit(self.model.config, None)
        if isinstance(continuation, str):
            # A template's marks stand between a chat and its answer.
            prompt = text if self.task.reads == "last" and not text.roles else None
            ids = ids_of(self.tokenizer, continuation, prompt)
        else:
            ids = written(self.model, start, continuation, limit)
        check_length(len(known) + len(ids), limit, "the text with its continuation")
        if self.task.reads == "prefix":
            whole = begun(self.model, self.tokenizer, text, ids)
        elif text.roles:
            whole = replied(self.tokenizer, text, ids)
        else:
            whole = extended(self.tokenizer, text, ids)
        return whole, len(start.tokens), ids

    def _known(self, text: EncodedText) -> EncodedText:
        """The text, whose tokens the model all knows."""
        highest = max(text.inputs["input_ids"])
        if highest >= self._vocabulary:
            raise ModelError(
                f"the tokenizer gave token {highest}, and {type(self.model).__name__} knows the "
                f"tokens 0 to {self._vocabulary - 1}: they do not belong together."
            )
        return text

    @property
    def _vocabulary(self) -> int:
        """How many tokens the model knows; more than any tokenizer has where it does not say."""
        size = getattr(self.model.config.get_text_config(), "vocab_size", None)
        return 2**31 if size is None else int(size)


def check_kind(model: Any, kind: str, **other: Any) -> None:
    """Nothing but the kind of example that the model reads is given.

    Args:
        model: It reads them.
        kind: "texts" or "images".
        other: What only models of the other kind take, by name; None or False where not given.

    Raises:
        InputError: Something of it is given.
    """
    given = [name for name, value in other.items() if value is not None and value is not False]
    if given:
        take = {"texts": "texts or input_ids", "images": "images= or pixel_values="}[kind]
        raise InputError(
            f"{type(model).__name__} reads {kind}: give {take} (in the command "
            f"{'TEXT or --file' if kind == 'texts' else '--image'}), and no {given[0]}; or another "
            "model."
        )


def read(
    reader: Reader, texts: Any, *, pair: Any, input_ids: Any, attention_mask: Any, truncate: bool
) -> tuple[bool, list[EncodedText]]:
    """Whether there is one example alone, and all of them.

    Raises:
        InputError: Both texts and ids were given, or what was given cannot be explained.
        ModelError: Tokenizer and model do not belong together.
    """
    if input_ids is None and attention_mask is not None:
        raise InputError("attention_mask goes with input_ids: of texts the tokenizer makes it.")
    if input_ids is None:
        return isinstance(texts, str) or is_chat(texts), reader.texts(texts, pair, truncate)
    if texts is not None:
        raise InputError("give texts or input_ids, and not both.")
    if pair is not None:
        raise InputError("pair goes with texts, and not with input_ids.")
    found = reader.ids(input_ids, attention_mask)
    return np.ndim(input_ids[0]) == 0, found


def _beginning(text: Any) -> str:
    """The text, or what a chat's first message says; "" of what is neither."""
    if is_chat(text):
        text = next(message for message in text if isinstance(message, Mapping)).get("content")
    return text if isinstance(text, str) else ""


def _listed(texts: Any) -> list[Any]:
    if isinstance(texts, str) or is_chat(texts):
        return [texts]
    if not isinstance(texts, Iterable):
        raise InputError(f"texts must be a text, a chat or a sequence of texts, got {texts!r:.80}.")
    many = list(texts)
    if not many:
        raise InputError("texts is empty: give at least one text.")
    return many
