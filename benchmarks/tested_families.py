"""Measure every family that the tests go through, and write the table of `attnflow models`.

    .venv/bin/python benchmarks/tested_families.py

The rows go to src/attnflow/models/tested_families.json. What is measured, and against which
tolerance, stands in tests/support/family_measurements.py. Takes two minutes.
"""

import json
import sys
import warnings
from pathlib import Path

import support_path  # noqa: F401
import torch
import transformers
from support.family_measurements import measured
from support.tiny_models import HEADS

from attnflow.capture import FAMILIES
from attnflow.models.tested_families import TABLE


def main():
    """Measure every family, and write the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [measured(name) for name in FAMILIES]
    kinds = list(dict.fromkeys(HEADS))
    rows.sort(key=lambda row: (kinds.index(row["kind"]), row["name"].lower()))
    table = {
        "measured": f"float32 on CPU, torch {torch.__version__.split('+')[0]}, "
        f"transformers {transformers.__version__}",
        "families": rows,
    }
    Path(TABLE).write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
