"""attnflow: which tokens a Transformer's decision rests on, by a certified maximum flow.

    from attnflow import Explainer
    print(Explainer.from_pretrained()("although this dog is not cute, it is very smart."))

The names below are loaded when first used, so that `import attnflow` is instant.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnflow.attribution.attribution import Attribution as Attribution
    from attnflow.attribution.attribution import Certificate as Certificate
    from attnflow.attribution.attribution import Word as Word
    from attnflow.attribution.attribution import load as load
    from attnflow.attribution.attribution import save as save
    from attnflow.attribution.attribution import to_dataframe as to_dataframe
    from attnflow.attribution.attribution import to_html as to_html
    from attnflow.capture.family_search import find_family as find_family
    from attnflow.corpus.batch_functions import CorpusFunction as CorpusFunction
    from attnflow.corpus.report.report import CorpusReport as CorpusReport
    from attnflow.corpus.report.report import corpus_report as corpus_report
    from attnflow.corpus.run import CorpusRun as CorpusRun
    from attnflow.corpus.run import explain_corpus as explain_corpus
    from attnflow.errors import AttnflowError as AttnflowError
    from attnflow.errors import InputError as InputError
    from attnflow.errors import MissingExtraError as MissingExtraError
    from attnflow.errors import ModelError as ModelError
    from attnflow.errors import StorageError as StorageError
    from attnflow.errors import UnsolvedError as UnsolvedError
    from attnflow.explainer.batch_function import batch_function as batch_function
    from attnflow.explainer.explainer import Explainer as Explainer
    from attnflow.explainer.memory.estimate import Estimate as Estimate
    from attnflow.models.embedded import EMBEDDED_MODEL as EMBEDDED_MODEL
    from attnflow.solver.flow import Flow as Flow
    from attnflow.solver.flow import Status as Status
    from attnflow.solver.flow_game import shapley_values as shapley_values
    from attnflow.solver.maximum_flow import maximum_flow as maximum_flow
    from attnflow.solver.network import LayeredNetwork as LayeredNetwork
    from attnflow.solver.network import layered_network as layered_network
    from attnflow.solver.network import paper_gamma as paper_gamma
    from attnflow.solver.network import paper_network as paper_network
    from attnflow.solver.network import pruned as pruned
    from attnflow.solver.networkx_export import to_networkx as to_networkx

__version__ = "0.1.0"

_NAMES_OF = {
    "attnflow.attribution.attribution": (
        "Attribution",
        "Certificate",
        "Word",
        "load",
        "save",
        "to_dataframe",
        "to_html",
    ),
    "attnflow.capture.family_search": ("find_family",),
    "attnflow.corpus.batch_functions": ("CorpusFunction",),
    "attnflow.corpus.report.report": ("CorpusReport", "corpus_report"),
    "attnflow.corpus.run": ("CorpusRun", "explain_corpus"),
    "attnflow.models.embedded": ("EMBEDDED_MODEL",),
    "attnflow.errors": (
        "AttnflowError",
        "InputError",
        "MissingExtraError",
        "ModelError",
        "StorageError",
        "UnsolvedError",
    ),
    "attnflow.explainer.memory.estimate": ("Estimate",),
    "attnflow.explainer.batch_function": ("batch_function",),
    "attnflow.explainer.explainer": ("Explainer",),
    "attnflow.solver.flow_game": ("shapley_values",),
    "attnflow.solver.network": (
        "LayeredNetwork",
        "layered_network",
        "paper_gamma",
        "paper_network",
        "pruned",
    ),
    "attnflow.solver.networkx_export": ("to_networkx",),
    "attnflow.solver": ("Flow", "Status", "maximum_flow"),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'attnflow' has no attribute {name!r}")
    if "ipykernel" in sys.modules:
        from attnflow.progress import import_tqdm_quietly

        import_tqdm_quietly()
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
