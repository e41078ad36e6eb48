"""Take the pictures of the README and docs: the pages of examples in headless Chromium.

python docs/pictures.py
python docs/pictures.py --digits FOLDER   the page of docs/images.md: a digit of MNIST, by the
                                          vision transformer in this folder (tests/test_digits.py)
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attnflow import Explainer

SENTENCE = "although this dog is not cute, it is very smart."
SHOTS = {"page.png": "", "page-dark.png": "#dark&token=11"}


DIGIT = 0  # of MNIST's test images
SEVEN = {"image.png": "#light"}


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("needs chromium or google-chrome on the PATH")
    images = Path(__file__).parent / "images"
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page, shots = _page(Path(folder) / "page.html")
        for name, fragment in shots.items():
            _shoot(browser, f"file://{page}{fragment}", images / name, Path(folder) / "profile")


def _page(file: Path) -> tuple[Path, dict[str, str]]:
    """The page of an example, and which pictures are taken of it."""
    if sys.argv[1:2] != ["--digits"]:
        return Explainer.from_pretrained()(SENTENCE, edges=True).to_html(file), SHOTS
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import digits

    folder = Path(sys.argv[2])
    explainer = Explainer(digits.cls_prenorm(folder), digits.processor(), name="vit-mnist")
    pixels, _ = digits.images(folder, DIGIT + 1)
    return explainer(images=pixels[DIGIT], edges=True).to_html(file), SEVEN


def _shoot(browser: str, address: str, picture: Path, profile: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += ["--hide-scrollbars", "--window-size=1280,945", "--virtual-time-budget=3000"]
    options += [f"--user-data-dir={profile}", f"--screenshot={picture}"]
    subprocess.run([browser, *options, address], check=True, capture_output=True)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
