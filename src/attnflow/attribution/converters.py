"""Results for other libraries: pandas, SHAP, Captum and Inseq, each imported when asked for.

The values that SHAP, Captum and Inseq get are the signed contributions, in units of the explained
number (log-odds of "net" and "bcf", a logit of "cf"); of the paper's tensors, whose effects have no
signs, the scores in units of the flow. They are not Shapley values of the model, and no integral of
gradients.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.table import INTEGERS, Table
from attnflow.errors import InputError, needs, shown


def data_frame(table: Table) -> Any:
    """Return a table as a `pandas.DataFrame`; integers that may be missing are Int64.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    with needs("a data frame needs pandas", "pandas"):
        import pandas
    frame = pandas.DataFrame(table)
    # Columns of None alone have these types too, so that frames can be joined.
    types = {"role": "string", "contribution": "float64", "signed_score": "float64"}
    return frame.astype(types | {name: "Int64" for name in INTEGERS if name in table})


def values_of(data: AttributionData) -> NDArray[np.float64]:
    """`(t,)` signed contributions, or scores where the tensor's effects have no signs."""
    return data.scores if data.contributions is None else data.contributions


def base_value(data: AttributionData) -> float:
    """Return the number that makes `values_of` add up to the explained number.

    It is the remainder: what biases, shared patterns and stages leave over. It is 0 where there
    are no contributions, or the explained number is not known.
    """
    return data.remainder or 0.0


def pieces(data: AttributionData) -> list[str]:
    """Return the tokens as they stand in the text, each with the white space that follows it.

    A token without characters of its own has its name and a space. SHAP joins them to the text.
    """
    found, t = [], len(data)
    starts = [start if end > start else None for start, end in data.offsets]
    for i in range(t):
        following = next((start for start in starts[i + 1 :] if start is not None), len(data.text))
        gap = "" if starts[i] is None else data.text[data.offsets[i][1] : following]
        found.append(data.surface(i) + (gap if gap.isspace() else " " if starts[i] is None else ""))
    return found


def shap_of_one(data: AttributionData) -> Any:
    """Return a `shap.Explanation` of `(t,)` values.

    Raises:
        MissingExtraError: SHAP is not installed.
    """
    # Unnamed: SHAP 0.51 can neither slice nor copy one column that has a name.
    return _explanation(data, values_of(data), base_value(data))


def shap_of_several(several: ContinuationData) -> Any:
    """Return a `shap.Explanation` of `(t, n)` values: a column for each explained token.

    Raises:
        MissingExtraError: SHAP is not installed.
    """
    values = np.stack([values_of(a) for a in several], axis=1)
    bases = np.array([base_value(a) for a in several])
    names = [escape(a.label, quote=False) for a in several]
    return _explanation(several[0], values, bases, names)


def _explanation(
    data: AttributionData,
    values: NDArray[np.float64],
    base: float | NDArray[np.float64],
    names: Sequence[str] | None = None,
) -> Any:
    with needs("an Explanation needs SHAP", "shap"):
        import shap
    tokens = pieces(data)
    return shap.Explanation(
        values=np.array(values),  # a copy, which its owner may write to
        base_values=base,
        data=np.array(tokens, dtype=object),
        # Bars show this instead, by matplotlib, which takes what is between two $ for mathematics.
        display_data=np.array([piece.replace("$", r"\$") for piece in tokens], dtype=object),
        feature_names=[f"token {i}" for i in range(len(tokens))],
        # SHAP escapes the tokens that it writes into a page, and not these names.
        output_names=names,
    )


def captum_record(data: AttributionData, true_label: str) -> Any:
    """Return a `captum.attr.visualization.VisualizationDataRecord`.

    Its texts are escaped, since `visualize_text` writes them into a page as they are.

    Raises:
        InputError: The label is no string.
        MissingExtraError: Captum is not installed.
    """
    if not isinstance(true_label, str):
        raise InputError(f"true_label must be a string, got {shown(true_label)}.")
    with needs("a VisualizationDataRecord needs Captum", "captum"):
        import torch
        from captum.attr import visualization
    values = np.where(data.special, 0.0, values_of(data))
    largest = float(np.abs(values).max())
    likeliest = int(data.logits.argmax())
    remainder = data.remainder
    return visualization.VisualizationDataRecord(
        word_attributions=torch.tensor(values / largest if largest > 0 else values),
        pred_prob=float(data.probabilities[likeliest]),
        pred_class=escape(data.labels[likeliest], quote=False),
        true_class=escape(true_label, quote=False),
        attr_class=escape(data.label, quote=False),
        attr_score=float(values_of(data).sum()),
        raw_input_ids=[escape(data.surface(i), quote=False) for i in range(len(data))],
        convergence_score=float("nan") if remainder is None else remainder,
    )


def inseq_output(several: ContinuationData) -> Any:
    """Return an `inseq.FeatureAttributionOutput` of one sequence.

    Raises:
        InputError: The explained tokens do not follow each other.
        MissingExtraError: Inseq is not installed.
    """
    with needs("a FeatureAttributionOutput needs Inseq", "inseq"):
        import torch
        from inseq.data import FeatureAttributionOutput
        from inseq.data.attribution import CoarseFeatureAttributionSequenceOutput
        from inseq.utils.typing import TokenWithId
    first, explained = several[0], several.explained
    begins, ends = explained[0], explained[0] + len(several)
    if explained != tuple(range(begins, ends)):
        raise InputError(
            "Inseq takes tokens that follow each other, and the explained ones are at "
            f"{list(explained)}: explain them in one continuation=."
        )
    values = np.stack([values_of(a) for a in several], axis=1)
    for step, place in enumerate(explained):
        values[place:, step] = np.nan  # Inseq's sign for what a step has not read
    # The next token alone is explained before it is part of the text.
    tokens = [*first.tokens, *[several[-1].label] * (ends - len(first))]
    values = np.pad(values, ((0, len(tokens) - len(first)), (0, 0)), constant_values=np.nan)
    named = [TokenWithId(token, -1) for token in tokens]  # a result has no ids
    cut = first.source_tokens
    source, written = (torch.tensor(part, dtype=torch.float32) for part in np.split(values, [cut]))
    chances = [float(a.probabilities[a.target]) for a in several]
    sequence = CoarseFeatureAttributionSequenceOutput(
        source=named[:cut] if cut else named[:begins],
        target=named[cut:],
        source_attributions=source if cut else None,
        target_attributions=written,
        step_scores={"probability": torch.tensor(chances, dtype=torch.float32)},
        attr_pos_start=begins - cut,
        attr_pos_end=ends - cut,
    )
    info = {"model_name": first.model, "attribution_method": f"attnflow {first.tensor}"}
    return FeatureAttributionOutput([sequence], info=info)
