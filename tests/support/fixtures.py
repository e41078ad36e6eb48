"""Fixtures of all tests: one thread, tiny random classifiers, and the embedded model."""

import fcntl
import os

import pytest
import torch

from attnflow import Explainer, maximum_flow
from attnflow.cli import main
from support.browser import Browser
from support.model_state import state_of
from support.text_models import TEXTS, bare, tiny_model, wordpiece


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def compiled_once(one_thread, tmp_path_factory):
    """The solver's code, which one of the processes that run the tests compiles for all."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    with open(tmp_path_factory.getbasetemp().parent / "compiling", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        maximum_flow(torch.ones(1, 2, 3, 3, dtype=torch.float64))


@pytest.fixture(scope="session")
def texts():
    return list(TEXTS)


@pytest.fixture(scope="session")
def tokenizer():
    return wordpiece()


@pytest.fixture(scope="session")
def reader(tokenizer):
    """The tests' tokenizer as a language model has it: nothing is added."""
    return bare(tokenizer)


@pytest.fixture(scope="session")
def tiny():
    return tiny_model


@pytest.fixture(scope="session")
def state():
    return state_of


@pytest.fixture(scope="session")
def explainer(tokenizer):
    """A tiny BERT in float32."""
    return Explainer(tiny_model(), tokenizer, name="tiny")


@pytest.fixture(scope="session")
def exact(tokenizer):
    """The same in float64."""
    return Explainer(tiny_model().double(), tokenizer, name="tiny64")


@pytest.fixture(scope="session")
def embedded():
    """The embedded model, loaded once."""
    return Explainer.from_pretrained()


@pytest.fixture(scope="session")
def save_model(tmp_path_factory, tokenizer):
    """Writes a model, and its tokenizer unless told not to, into a folder of its own."""

    def save(model, *, with_tokenizer=True):
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        if with_tokenizer:
            tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def folder(save_model):
    """A saved tiny BERT."""
    return save_model(tiny_model())


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A chromium that all tests of pages drive."""
    running = Browser(tmp_path_factory.mktemp("browser"))
    yield running
    running.close()


@pytest.fixture
def run_command(capsys):
    """Runs `attnflow` in this process; (exit code, standard output, standard error)."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run
