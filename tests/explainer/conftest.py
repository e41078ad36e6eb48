"""A tiny model that writes."""

import pytest
from support.text_models import language_model

from attnflow import Explainer


@pytest.fixture(scope="session")
def writer(reader):
    return Explainer(language_model(), reader, name="writer")
