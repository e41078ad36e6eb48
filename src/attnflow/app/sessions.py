"""Sessions: the results of each browser, which no other browser can name, bounded in number."""

import secrets
import shutil
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from attnflow.app.results import Result
from attnflow.errors import InputError

MOST_SESSIONS = 100
MOST_RESULTS = 20  # of one session
MOST_BYTES = 1 << 30  # of the results of all sessions


@dataclass(eq=False)
class Session:
    """The results of one browser, the oldest first, by their names."""

    name: str
    results: OrderedDict[str, Result] = field(default_factory=OrderedDict)

    def forget(self, name: str) -> bool:
        """Remove a result and its files; return whether there was one."""
        result = self.results.pop(name, None)
        if result is None:
            return False
        shutil.rmtree(result.folder, ignore_errors=True)
        return True


class Sessions:
    """All sessions, the one that was used last at the end; they are changed by the loop alone.

    Attributes:
        folder: The folder with the files of all results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def find(self, name: str) -> Session | None:
        """Return the session with this name; None where there is none (any more)."""
        session = self._sessions.get(name)
        if session is not None:
            self._sessions.move_to_end(name)
        return session

    def begin(self) -> Session:
        """Begin a session; where there are too many, one ends.

        That is the one unused for longest of those without results, and only where all others have
        some, of those: whoever opens pages without end takes no results away.
        """
        if len(self._sessions) >= MOST_SESSIONS:
            others = self._sessions.values()
            ending = next((each for each in others if not each.results), next(iter(others)))
            del self._sessions[ending.name]
            for name in list(ending.results):
                ending.forget(name)
        session = Session(secrets.token_urlsafe(24))
        self._sessions[session.name] = session
        return session

    def new_folder(self) -> Path:
        """Make the folder of a result; its name is the result's."""
        folder = self.folder / secrets.token_urlsafe(12)
        folder.mkdir()
        return folder

    def keep(self, session: Session, result: Result) -> None:
        """Add a result; the oldest are forgotten where there are too many, or too large ones.

        Raises:
            InputError: The session has ended.
        """
        if self._sessions.get(session.name) is not session:
            raise InputError("this session has ended: reload the page, and explain it again.")
        session.results[result.folder.name] = result
        while len(session.results) > MOST_RESULTS:
            session.forget(next(iter(session.results)))
        self._make_room(result)

    def _make_room(self, newest: Result) -> None:
        everything = [(s, r) for s in self._sessions.values() for r in s.results.values()]
        total = sum(result.size for _, result in everything)
        for session, result in everything:
            if total <= MOST_BYTES:
                return
            if result is not newest:
                total -= result.size
                session.forget(result.folder.name)
