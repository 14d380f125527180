"""Takes the pictures of the dashboard in docs/images, of simulated servers, in Debian's chromium.

    .venv/bin/python tools/screenshot_dashboard.py

It takes a little more than a minute, for the charts to have something to show.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
WIDTH = 1280
SECONDS = 70.0
SERVE = [sys.executable, "-m", "sglang_collect", "serve", "--port", "0", "--demo"]


def main() -> None:
    with subprocess.Popen(SERVE, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            url = service.stdout.readline().strip()
            time.sleep(SECONDS)
            take(url)
        finally:
            service.terminate()


def take(url: str) -> None:
    """A picture of the fleet, and one of a server in depth."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": 680}, color_scheme="light")
        page.goto(url)
        page.get_by_text("connect_failed").wait_for()
        page.screenshot(path=IMAGES / "dashboard.png")
        page.get_by_role("link", name="demo-busy").click()
        page.locator("#ranks tbody tr").first.wait_for()
        page.set_viewport_size({"width": WIDTH, "height": 1080})
        page.wait_for_timeout(1000)
        page.screenshot(path=IMAGES / "dashboard-server.png")
        browser.close()


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    main()
