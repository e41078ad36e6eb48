"""Fixtures of the tests of the app."""

import pytest
from support.browser import Browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A chromium that all tests of the app drive."""
    running = Browser(tmp_path_factory.mktemp("browser"))
    yield running
    running.close()
