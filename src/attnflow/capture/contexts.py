"""Computing as outside of the contexts that a caller may be in."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute as outside of `torch.inference_mode` and of contexts that choose a device.

    No backward pass can use the tensors of the former, and new tensors of the latter would lie
    apart from their model. Autocast is switched off next to the passes, by their device.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        # Only where it is needed, since such a context costs every operation something.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
