"""Fixtures of the tests of views."""

from collections.abc import Callable

import pytest
from example_attributions import attribution_of

from attnflow.attribution.attribution import Attribution


@pytest.fixture
def make() -> Callable[..., Attribution]:
    return attribution_of


@pytest.fixture
def short() -> Attribution:
    return attribution_of()
