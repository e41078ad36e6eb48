"""Measure every family that the tests go through, and write the table of `attnflow models`.

    .venv/bin/python benchmarks/tested_families.py [FAMILY ...]

The rows go to src/attnflow/models/tested_families.json; those of families that are not named stay.
What is measured, and against which tolerance, stands in tests/support/family_measurements.py. Takes
two minutes for all families.
"""

import argparse
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
    """Measure every family, or those that are named, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    named = parser.parse_args().families
    if unknown := [name for name in named if name not in FAMILIES]:
        parser.error(f"no family {unknown[0]!r}; expected its model_type in FAMILIES.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [measured(name) for name in named or FAMILIES]
    if named:
        known = json.loads(Path(TABLE).read_text())["families"]
        rows += [row for row in known if row["model_type"] not in named]
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
