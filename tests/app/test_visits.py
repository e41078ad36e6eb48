"""The driver of the browser: a frame that is loaded anew leaves nobody waiting."""

import itertools
import os

import pytest
from support.browser import NO_SUCH_SESSION, Browser, Detached


class Told(Browser):
    """A browser that says what it was told to say."""

    def __init__(self, *messages):
        self._commands = os.open(os.devnull, os.O_WRONLY)
        self._numbers, self.events = itertools.count(1), []
        self._messages = iter(messages)

    def _next(self):
        return next(self._messages)


def ended(session):
    return {"method": "Target.detachedFromTarget", "params": {"sessionId": session}}


def test_a_session_that_ends_before_its_answer_is_told():
    with pytest.raises(Detached, match="has ended"):
        Told(ended("frame")).send("Runtime.evaluate", "frame")
    with pytest.raises(Detached, match="no such session"):
        Told({"id": 1, "error": {"code": NO_SUCH_SESSION}}).send("Runtime.evaluate", "frame")


def test_the_end_of_another_session_is_only_kept():
    browser = Told(ended("other"), {"id": 1, "result": {"value": 7}})
    assert browser.send("Runtime.evaluate", "frame") == {"value": 7}
    assert browser.events == [ended("other")]


def test_other_errors_stay_errors():
    with pytest.raises(AssertionError, match="-32000") as raised:
        Told({"id": 1, "error": {"code": -32000}}).send("Runtime.evaluate", "frame")
    assert not isinstance(raised.value, Detached)
