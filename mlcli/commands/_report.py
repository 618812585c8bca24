"""The only module that prints: results on stdout, progress and messages on stderr."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from mlcli.api.events import Listener, Task
from mlcli.io.csv_rows import csv_text as csv_text  # printed by most commands
from mlcli.printable import printable
from mlcli.runtime import garbage


def complain(problem: object) -> None:
    """An error on stderr, in one style, on one line whatever the file is called."""
    print(f"mlcli: {printable(str(problem))}", file=sys.stderr)


def say(message: str, quiet: bool = False) -> None:
    """A message on stderr."""
    if not quiet:
        print(printable(message), file=sys.stderr)


def out(text: str) -> None:
    """A finished document on stdout, as UTF-8 whatever the locale; undecodable file names come out as they were.

    Of several processes the first prints it. Raises MlcliError where it cannot be written; a reader that has read
    enough (`mlcli … | head`) is no error.
    """
    out_bytes(text.encode("utf-8", "surrogateescape"))


def out_bytes(piece: bytes) -> None:
    """A piece of a document on stdout, as `out` prints it."""
    if os.environ.get("RANK", "0") != "0":
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(piece)
    sys.stdout.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    """A table as text; in a pipe as wide as its contents, so that nothing is cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        drawn.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(str(cell))) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=10_000, no_color=True)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def markdown(text: str) -> str:
    """A document in Markdown: formatted on a terminal, in a pipe as it is.

    The addresses of links are shown, since most are relative to a file, which a terminal cannot open.
    """
    if not sys.stdout.isatty():
        return text
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.capture() as captured:
        console.print(Markdown(text, hyperlinks=False))
    return captured.get()


def _has_room_for_bars() -> bool:
    """Whether stderr is a terminal with columns: one of 0 x 0, as some containers and editors open, draws no bar."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # a stream without a descriptor
        return False


def _duration(seconds: float) -> str:
    """`0:05`, `12:40`, `27:05:00`: hours, where there are any, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A bar on a terminal; in a log lines with what is done of how much, the rate and the time left; or nothing.

    quiet: nothing. The first line comes at the first step after FIRST_SECONDS, so that long work says its total soon
    and short work nothing; then one every LOG_SECONDS.
    """

    FIRST_SECONDS = 2.0
    LOG_SECONDS = 30.0
    WIDEST = 30  # characters of what stands before the bar; a long path would leave it no room

    def __init__(self, total: int | None, what: str, *, quiet: bool = False, start: int = 0):
        self.total, self.what, self.done, self.start = total, what, start, start
        self.began = time.monotonic()
        self.due = self.began + self.FIRST_SECONDS  # when the next line comes
        self.bar = None
        self.silent = quiet
        if not quiet and _has_room_for_bars():
            from tqdm import tqdm

            shown = what if len(what) <= self.WIDEST else "…" + what[1 - self.WIDEST :]
            self.bar = tqdm(total=total, desc=shown, initial=start, file=sys.stderr, dynamic_ncols=True, leave=False)

    def to(self, done: int, note: str = "", *, always: bool = False) -> None:
        """Move to `done`, with a note such as the loss; `always` writes a line to a log even if it is soon."""
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(done - self.done)
        elif not self.silent and (always or time.monotonic() > self.due):
            self.due = time.monotonic() + self.LOG_SECONDS
            total = f"/{self.total}" if self.total else ""
            parts = [f"{self.what} {done}{total}{self._speed(done)}", note]
            print("  ".join(filter(None, parts)), file=sys.stderr, flush=True)
        self.done = done

    def resumed(self, done: int) -> None:
        """So much was done before this process began, which says nothing of how fast this one is."""
        self.done = self.start = done
        if self.bar is not None:
            self.bar.initial = self.bar.n = self.bar.last_print_n = done

    def _speed(self, done: int) -> str:
        """`, 12.3/s, 1:05 left`: the rate since the work began, and the time that the rest takes at this rate."""
        seconds, steps = time.monotonic() - self.began, done - self.start
        if steps <= 0 or seconds <= 0:
            return ""
        rate = steps / seconds
        text = f", {rate:.3g}/s" if rate >= 1 else f", {seconds / steps:.3g} s each"
        return f"{text}, {_duration((self.total - done) / rate)} left" if self.total and self.total > done else text

    def complain(self, problem: object) -> None:
        """An error that does not disturb the bar; said even when quiet."""
        if self.bar is not None:
            self.bar.clear()
        complain(problem)

    def line(self, text: str) -> None:
        """A message that does not disturb the bar."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        elif not self.silent:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


class Printer(Listener):
    """Prints on stderr what a function of the api says. quiet: problems alone."""

    def __init__(self, *, quiet: bool = False):
        super().__init__()
        self.quiet = quiet

    def message(self, text: str) -> None:
        say(text, self.quiet)

    def problem(self, problem: object) -> None:
        complain(problem)

    def progress(self, total: int | None, title: str, start: int) -> "Bar":
        garbage.collect_as_usual()  # all is imported when the first piece of work begins
        return Bar(self, total, title, start)


class Bar(Task):
    """A `Progress` on stderr."""

    def __init__(self, listener: Printer, total: int | None, title: str, start: int):
        super().__init__(listener, total, title, start)
        self.bar = Progress(total, title, quiet=listener.quiet, start=start)

    def to(self, done: int, note: str = "", *, always: bool = False) -> None:
        self.done = done
        self.bar.to(done, note, always=always)

    def resumed(self, done: int) -> None:
        self.done = done
        self.bar.resumed(done)

    def complain(self, problem: object) -> None:
        self.bar.complain(problem)

    def line(self, text: str) -> None:
        self.bar.line(text)

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(*error)
