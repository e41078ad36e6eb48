"""Results: what an explanation holds, shows and saves."""

from attnflow.attribution.attribution import Attribution, Certificate, Word, load, save
from attnflow.attribution.continuation import Attributions

__all__ = ["Attribution", "Attributions", "Certificate", "Word", "load", "save"]
