"""Puts the tests' folder on the path, so that benchmarks may import its `support`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
