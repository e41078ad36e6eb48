"""Records of a long run as JSON lines: a killed run resumes after its last whole line."""

import sys
from pathlib import Path
from typing import Any

from attnflow.evaluation.json_lines import as_lines, resume_records
from attnflow.files import Growing, make_folder


class Journal:
    """Records measured so far, by name of the batch.

    The first line of the file holds the options of the run; a run with others needs another file.
    """

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self.path = path
        make_folder(path.parent)
        lines = resume_records(path)
        if not lines:
            self._append({"options": options})
        elif (before := lines[0].get("options")) != options:
            sys.exit(f"{path} holds a run with other options ({before}): remove it, or give those.")
        self.records: dict[str, dict[str, Any]] = {record["name"]: record for record in lines[1:]}

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, which has a `name`."""
        self._append(record)
        self.records[record["name"]] = record

    def _append(self, record: dict[str, Any]) -> None:
        with Growing(self.path) as file:
            file.append(as_lines([record]))
