"""The worker: a process that loads models and explains, `python -m attnflow.app.worker`.

It reads a line of JSON for each job from standard input, and answers in lines on standard output:
`progress` and `note` as often as there is news, then one of `done`, `failed` and `cancelled`. A
result itself is a file in the folder that the job names. The worker ends with its standard input,
so that none outlives its server.
"""

import json
import logging
import os
import queue
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any, TextIO

from attnflow.errors import AttnflowError

RESULT = "result.safetensors"
MOST_LOADED = 4  # models in memory; the one that was loaded first makes room


class Cancelled(BaseException):
    """Ends a job between two of its steps; no `except Exception` on the way takes it."""


class Worker:
    """The jobs of the process, one after the other.

    Attributes:
        explainers: The models that are loaded, by name.
    """

    def __init__(self, answers: TextIO) -> None:
        self.explainers: dict[str, Any] = {}
        self._answers = answers
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._job, self._cancelled = 0, 0

    def run(self, lines: TextIO) -> None:
        """Do what the lines say, until they end."""
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        # Before the first job, while somebody types.
        import attnflow.app.explaining  # noqa: F401

        logging.getLogger("attnflow").addHandler(_Notes(self._tell))
        while True:
            self._do(self._lines.get())

    def _read(self, lines: TextIO) -> None:
        for line in lines:
            order = json.loads(line)
            if "cancel" in order:
                self._cancelled = order["cancel"]
            else:
                self._lines.put(order)
        # The server is gone, however it ended. What is being computed is of no use to anyone.
        os._exit(0)

    def _do(self, order: dict[str, Any]) -> None:
        self._job = order["job"]
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                done = self._explain(order) if order["do"] == "explain" else self._describe(order)
            said = dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning)
            self._tell("done", warnings=list(said), **done)
        except Cancelled:
            self._tell("cancelled")
        except AttnflowError as error:
            self._tell("failed", message=str(error))
        except MemoryError:
            self._tell("failed", message="there is not enough memory: give a shorter text.")
        except Exception as error:  # a bug, or a model's own code: the page says so, and goes on
            traceback.print_exc()
            kind = type(error).__name__
            self._tell(
                "failed",
                message=f"an error that attnflow did not expect, {kind}: {str(error)[:300]} (the "
                "terminal of the app has more)",
            )

    def _explain(self, order: dict[str, Any]) -> dict[str, Any]:
        from attnflow.app.asked import Asked
        from attnflow.app.explaining import described, explain
        from attnflow.attribution.attribution import save

        explainer = self._explainer(order["asked"]["model"], order["loading"])
        image = None if order["image"] is None else Path(order["image"])
        explained = explain(explainer, Asked.of(order["asked"]), image, self._progress)
        save(explained.attributions, Path(order["folder"]) / RESULT)
        return {
            "is_continuation": explained.is_continuation,
            "model": described(explainer),
        }

    def _describe(self, order: dict[str, Any]) -> dict[str, Any]:
        from attnflow.app.explaining import described

        return {"model": described(self._explainer(order["asked"]["model"], order["loading"]))}

    def _explainer(self, name: str, loading: dict[str, Any]) -> Any:
        if name not in self.explainers:
            from attnflow.explainer.explainer import Explainer

            self._progress(0, f"loading {name}")
            while len(self.explainers) >= MOST_LOADED:
                del self.explainers[next(iter(self.explainers))]
            self.explainers[name] = Explainer.from_pretrained(name, **loading)
        return self.explainers[name]

    def _progress(self, part: float, words: str) -> None:
        if self._cancelled == self._job:
            raise Cancelled
        self._tell("progress", part=part, words=words)

    def _tell(self, what: str, **more: Any) -> None:
        self._answers.write(json.dumps({"job": self._job, "is": what} | more) + "\n")
        self._answers.flush()


class _Notes(logging.Handler):
    """Hands what the library logs to the page: the solver is being compiled."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._hand_on = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._hand_on("note", words=record.getMessage())


def main() -> None:
    """Answer on what is standard output now; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    Worker(answers).run(sys.stdin)


if __name__ == "__main__":
    main()
