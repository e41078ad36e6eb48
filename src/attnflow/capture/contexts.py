"""Computing as outside of the contexts that a caller may be in."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import torch

# The device that the caller chose for new tensors, while we compute without it.
_chosen: ContextVar[torch.device | None] = ContextVar("_chosen", default=None)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute as outside of `torch.inference_mode` and of contexts that choose a device.

    No backward pass can use the tensors of the former, and new tensors of the latter would lie
    apart from their model. Autocast is switched off next to the passes, by their device.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        # Only where it is needed, since such a context costs every operation something.
        chosen = torch.get_default_device()
        if chosen.type != "cpu":
            stack.callback(_chosen.reset, _chosen.set(chosen))
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def with_new_tensors_on(device: torch.device | None = None) -> Iterator[None]:
    """Run a caller's code, whose new tensors lie on a device if the caller has chosen one.

    Args:
        device: The device, for a model its own; the one chosen when None.
    """
    chosen = _chosen.get()
    if chosen is None or (device is None and chosen.type == "meta"):  # meta has no numbers
        yield
        return
    with torch.device(device or chosen):
        yield
