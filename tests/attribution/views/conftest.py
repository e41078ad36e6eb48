"""Fixtures of the tests of views."""

from collections.abc import Callable
from functools import partial

import pytest
from support.browser import driven
from support.example_attributions import attribution_of

from attnflow.attribution.attribution import Attribution


@pytest.fixture
def make() -> Callable[..., Attribution]:
    return attribution_of


@pytest.fixture
def short() -> Attribution:
    return attribution_of()


@pytest.fixture
def drive(browser, tmp_path):
    """Load attributions in a browser and run a function body there (support.browser.driven)."""
    return partial(driven, browser, tmp_path)
