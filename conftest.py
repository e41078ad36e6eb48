"""Fixtures of the tests of the package and of the benchmarks; they stand in tests/support."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test uses the network

import pytest

pytest.register_assert_rewrite("support")
pytest_plugins = ["support.fixtures", "support.known_answers"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process an equal stretch of the tests in their order.

    Tests of a file share what they made. A process that is done takes over tests of another.
    """
    if config.getvalue("dist") == "load":  # as it is where none is named
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)
