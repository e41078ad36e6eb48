"""The public results: the data of `attribution.data` that can show and save itself.

`Attribution` is the result for one text or image. `Attributions` is the result for one
continuation: a list of them about one text, with the matrix of which token rests on which.
`explainer` builds both from solved flows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution import converters
from attnflow.attribution.data import (
    AttributionData,
    Certificate,
    ContinuationData,
    Word,
)
from attnflow.attribution.forms import Misfit
from attnflow.attribution.schema import check_relations, fields_of, record_of
from attnflow.attribution.storage import read_records, refusing_malformed, write_records
from attnflow.attribution.table import (
    each_explained,
    table_of_results,
    table_of_tokens,
    write_csv,
)
from attnflow.attribution.views import image_overlay, notebook, page, plots, terminal
from attnflow.attribution.views.sanitize import for_terminal
from attnflow.errors import InputError, StorageError
from attnflow.files import as_path

__all__ = [
    "Attribution",
    "Attributions",
    "Certificate",
    "Word",
    "load",
    "save",
    "to_dataframe",
    "to_html",
]


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(AttributionData):
    # The fields are described there; users look for them here.
    __doc__ = AttributionData.__doc__

    def __repr__(self) -> str:
        best = ", ".join(f"{text} {score:.3g}" for text, score in self.top(3))
        named = f"{self.label}: {best}; {self.tensor} flow {self.certificate.value:.4g}"
        # A prompt prints it as it is.
        return f"Attribution({for_terminal(named)})"

    def __str__(self) -> str:
        return terminal.render(self)

    def _repr_html_(self) -> str:
        return notebook.render(self)

    def overlay(self, size: int | tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """`(h, w, 3)` uint8, the image in grey with its patches coloured by their shares.

        Args:
            size: Height and width in pixels, or the longer side; None is that of the image.

        Raises:
            InputError: There is a text and no image, or the size is not positive.
        """
        return image_overlay.overlay(self, size)

    def plot(self, ax: Any = None, granularity: str | None = None, top: int = 10) -> Any:
        """Draw bars of the words that speak most for and against the decision; return the axes.

        A bar is a word's `signed_scores`, summed over its tokens: for the decision orange, against
        it blue and hatched. Where the tensor's effects have no signs it is the word's score. Of an
        image it is `overlay` that is drawn. What speaks against only by its place, the first token
        of a language model and the one that is read, is left out.

        Args:
            ax: Axes of matplotlib to draw in; None makes a figure by pyplot.
            granularity: "token" or "word"; None takes words.
            top: Number of bars at most.

        Raises:
            InputError: An argument is invalid.
            MissingExtraError: matplotlib is not installed (extra `plots`).
        """
        return plots.plot(self, ax, granularity, top)

    def plot_flow(
        self,
        ax: Any = None,
        keep: float = 0.8,
        granularity: str | None = None,
        fold: bool = True,
    ) -> Any:
        """Draw the flow from the decision, on top, down to the words; return the axes.

        A node is as wide as what flows through it, a link as what it carries. The picture is laid
        out for the size that the axes have when it is drawn.

        Args:
            ax: Axes of matplotlib to draw in; None makes a figure by pyplot.
            keep: Share of each layer's flow that its drawn links hold at least, above 0 up to 1.
            granularity: "token" or "word"; None takes the words of a text and the patches of an
                image.
            fold: True draws a run of layers as one, what flows from its top to its bottom, where
                at most 1 % of the flow of each layer crosses from one word to another.

        Raises:
            InputError: The attribution has no `edges`, nothing flows, or an argument is invalid.
            MissingExtraError: matplotlib is not installed (extra `plots`).
        """
        return plots.plot_flow(self, ax, keep, granularity, fold)

    def to_html(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page of this attribution, one file without network access; return its path.

        The page pictures the flow where the attribution has `edges`.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return page.write([self], as_path(file), overwrite=overwrite)

    def to_csv(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the table of `to_dataframe` as a CSV file in UTF-8; return its path.

        A missing value is an empty field. Nothing reads the file back: see `save`.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return write_csv(table_of_tokens(self), as_path(file), overwrite=overwrite)

    def to_dataframe(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each token, special ones too.

        Its columns are `token` (the tokenizer's), `text` (as it stands in the text), `start` and
        `end` (its characters), `word` (index of its word), `role` (of a chat's message), `special`,
        `rank` (1 for the highest score; special tokens have none), `score` (units of the flow),
        `share` (0 to 1), `contribution` and `signed_score` (units of the explained number; missing
        where the tensor's effects have no signs).

        Raises:
            MissingExtraError: pandas is not installed (extra `pandas`).
        """
        return converters.data_frame(table_of_tokens(self))

    def to_shap(self) -> Any:
        """Return a `shap.Explanation` of `(t,)` values, for `shap.plots.text` and `shap.plots.bar`.

        The values are `contributions`, which with the base value (`remainder`) add up to
        `explained`; they are in its units. Of the paper's tensors they are `scores` and add up from
        0. They are not Shapley values, though the plots call them so. `data` has the tokens as they
        stand in the text, with the white space after each.

        Raises:
            MissingExtraError: SHAP is not installed (extra `shap`).
        """
        return converters.shap_of_one(self)

    def to_captum(self, true_label: str = "unknown") -> Any:
        """Return a `VisualizationDataRecord`, for `visualize_text` of `captum.attr.visualization`.

        Its `word_attributions` are the values of `to_shap` over the largest of an ordinary token,
        -1 to 1, and 0 at special tokens; `attr_score` is the sum of all values in their units;
        `convergence_score` is `remainder`, or nan. Texts are escaped: Captum writes them into a
        page as they are.

        Args:
            true_label: The label that the text should have, to be shown next to the predicted one.

        Raises:
            InputError: The label is no string.
            MissingExtraError: Captum is not installed (extra `captum`).
        """
        return converters.captum_record(self, true_label)

    def save(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write all fields, `edges` too where there are any, as one safetensors file.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return save([self], file, overwrite=overwrite)

    @staticmethod
    def load(file: str | Path) -> "Attribution":
        """Read a file of exactly one attribution; `attnflow.load` reads any number.

        Raises:
            InputError: The file holds several.
            StorageError: As `attnflow.load`.
        """
        attributions = load(file)
        if len(attributions) != 1:
            raise InputError(
                f"{file} holds {len(attributions)} attributions: read it with attnflow.load."
            )
        return attributions[0]


class Attributions(list[Attribution], ContinuationData):
    """The attributions of a continuation, one for each of its tokens, at least one.

    A slice of it is a plain list.
    """

    def __init__(self, attributions: Iterable[Attribution]) -> None:
        """Take attributions that are each about the next token at one position of the same text.

        Raises:
            InputError: There are no attributions, or they are not those of one continuation.
        """
        super().__init__(attributions)
        if not self:
            raise InputError("a continuation has at least one attribution, got none.")
        # Views take text, tokens and offsets of all of them from the first.
        if any(a.position is None or a.tokens != self[0].tokens for a in self):
            raise InputError("these attributions are not those of one continuation of one text.")

    def __str__(self) -> str:
        return terminal.render_continuation(self)

    def _repr_html_(self) -> str:
        return notebook.render_continuation(self)

    def plot(self, ax: Any = None) -> Any:
        """Draw `matrix`, which token rests on which; return the axes.

        Args:
            ax: Axes of matplotlib to draw in; None makes a figure by pyplot.

        Raises:
            InputError: `ax` is not matplotlib's.
            MissingExtraError: matplotlib is not installed (extra `plots`).
        """
        return plots.plot_matrix(self, ax)

    def to_html(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page of this continuation, one file without network access; return its path.

        It pictures the flow of every token whose attribution has `edges`.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return page.write([self], as_path(file), overwrite=overwrite)

    def to_csv(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the table of `to_dataframe` as a CSV file in UTF-8; return its path.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return write_csv(table_of_results(self), as_path(file), overwrite=overwrite)

    def to_dataframe(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each token under each explained token.

        Before the columns of `Attribution.to_dataframe` it has `result` (number of the explained
        token, from 0), `label` (its text) and `position` (index of the token before it).

        Raises:
            MissingExtraError: pandas is not installed (extra `pandas`).
        """
        return to_dataframe(self)

    def to_shap(self) -> Any:
        """Return a `shap.Explanation` of `(t, len(self))` values, a column an explained token.

        `shap.plots.text` shows the text under each of them. Values as in `Attribution.to_shap`.
        `output_names` has their texts, escaped: SHAP writes them into a page as they are.

        Raises:
            MissingExtraError: SHAP is not installed (extra `shap`).
        """
        return converters.shap_of_several(self)

    def to_captum(self) -> list[Any]:
        """Return a record for each explained token, as `Attribution.to_captum`.

        Raises:
            MissingExtraError: Captum is not installed (extra `captum`).
        """
        return [a.to_captum() for a in self]

    def to_inseq(self) -> Any:
        """Return an `inseq.FeatureAttributionOutput` with one sequence, to show or save by Inseq.

        Values as in `Attribution.to_shap`, in float32; nan at tokens that a step has not read.
        `step_scores` has the probability of each explained token. A result holds no token ids, so
        those are -1.

        Raises:
            InputError: The explained tokens do not follow each other.
            MissingExtraError: Inseq is not installed (extra `inseq`).
        """
        return converters.inseq_output(self)

    def save(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write all of them as one safetensors file, for `attnflow.load`.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return save(self, file, overwrite=overwrite)


_Result = TypeVar("_Result")


class Results(list[_Result]):
    """A list of what a call explained, which a notebook shows as a table.

    It holds attributions, continuations, or a list of attributions for each example, and is a list
    in every other way. A slice of it is one too.
    """

    @overload
    def __getitem__(self, index: SupportsIndex) -> _Result: ...
    @overload
    def __getitem__(self, index: slice) -> "Results[_Result]": ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = super().__getitem__(index)
        return Results(found) if isinstance(found, list) and isinstance(index, slice) else found

    def _repr_html_(self) -> str | None:
        # None, which a notebook takes for the plain form, where its owner has put in other things.
        return notebook.render_list(self) if self and all(map(_is_result, self)) else None


def _is_result(item: Any) -> bool:
    """Return whether an item of a list is a result, or a list of them."""
    if isinstance(item, list) and not isinstance(item, Attributions):
        return bool(item) and all(isinstance(each, Attribution) for each in item)
    return isinstance(item, Attribution | Attributions)


def to_dataframe(results: Any) -> Any:
    """Return one `pandas.DataFrame` of all that a call returned: an attribution or lists of them.

    Before the columns of `Attribution.to_dataframe` it has `result` (number of the attribution,
    from 0), `label` (what is explained) and `position` (index of the token whose output was read;
    missing where the model itself chooses).

    Raises:
        InputError: There is something other than attributions in it.
        MissingExtraError: pandas is not installed (extra `pandas`).
    """
    return converters.data_frame(table_of_results(results))


def to_html(
    results: Any, file: str | Path, *, compare: bool = False, overwrite: bool = False
) -> Path:
    """Write one page of all that a call returned, a file without network access; return its path.

    Several texts get a list to choose from. Several targets of a text, such as `target="all"` or
    `"top3"` explains, are one entry, between which its classes switch.

    Args:
        results: An attribution, a continuation, or lists of them.
        file: Name of the page.
        compare: Show 2 to 4 attributions side by side instead, and how the share of each word
            differs: of two targets, tensors, models or texts.
        overwrite: Replace a file of that name.

    Raises:
        InputError: There is something other than attributions in it, nothing at all, or what
            cannot be compared.
        StorageError: The file exists and `overwrite` is false, or cannot be written.
    """
    explained = list(each_explained(results))
    return page.write(explained, as_path(file), compare=compare, overwrite=overwrite)


def save(attributions: Iterable[Attribution], file: str | Path, *, overwrite: bool = False) -> Path:
    """Write attributions as one safetensors file: arrays by number, the rest as JSON next to them.

    Raises:
        InputError: There is nothing to save, or `file` is no path.
        StorageError: The file exists and `overwrite` is false, or cannot be written; or a field has
            a value that `load` would refuse, such as a number that is not finite.
    """
    path = as_path(file)
    try:
        attributions = list(attributions)
    except (TypeError, RuntimeError) as error:
        came = type(attributions).__name__
        raise InputError(f"attributions must be a sequence of them, got {came}.") from error
    other = [type(a).__name__ for a in attributions if not isinstance(a, Attribution)]
    if other:
        raise InputError(f"attributions must be a sequence of Attribution, got a {other[0]} in it.")
    if not attributions:
        raise InputError("there are no attributions to save.")
    records = []
    for number, attribution in enumerate(attributions):
        try:
            records.append(record_of(attribution))
        except Misfit as error:
            raise StorageError(f"cannot write {path}: attribution {number}, {error}.") from error
    return write_records(records, path, overwrite=overwrite)


def load(file: str | Path) -> Results[Attribution]:
    """Read what `save` wrote.

    The file may come from anyone: every field is checked by the schema of `data` and `schema`.

    Raises:
        InputError: `file` is no path.
        StorageError: The file is missing, is not a file of attributions, or is of a newer schema.
    """
    path = as_path(file)
    with read_records(path) as records:
        return Results(_attribution(path, number, record) for number, record in enumerate(records))


def _attribution(path: Path, number: int, record: Mapping[str, Any]) -> Attribution:
    with refusing_malformed(path, number):
        attribution = Attribution(**fields_of(record))
        check_relations(attribution)
    return attribution
