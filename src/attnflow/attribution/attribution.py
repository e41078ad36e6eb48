"""The public results: the data of `attribution.data` that can show and save itself.

`Attribution` is the result for one text or image. `Attributions` is the result for one
continuation: a list of them about one text, with the matrix of which token rests on which.
`explainer` builds both from solved flows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.data import (
    AttributionData,
    Certificate,
    ContinuationData,
    Word,
    restored_fields,
    stored_fields,
)
from attnflow.attribution.storage import read_records, refusing_malformed, write_records
from attnflow.attribution.views import image_overlay, notebook, page, terminal
from attnflow.errors import InputError

__all__ = ["Attribution", "Attributions", "Certificate", "Word", "load", "save"]


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(AttributionData):
    # The fields are described there; users look for them here.
    __doc__ = AttributionData.__doc__

    def __repr__(self) -> str:
        best = ", ".join(f"{text} {score:.3g}" for text, score in self.top(3))
        return f"Attribution({self.label}: {best}; {self.tensor} flow {self.certificate.value:.4g})"

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

    def to_html(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page of this attribution, one file without network access; return its path.

        The page pictures the flow where the attribution has `edges`.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return page.write([self], Path(file), overwrite=overwrite)

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

    def to_html(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page of this continuation, one file without network access; return its path.

        It pictures the flow of every token whose attribution has `edges`.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return page.write([self], Path(file), overwrite=overwrite)

    def save(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write all of them as one safetensors file, for `attnflow.load`.

        Raises:
            StorageError: The file exists and `overwrite` is false, or cannot be written.
        """
        return save(self, file, overwrite=overwrite)


def save(attributions: Sequence[Attribution], file: str | Path, *, overwrite: bool = False) -> Path:
    """Write attributions as one safetensors file: arrays by number, the rest as JSON next to them.

    Raises:
        InputError: There is nothing to save.
        StorageError: The file exists and `overwrite` is false, or cannot be written.
    """
    if not attributions:
        raise InputError("there are no attributions to save.")
    records = [stored_fields(a) for a in attributions]
    return write_records(records, Path(file), overwrite=overwrite)


def load(file: str | Path) -> list[Attribution]:
    """Read what `save` wrote.

    Raises:
        StorageError: The file is missing, is not a file of attributions, or is of a newer schema.
    """
    path = Path(file)
    records = read_records(path)
    with refusing_malformed(path):
        # A header can be valid JSON and still lack a field, or have one of another form.
        return [Attribution(**restored_fields(record)) for record in records]
