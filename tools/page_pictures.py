"""Take pictures of a served status page: phone and laptop, light and dark.

    python -m tools.page_pictures http://127.0.0.1:8788/ pictures

Each is a whole page as PNG. The browser is `.tools/bin/chromium`, which `make setup-dev` fetches.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path(__file__).resolve().parent.parent / ".tools" / "bin" / "chromium"
SIZES = {"phone": (390, 844), "laptop": (1440, 900)}
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
SETTLED_MS = 2500


def take(browser: Browser, address: str, folder: Path) -> list[Path]:
    """Take all pictures into a folder; gives their paths."""
    taken = []
    for size, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                device_scale_factor=1,
            )
            page = context.new_page()
            page.goto(address)
            page.locator("#decisions button.row").first.wait_for()
            page.locator("#h-candles").scroll_into_view_if_needed()
            page.wait_for_timeout(SETTLED_MS)
            page.evaluate("scrollTo(0, 0)")
            path = folder / f"{size}-{scheme}.png"
            page.screenshot(path=path, full_page=True)
            taken.append(path)
            context.close()
    return taken


def main() -> int:
    """Take the pictures of the address given and print where they lie."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 64
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for path in take(browser, sys.argv[1], folder):
            print(path)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
