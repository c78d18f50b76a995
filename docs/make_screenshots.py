"""Take the README's pictures of a report, on a desktop and on a phone, in light and dark.

`make screenshots` runs `python docs/make_screenshots.py STORE` on the demo's store.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from streamcluster.config import ReportSettings
from streamcluster.jobs.report import report

DOCS = Path(__file__).parent
#: Name, what is at the top, width and height in CSS pixels, device pixels of each, and colours.
SHOTS = (("report", "h1", 1280, 905, 1, "light"), ("report-phone", "#groups", 390, 844, 2, "dark"))


def main(store: str) -> None:
    """Write a report, and a PNG file beside this one for each shot."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = os.path.join(folder, "report.html")
        report(ReportSettings(out=page, store=store))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"))
        for name, section, width, height, scale, colours in SHOTS:
            tab = browser.new_page(
                viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=colours
            )
            tab.goto(Path(page).as_uri())
            tab.evaluate(f"document.querySelector('{section}').scrollIntoView({{behavior: 'instant'}})")
            tab.wait_for_timeout(500)
            tab.screenshot(path=DOCS / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
