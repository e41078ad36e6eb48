"""Results: what an explanation holds, shows and saves."""

from attnflow.attribution.attribution import (
    Attribution,
    Attributions,
    Certificate,
    Word,
    load,
    save,
)

__all__ = ["Attribution", "Attributions", "Certificate", "Word", "load", "save"]
