"""The arguments of a call that give examples, in one object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnflow.checks import check_switch
from attnflow.errors import InputError
from attnflow.models.literals import Modality
from attnflow.models.tasks import Task

TEXT_ARGUMENTS = (
    *("texts", "pair", "input_ids", "attention_mask", "token_type_ids"),
    *("truncate", "continuation", "bos"),
)
IMAGE_ARGUMENTS = ("images", "pixel_values", "neutral")


@dataclass(frozen=True)
class Given:
    """Examples as a call gives them; None, or False, where it does not.

    Attributes:
        texts: A text, a chat, or a sequence of them.
        pair: A second text, for all texts or one for each.
        input_ids: Token ids instead of texts, `(t,)` or `(batch, t)`.
        attention_mask: 0 at padding of `input_ids`.
        token_type_ids: Which of two texts each of `input_ids` belongs to.
        truncate: Cut texts that are too long.
        bos: Put the model's beginning-of-text token in front.
        continuation: How a text continues, or how many tokens to generate.
        images: An image, or a sequence of them; of several texts one for each, or a list each.
        pixel_values: Pixel values instead of images.
        neutral: Pixel values of removed patches.
    """

    texts: Any = None
    pair: str | Sequence[str] | None = None
    input_ids: Any = None
    attention_mask: Any = None
    token_type_ids: Any = None
    truncate: bool = False
    bos: bool = False
    continuation: str | int | None = None
    images: Any = None
    pixel_values: Any = None
    neutral: Any = None

    def __post_init__(self) -> None:
        check_switch("truncate", self.truncate)
        check_switch("bos", self.bos)

    def check_modality(self, model: Any, task: Task) -> None:
        """Check that nothing but what the model reads is given.

        Raises:
            InputError: An argument is of the other modality.
        """
        others = IMAGE_ARGUMENTS if task.modality == "text" else TEXT_ARGUMENTS
        for name in others:
            value = getattr(self, name)
            is_read = task.takes_images and name == "images"
            # By identity, since == of an array has no truth value.
            if value is not None and value is not False and not is_read:
                raise wrong_modality(model, task.modality, name)


def wrong_modality(model: Any, modality: Modality, argument: str) -> InputError:
    """The error about an argument for models of the other modality."""
    take, option = {
        "text": ("texts or input_ids", "TEXT or --file"),
        "image": ("images= or pixel_values=", "--image"),
    }[modality]
    return InputError(
        f"{type(model).__name__} reads {modality}s: give {take} (in the command {option}), and no "
        f"{argument}; or another model."
    )
