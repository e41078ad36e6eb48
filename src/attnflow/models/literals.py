"""Names that options and results take, as types; importing them loads neither torch nor numpy.

`get_args(InformationTensor)` lists the names, for checks and for the command's choices.
"""

from typing import Literal

InformationTensor = Literal["af", "gf", "agf", "cf", "bcf", "net"]
"""How attention and its gradients become capacities; see docs/method.md."""

PaperTensor = Literal["af", "gf", "agf"]
"""Tensors of the paper: they need to know nothing of a model's family."""

ConservativeTensor = Literal["cf", "bcf", "net"]
"""Tensors with residual edges; they need a family that `attnflow models` lists."""

Pattern = Literal["shared", "frozen"]
"""What attention's pattern is to the effects of "net": a factor with a share, or a constant."""

Readout = Literal["input", "throughput"]
"""Where scores are read off a flow: at the input tokens, or at every layer."""

SinkPolicy = Literal["keep", "exclude", "apart"]
"""What happens to the first token that a decoder reads, its attention sink."""

SegmentUnit = Literal["word", "sentence"]
"""Named units that `coarsen` merges tokens to; a number of tokens is the other way to give one."""

Granularity = Literal["token", "word"]
"""Units that are shown, ranked or removed."""

Modality = Literal["text", "image"]
"""What a model reads."""

OutputKind = Literal["class", "token", "answer", "embedding"]
"""What a model gives: logits of labels, of a vocabulary, of runs of a text's tokens; vectors."""

ReadoutPosition = Literal["model", "last", "mask", "token", "prefix"]
"""The position whose output is the decision: where the model itself reads it, the last token or
another one, a mask, any token, or a token of the text that an encoder-decoder generates."""
