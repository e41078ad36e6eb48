"""Measure how faithful attributions are: a harness that resumes, metrics, statistics, tables.

A run goes through these modules, in this order:

1. `datasets` reads texts and images; `sampling` draws examples and turns them into instances.
2. `harness` runs the methods and keeps their rows in a `run_folder`.
3. `protocol` judges each example: `ranking` orders the units, `operators` remove them, and the
   model's probabilities become a row. `extra_metrics` adds `naopc` and `soft_metrics`.
4. `aggregation` computes `metrics` from the rows, with intervals by `statistics`.
5. `table` and `figures` show them.

`edge_knockout` judges routes through the attention instead of tokens, `plausibility` compares
scores with what people marked, `noise` misspells texts. The methods are in `attnflow.methods`.
"""

from attnflow.evaluation.aggregation import MetricScores, differences, means, metric_scores
from attnflow.evaluation.datasets import Example, read_examples, read_scores
from attnflow.evaluation.extra_metrics import EXTRAS
from attnflow.evaluation.harness import evaluate
from attnflow.evaluation.metrics import METRICS
from attnflow.evaluation.protocol import PRESETS, Protocol
from attnflow.evaluation.run_folder import RunSettings, read_rows, read_run, read_runs
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
    "bootstrap_estimate",
    "differences",
    "evaluate",
    "holm",
    "means",
    "metric_scores",
    "read_examples",
    "read_rows",
    "read_run",
    "read_runs",
    "read_scores",
    "sample_instances",
    "table",
]
