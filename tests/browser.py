"""A headless Chromium for the tests that open a page; `python -m tests.browser` says which one it is."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NoBrowserError(RuntimeError):
    """No Chromium that starts; the message says what was tried."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """The first Chromium that starts: Playwright's own build, or one of the system."""
    with sync_playwright() as playwright:
        browser = _launched(playwright)
        yield browser
        browser.close()


def _launched(playwright: Playwright) -> Browser:
    own = playwright.chromium.executable_path
    candidates = [own] if Path(own).is_file() else []
    candidates += [path for name in NAMES if (path := shutil.which(name))]
    tried = []
    for path in candidates:
        try:
            return playwright.chromium.launch(executable_path=path)
        except Error as error:  # such as Ubuntu's `chromium-browser`, which only names a snap
            tried.append(f"{path} does not start: {error.message.splitlines()[0]}")
    raise NoBrowserError("; ".join(tried) or "no Chromium is installed")


if __name__ == "__main__":
    try:
        with open_browser() as found:
            print(f"Chromium {found.version}")
    except NoBrowserError as error:
        sys.exit(str(error))
