"""Turn the notebooks of examples/, with the outputs stored in them, into pages of the site.

python docs/notebooks.py      writes docs/notebooks/*.md, as `make docs` does
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = Path(__file__).parent / "notebooks"
SOURCE = "https://github.com/attnflow/attnflow/blob/main/"


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for file in sorted((ROOT / "examples").glob("*.ipynb")):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        cells = "\n\n".join(map(page_of, notebook["cells"]))
        note = f"*A notebook: [{file.name}]({SOURCE}examples/{file.name}).*"
        title, _, rest = cells.partition("\n")
        (OUT / f"{file.stem}.md").write_text(f"{title}\n\n{note}\n{rest}\n", encoding="utf-8")


def page_of(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return re.sub(r"\]\(([^)]+)\)", lambda link: f"]({moved(link[1])})", source)
    shown = [output_of(output) for output in cell["outputs"]]
    return "\n\n".join([f"```python\n{source}\n```", *filter(None, shown)])


def moved(link: str) -> str:
    """A link of a notebook in examples/, as a page in docs/notebooks/ has it."""
    if link.startswith(("http", "#")):
        return link
    if link.startswith("../docs/"):
        return "../" + link.removeprefix("../docs/")
    if link.startswith("../"):
        return SOURCE + link.removeprefix("../")
    return link.replace(".ipynb", ".md") if ".ipynb" in link else f"{SOURCE}examples/{link}"


def output_of(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```" * (output["name"] == "stdout")
    kinds = {kind: "".join(text) for kind, text in output["data"].items()}
    if "image/png" in kinds:
        picture = kinds["image/png"].replace("\n", "")
        return f'<img alt="the figure of the cell above" src="data:image/png;base64,{picture}">'
    if "text/html" in kinds:
        # A table of pandas has the theme's form without its class; a blank line would end the HTML.
        table = re.sub("<table[^>]*dataframe[^>]*>", "<table>", kinds["text/html"])
        lines = filter(str.strip, table.splitlines())
        return '<div class="output">\n' + "\n".join(lines) + "\n</div>"
    return f"```text\n{kinds['text/plain']}\n```"


if __name__ == "__main__":
    main()
