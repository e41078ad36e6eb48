"""Fixtures of the tests of the package and of the benchmarks; they stand in tests/support."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test uses the network

import pytest

pytest.register_assert_rewrite("support")
pytest_plugins = ["support.fixtures", "support.known_answers"]
