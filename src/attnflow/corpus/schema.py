"""The columns of a corpus's results: an Arrow schema, one row for each text of the source.

Every column states what it holds in its metadata (`description`), and the table has the version of
the schema in its own. Lists have a number for each token, in the order of `tokens`; numbers for
tokens are float32, all others are float64. A row that failed has `error`, and null in all that a
result would have told.

Read next: `result_rows`, which fills them.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
SOURCE_PREFIX = "source_"  # of columns that are kept of the source

_NAME = pa.dictionary(pa.int32(), pa.string())  # few different values
_NUMBERS = pa.list_(pa.float32())
_SEGMENT = pa.struct(
    [
        pa.field("name", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("share", pa.float64()),
        pa.field("contribution", pa.float64()),
    ]
)
_CERTIFICATE = pa.struct(
    [
        pa.field("status", pa.string()),
        pa.field("gap", pa.float64()),
        pa.field("upper_bound", pa.float64()),
        pa.field("mu", pa.float64()),
        pa.field("conservation", pa.float64()),
        pa.field("centrality", pa.float64()),
        pa.field("iterations", pa.int32()),
    ]
)

# Name, type and meaning of each column; `docs/corpus.md` is checked against it.
COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("id", pa.string(), "the text's id: of the id column, or file and row"),
    ("file", _NAME, "the file of the source, in the folder or glob that was given"),
    ("row", pa.int64(), "index of the row in that file, from 0"),
    ("text", pa.string(), "the text as it was explained; of a chat its messages, each on a line"),
    ("tokens", pa.list_(pa.string()), "the tokenizer's tokens, special ones too"),
    ("starts", pa.list_(pa.int32()), "first character of each token in `text`"),
    ("ends", pa.list_(pa.int32()), "character after the last; equal to `starts` at special tokens"),
    ("words", pa.list_(pa.int32()), "index of each token's word; null at special tokens"),
    ("word_starts", pa.list_(pa.int32()), "first character of each word in `text`"),
    ("word_ends", pa.list_(pa.int32()), "character after the last of each word"),
    ("special", pa.list_(pa.bool_()), "true at tokens that the tokenizer or a template added"),
    ("scores", _NUMBERS, "flow that ends at each token, at least 0"),
    ("contributions", _NUMBERS, "signed effect of each token on `explained`; null without signs"),
    ("signed_scores", _NUMBERS, "the same by the flow, where a token speaks for the decision"),
    ("segments", pa.list_(_SEGMENT), "turns of a chat or parts of a text, with their sums"),
    (
        "target",
        pa.int32(),
        "index of the explained class in the model's `id2label`; null for tokens and answers",
    ),
    ("label", _NAME, "name of what is explained: class, token, answer or continuation"),
    ("predicted", _NAME, "name of what the model predicts"),
    ("probability", pa.float64(), "the model's probability of `label`, 0 to 1"),
    ("confidence", pa.float64(), "the model's probability of `predicted`, 0 to 1"),
    ("true_label", _NAME, "the label column of the source; null without one"),
    ("explained", pa.float64(), "the explained number: log-odds, logit or cosine"),
    ("flow", pa.float64(), "value of the flow; with `net` the mean over its stages"),
    ("concentration", pa.float64(), "sum of squared shares of words: 1 where one word has all"),
    ("certificate", _CERTIFICATE, "proof that the flow is the optimum"),
    ("position", pa.int32(), "index of the token whose output was read; null for classifiers"),
    ("truncated", pa.int32(), "number of tokens that were cut off"),
    ("warnings", pa.list_(pa.string()), "what was to be said about this text"),
    ("tensor", _NAME, "the information tensor"),
    ("model", _NAME, "name of the model, with the type of its weights where it is not float32"),
    ("versions", _NAME, "versions of attnflow, torch and transformers"),
    ("seconds", pa.float32(), "this text's part of the seconds of its shard; differs by run"),
    ("error", pa.string(), "why there is no result; null where there is one"),
    ("error_kind", _NAME, "name of the error's type"),
)


def result_schema(kept: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of results with these columns of the source, which are kept as strings.

    Args:
        kept: Names of columns of the source; they get the prefix `source_`.
    """
    fields = [_field(*column) for column in COLUMNS]
    about = "column of the source, as a string"
    fields += [_field(f"{SOURCE_PREFIX}{name}", _NAME, about) for name in kept]
    return pa.schema(fields, metadata={"attnflow.schema_version": str(SCHEMA_VERSION)})


def _field(name: str, kind: Any, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": description})
