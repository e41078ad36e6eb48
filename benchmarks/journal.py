"""Records of a long run as JSON lines: a killed run goes on after its last whole line."""

import json
import sys
from pathlib import Path
from typing import Any


class Journal:
    """What a run has measured so far, by name of the batch.

    The first line of the file holds the options of the run; a run with others needs another file.
    """

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(path) if path.exists() else []
        if not lines:
            lines = [json.dumps({"options": options}) + "\n"]
        begun = json.loads(lines[0]).get("options")
        if begun != options:
            sys.exit(f"{path} holds a run with other options ({begun}): remove it, or give those.")
        path.write_text("".join(lines), encoding="utf-8")
        self.records: dict[str, dict[str, Any]] = {}
        for line in lines[1:]:
            record = json.loads(line)
            self.records[record["name"]] = record

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, which has a `name`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.records[record["name"]] = record


def _whole_lines(path: Path) -> list[str]:
    """The lines that were written to their end."""
    return [x for x in path.read_text(encoding="utf-8").splitlines(True) if x.endswith("\n")]
