"""Take the pictures of the README and docs: the page of an example in headless Chromium.

python docs/pictures.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attnflow import Explainer

SENTENCE = "although this dog is not cute, it is very smart."
SHOTS = {"page.png": "", "page-dark.png": "#dark&token=11"}


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("needs chromium or google-chrome on the PATH")
    images = Path(__file__).parent / "images"
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        attribution = Explainer.from_pretrained()(SENTENCE, edges=True)
        page = attribution.to_html(Path(folder) / "page.html")
        for name, fragment in SHOTS.items():
            _shoot(browser, f"file://{page}{fragment}", images / name, Path(folder) / "profile")


def _shoot(browser: str, address: str, picture: Path, profile: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += ["--hide-scrollbars", "--window-size=1280,945", "--virtual-time-budget=3000"]
    options += [f"--user-data-dir={profile}", f"--screenshot={picture}"]
    subprocess.run([browser, *options, address], check=True, capture_output=True)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
