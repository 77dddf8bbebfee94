"""The picture of a report in the README: the first page of a brief report, as Chromium shows it.

python docs/report_picture.py     needs Chromium and pip install '.[browser]'
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import hierpool as hp

PICTURE = Path(__file__).parent / "images" / "report.png"
WIDTH, HEIGHT = 860, 960


def main() -> None:
    """Study the bundled Orthodont data, and photograph the report."""
    from playwright.sync_api import sync_playwright

    teeth = hp.datasets.load("Orthodont")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        study = hp.study("distance ~ age * Sex", teeth, group="Subject", seed=1, progress=False)
        page = study.report(Path(folder) / "report.html")
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        view.goto(Path(page).as_uri())
        view.screenshot(path=PICTURE)
        browser.close()
    sys.stdout.write(f"{PICTURE}\n")


if __name__ == "__main__":
    main()
