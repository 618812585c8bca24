"""A real headless browser, where one is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str:
    """The browser's program; skips the test where there is none."""
    for name in NAMES:
        if program := shutil.which(name):
            return program
    pytest.skip(f"no browser installed ({', '.join(NAMES)})")


def run(page: Path, fragment: str, *arguments: str) -> str:
    """Open the page (with what follows its #) and return what the browser prints."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000"]
    done = subprocess.run(
        [find(), *options, *arguments, page.absolute().as_uri() + fragment], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
