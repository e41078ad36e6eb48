"""Images as arrays of 8 bits, from a file, an image of Pillow, or an array.

Colours are kept as they are, not managed. A transparent image loses its transparency, as with
transformers' own pipelines. A photograph is turned the way its camera says.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnflow.errors import InputError, StorageError, needs

GREY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
KINDS = "a file, an image of Pillow, or a uint8 or float array of shape (h, w), (h, w, 1 or 3)"


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image as it was given.

    Attributes:
        name: The name of its file without the folder, "" where it has none.
        pixels: `(h, w, 3)` uint8, red, green, blue; or `(h, w, 1)`, grey.
    """

    name: str
    pixels: NDArray[np.uint8]

    @property
    def colours(self) -> NDArray[np.uint8]:
        """`(h, w, 3)` uint8; a grey pixel three times the same."""
        return np.broadcast_to(self.pixels, (*self.pixels.shape[:2], 3))


def open_image(value: Any) -> SourceImage:
    """Read one image: a path, an image of Pillow, or an array of uint8 or of floats in 0..1.

    Floats are rounded to 8 bits, as they would be in a file.

    Raises:
        InputError: It is none of these, or broken.
        StorageError: The file cannot be read.
        MissingExtraError: Pillow is not installed.
    """
    with needs("images need Pillow", "images"):
        from PIL import Image
    if isinstance(value, SourceImage):
        return value
    if isinstance(value, str | Path):
        return _check_size(SourceImage(Path(value).name, _read_file(Path(value))), repr(str(value)))
    if isinstance(value, Image.Image):
        return _check_size(SourceImage("", _from_pillow(value, "the image")), "the image")
    if isinstance(value, np.ndarray):
        return _check_size(SourceImage("", _from_array(value)), "the image")
    raise InputError(f"an image must be {KINDS}; got {type(value).__name__}.")


def with_channels(source: SourceImage, channels: int) -> Any:
    """Return an image of Pillow with as many channels as a model reads: 1 is grey, 3 are colours.

    Raises:
        InputError: The model reads another number of channels.
    """
    from PIL import Image

    if channels not in (1, 3):
        raise InputError(
            f"the model reads images of {channels} channels, which no picture has: give "
            "pixel_values."
        )
    if source.pixels.shape[2] == 1:
        grey = Image.fromarray(source.pixels[:, :, 0])
        return grey if channels == 1 else grey.convert("RGB")
    colours = Image.fromarray(source.pixels)
    return colours.convert("L") if channels == 1 else colours


def _check_size(source: SourceImage, label: str) -> SourceImage:
    # A single pixel has no slope by which `image_crop` could find it again.
    if min(source.pixels.shape[:2]) < 2:
        height, width = source.pixels.shape[:2]
        raise InputError(f"{label} has {width} x {height} pixels: expected 2 x 2 at least.")
    return source


def _read_file(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return _from_pillow(opened, repr(str(path)))
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is not an image that Pillow can read.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{str(path)!r} is too large to be safe: {error}") from error
    except OSError as error:
        if error.strerror is None:  # raised by Pillow: the file ends early, or is broken inside
            raise InputError(f"{str(path)!r} is a broken image: {error}.") from error
        raise StorageError(f"cannot read image {path}: {error.strerror}.") from error
    except (SyntaxError, ValueError) as error:  # Pillow's decoders raise these for broken files
        raise InputError(f"{str(path)!r} is a broken image: {error}.") from error


def _from_pillow(image: Any, label: str) -> NDArray[np.uint8]:
    from PIL import ImageOps

    if image.mode not in GREY + COLOUR:
        raise InputError(
            f"{label} has pixels of mode {image.mode!r}, whose range says nothing of how light "
            "they are: expected 8 bits a channel, grey or colour."
        )
    # Models were trained on upright photographs, and users see them upright.
    upright = ImageOps.exif_transpose(image)
    if upright.mode in GREY:
        return np.array(upright.convert("L"))[:, :, None]
    return np.array(upright.convert("RGB"))


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    whole = array[:, :, None] if array.ndim == 2 else array
    if whole.ndim != 3 or whole.shape[2] not in (1, 3) or 0 in whole.shape:
        raise InputError(
            f"an array must have shape (h, w), (h, w, 1) or (h, w, 3); it has {array.shape}. "
            "Channels come last."
        )
    if whole.dtype == np.uint8:
        # A copy, which the caller's later writes do not reach.
        return np.array(whole)
    if not np.issubdtype(whole.dtype, np.floating):
        raise InputError(f"an array must be uint8, or floats in 0..1; it is {whole.dtype}.")
    if not np.isfinite(whole).all():
        raise InputError("the array has pixels that are not finite (NaN or infinite).")
    # Not rescaled by a guess: a dark image of 0..255 may lie within 0..1 too.
    if whole.min() < 0 or whole.max() > 1:
        raise InputError(
            f"an array of floats must lie in 0..1; it goes from {whole.min():.4g} to "
            f"{whole.max():.4g}. Divide it by 255, or give what the model reads as pixel_values."
        )
    return np.rint(whole * 255).astype(np.uint8)
