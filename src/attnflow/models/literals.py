"""Names that options and results take, as types; importing them loads neither torch nor numpy.

`get_args(InformationTensor)` lists the names, for checks and for the command's choices.
"""

from typing import Literal

InformationTensor = Literal["af", "gf", "agf", "cf", "bcf"]
"""How attention and its gradients become capacities; see docs/method.md."""

PaperTensor = Literal["af", "gf", "agf"]
"""Tensors of the paper: they need to know nothing of a model's family."""

ConservativeTensor = Literal["cf", "bcf"]
"""Tensors with residual edges; they need a family that `attnflow models` lists."""

Readout = Literal["input", "throughput"]
"""Where scores are read off a flow: at the input tokens, or at every layer."""

SinkPolicy = Literal["keep", "exclude", "apart"]
"""What happens to the first token that a decoder reads, its attention sink."""

SegmentUnit = Literal["word", "sentence"]
"""Named units that `coarsen` merges tokens to; a number of tokens is the other way to give one."""

Granularity = Literal["token", "word"]
"""Units that are shown, ranked or removed."""

OutputKind = Literal["class", "token", "answer", "nothing"]
"""What a model chooses: a label, a token of its vocabulary, a run of the text's tokens, nothing."""

ReadoutPosition = Literal["text", "image", "last", "mask", "token", "prefix"]
"""Where a model's decision is read: wherever the model does so itself (`text`, `image`), at the last
token, at a mask, at any token, or at one token of what an encoder-decoder has written."""
