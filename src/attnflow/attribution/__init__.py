"""Results: what an explanation holds, shows and saves.

The names below are loaded when first used: the command's messages need `views.sanitize` alone, and
must not wait for numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnflow.attribution.attribution import Attribution as Attribution
    from attnflow.attribution.attribution import Attributions as Attributions
    from attnflow.attribution.attribution import Certificate as Certificate
    from attnflow.attribution.attribution import Results as Results
    from attnflow.attribution.attribution import Word as Word
    from attnflow.attribution.attribution import load as load
    from attnflow.attribution.attribution import save as save
    from attnflow.attribution.attribution import to_dataframe as to_dataframe

__all__ = [
    "Attribution",
    "Attributions",
    "Certificate",
    "Results",
    "Word",
    "load",
    "save",
    "to_dataframe",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'attnflow.attribution' has no attribute {name!r}")
    return getattr(import_module("attnflow.attribution.attribution"), name)
