"""The code blocks of pages, and the commands that a block of the shell consists of."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

FENCED = re.compile(r"^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```[ ]*$(?P<after>\s*)", re.MULTILINE | re.DOTALL)
RUN = ("sh", "python", "crontab", "make")  # languages of blocks that the tests run
OPENING, CLOSING = re.compile(r"(?:^|[;&|]\s*)(?:for|while|until|if|case)\b"), re.compile(r"\b(?:done|fi|esac)\b")
STATEFUL = re.compile(r"(?:cd|export|set|wait|\w+=\S*)(?:\s|$)")  # what the lines below a line depend on


class Block(NamedTuple):
    """A code block. number: from 1, of the blocks of its page that are run. printed: what it says it prints, or ""."""

    page: Path
    number: int
    language: str
    code: str
    printed: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are run. What stands in a `text` block directly below one is what it prints."""
    found: list[Block] = []
    adjacent = -1  # where a block begins that comes directly below the one before
    for match in FENCED.finditer(page.read_text("utf-8")):
        if match["language"] in RUN:
            found.append(Block(page, len(found) + 1, match["language"], match["code"], ""))
        elif match["language"] == "text" and match.start() == adjacent:
            found[-1] = found[-1]._replace(printed=match["code"])
        adjacent = match.end() if match["language"] in RUN else -1
    return found


def commands(code: str) -> list[str]:
    """The commands of a block of the shell, each with all of its lines.

    A block whose lines depend on the shell's state (its folder, its variables) is one command.
    """
    found: list[str] = []
    pending = ""
    for line in code.splitlines(keepends=True):
        if not pending and (not line.strip() or line.startswith("#")):
            continue
        pending += line
        if _complete(pending):
            found.append(pending)
            pending = ""
    if pending:
        found.append(pending)
    return [code] if any(STATEFUL.match(command) for command in found) else found


def _complete(code: str) -> bool:
    if code.rstrip().endswith(("\\", "|", "&&", "||")):
        return False
    try:
        shlex.split(code, comments=True)
    except ValueError:  # a quote is open
        return False
    lines = [line.strip() for line in code.splitlines()]
    return sum(len(OPENING.findall(line)) for line in lines) <= sum(len(CLOSING.findall(line)) for line in lines)


def cron_commands(code: str) -> list[str]:
    """The commands of the lines of a crontab, without their schedules and comments."""
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    return [re.sub(r"^(?:@\w+|(?:\S+\s+){4}\S+)\s+", "", line) for line in lines]
