"""A real headless browser, where one is installed."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
DARK = "--blink-settings=preferredColorScheme=0"
OWN = "not an origin"  # initiator of the requests that the browser makes of itself


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page: its elements after the scripts, messages of the console, URLs asked for."""

    dom: str
    console: list[str]
    requests: list[str]


def find() -> str:
    """The browser's program; skips the test where there is none."""
    for name in NAMES:
        if program := shutil.which(name):
            return program
    pytest.skip(f"no browser installed ({', '.join(NAMES)})")


def run(page: Path, fragment: str, *arguments: str) -> str:
    """Open the page (with what follows its #) and return what the browser prints."""
    return _run(page, fragment, *arguments).stdout


def see(page: Path, log: Path, *arguments: str) -> Seen:
    """Open the page and listen. log: a file for the browser's log of the network."""
    done = _run(page, "", *arguments, "--dump-dom", "--enable-logging=stderr", f"--log-net-log={log}")
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    events = json.loads(log.read_text())["events"]
    asked = [each["params"] for each in events if "url" in each.get("params", {}) and "initiator" in each["params"]]
    urls = {each["url"] for each in asked if each["initiator"] != OWN}
    return Seen(done.stdout, console, sorted(url for url in urls if not url.startswith(("file:", "data:"))))


def _run(page: Path, fragment: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [find(), *OPTIONS, *arguments, page.absolute().as_uri() + fragment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done
