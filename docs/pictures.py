"""Take the pictures of the README and docs: the pages of examples in headless Chromium.

python docs/pictures.py
python docs/pictures.py --digits FOLDER   the page of docs/images.md: a digit drawn here, by a
                                          vision transformer in this folder (tests/support/mnist.py)
python docs/pictures.py --figure          the figure of docs/fitting-in.md, by matplotlib alone
python docs/pictures.py --app             the live app of docs/app.md, after an edit of the sentence
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from attnflow import Explainer, to_html

SENTENCE = "although this dog is not cute, it is very smart."
EDITED = "although this dog is cute, it is not very smart."
SHOTS = {"page.png": "", "page-dark.png": "#dark&token=11"}
FOUR = [(9, 5), (9, 14), (19, 14), (18, 5), (17, 23)]  # a line through these of 28 x 28 pixels
FOUR_SHOTS = {"image.png": "#light"}
HEIGHTS = {"image.png": 1720}


def main() -> None:
    images = Path(__file__).parent / "images"
    images.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["--figure"]:
        _figure(images / "figure.png")
        return
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("needs chromium or google-chrome on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1:] == ["--app"]:
            _shoot_app(Path(folder), images / "app.png")
            return
        page, shots = _page(Path(folder) / "page.html")
        for name, fragment in shots.items():
            _shoot(browser, f"file://{page}{fragment}", images / name, Path(folder) / "profile")


def _page(file: Path) -> tuple[Path, dict[str, str]]:
    """The page of an example, and which pictures are taken of it."""
    if sys.argv[1:2] != ["--digits"]:
        both = Explainer.from_pretrained()(SENTENCE, target="top2", edges=True)
        return to_html(both, file), SHOTS
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from PIL import Image, ImageDraw
    from support import mnist

    drawn = Image.new("L", (280, 280))
    line = [(10 * x, 10 * y) for x, y in FOUR]
    ImageDraw.Draw(drawn).line(line, fill=255, width=28, joint="curve")
    model = mnist.cls_prenorm(Path(sys.argv[2]))
    explainer = Explainer(model, mnist.processor(), name="vit-mnist")
    found = explainer(images=drawn.resize((28, 28), Image.Resampling.LANCZOS), edges=True)
    return found.to_html(file), FOUR_SHOTS


def _figure(picture: Path) -> None:
    """What speaks for and against, next to the flow of the same sentence."""
    from matplotlib.figure import Figure

    found = Explainer.from_pretrained()(SENTENCE, edges=True)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    bars, flow = figure.subplots(1, 2, width_ratios=[2, 3])
    found.plot(bars)
    found.plot_flow(flow)
    figure.savefig(picture, dpi=110)
    print(f"wrote {picture}")


def _shoot_app(folder: Path, picture: Path) -> None:
    """Type two sentences into the app, and take a picture of what it shows."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support.browser import Browser
    from support.visits import visiting

    command = [sys.executable, "-m", "attnflow", "app", "--port", "0"]
    app = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    browser = Browser(folder)
    try:
        with visiting(browser, app.stderr.readline().split()[2]) as page:
            _type_and_edit(page)
            page.picture(picture)
    finally:
        browser.close()
        app.terminate()
    print(f"wrote {picture}")


def _type_and_edit(page: Any) -> None:
    """Explain two sentences one after the other, and wait until all of it is shown."""
    page.resize(1280, 945)
    page.wait("document.getElementById('about-model').textContent")
    for text in (SENTENCE, EDITED):
        page.type("#text", text)
        page.evaluate("document.getElementById('status').textContent = ''")
        page.click("#explain")
        page.wait("document.getElementById('status').textContent.startsWith('Done')")
    page.wait("!document.getElementById('changes').hidden")
    page.evaluate("document.activeElement.blur(); document.querySelector('.ask').scrollTop = 0")
    page.wait("document.querySelectorAll('.flow .link').length > 3", frame=True)


def _shoot(browser: str, address: str, picture: Path, profile: Path) -> None:
    height = HEIGHTS.get(picture.name, 1075)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += ["--hide-scrollbars", f"--window-size=1280,{height}", "--virtual-time-budget=3000"]
    options += [f"--user-data-dir={profile}", f"--screenshot={picture}"]
    subprocess.run([browser, *options, address], check=True, capture_output=True)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
