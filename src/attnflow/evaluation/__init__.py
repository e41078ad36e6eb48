"""How faithful attributions are: metrics, a harness that goes on after a kill, statistics, reports.

`examples` reads texts and images, `choosing` asks instances of them; `ranking` orders their nodes,
`removal` takes them away, `trial` asks the model about what is left, `harness` keeps the rows;
`metrics` and `statistics` are pure functions of those, `report` shows them. The methods are in
`attnflow.methods`.
"""

from attnflow.evaluation.aggregation import MetricScores, differences, means, metric_scores
from attnflow.evaluation.datasets import Example, read_examples, read_scores
from attnflow.evaluation.extra_metrics import EXTRAS
from attnflow.evaluation.harness import RunSettings, evaluate, read_rows, read_run
from attnflow.evaluation.metrics import METRICS
from attnflow.evaluation.protocol import PRESETS, Protocol
from attnflow.evaluation.sampling import sample_instances
from attnflow.evaluation.statistics import BootstrapEstimate, bootstrap_estimate, holm
from attnflow.evaluation.table import table

__all__ = [
    "EXTRAS",
    "METRICS",
    "PRESETS",
    "BootstrapEstimate",
    "Example",
    "MetricScores",
    "Protocol",
    "RunSettings",
    "sample_instances",
    "differences",
    "bootstrap_estimate",
    "evaluate",
    "holm",
    "metric_scores",
    "means",
    "read_examples",
    "read_rows",
    "read_run",
    "read_scores",
    "table",
]
