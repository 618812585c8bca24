"""Runs the code blocks of pages over tiny data, made short."""

import copy
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlcli.api.call import current
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.reporting.diagnosis import OFFLINE
from tests.docs import shortened
from tests.docs.code_blocks import Block, blocks, commands, cron_commands
from tests.docs.regenerate import SAMPLES
from tests.docs.shell import Shell
from tests.docs.tiny_world import TinyWorld

INSTALLS = re.compile(r"\bpip install\b")  # .ci/run does what the README's installations say
LOOKING = ("classify", "patches", "neighbors", "maximize", "atlas")  # commands that leave a model as it is
SIDE = 64  # pixels of the images that networks take instead of 224


def examples(pages: Sequence[Path]) -> list[tuple[Block, int]]:
    """The commands of all blocks of some pages, by their indices in the block."""
    found = [block for page in pages for block in blocks(page) if not INSTALLS.search(block.code)]
    return [(block, index) for block in found for index in range(count(block))]


def count(block: Block) -> int:
    """How many commands a block has; of another language than the shell's it is one."""
    return len(commands(block.code)) if block.language == "sh" else 1


def name(example: tuple[Block, int]) -> str:
    """PAGE-BLOCK-COMMAND."""
    block, index = example
    return f"{block_name(block)}-{index + 1}"


def block_name(block: Block) -> str:
    """PAGE-BLOCK; the page of the samples is called as their folder, since two pages have the name README."""
    page = "samples" if block.page == SAMPLES else block.page.stem
    return f"{page}-{block.number}"


def short(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the api that is called with smaller options than it is given."""

    @functools.wraps(function)
    def shorter(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **shortened.call(function, kwargs))

    return shorter


def shown(printed: str) -> list[str]:
    """The lines of a text, without their numbers and their spaces; … stands for lines that are left out."""
    found = []
    for line in printed.splitlines():
        line = re.sub(r"─+", "─", re.sub(r"\d[\d.,]*", "0", line))
        found.append(re.sub(r"\s+", " ", line).strip())
    return [line for line in found if line and line != "…"]


class OpenedModels:
    """In place of `registry.load`: opens each offline model once, for small images.

    Commands that change a model get a copy of it. whole: whether models take images of their own size.
    """

    def __init__(self) -> None:
        self.load, self.whole = registry.load, False
        self.opened: dict[tuple[Any, ...], Model] = {}

    def __call__(self, name: str, weights: Any = None, **options: Any) -> Model:
        if weights is not None or name not in OFFLINE:
            return self.load(name, weights, **options)
        key = name, self.whole, *sorted(options.items())
        if key not in self.opened:
            model = self.opened[key] = self.load(name, **options)
            if not self.whole and model.preprocessing.crop > SIDE:
                model.preprocessing = replace(model.preprocessing, resize=SIDE, crop=SIDE)
        call = current()
        return self.opened[key] if call and call.name in LOOKING else copy.deepcopy(self.opened[key])


class Examples:
    """Runs examples, each block in a folder of its own, its commands one after the other, each once."""

    def __init__(self, root: Path, world: TinyWorld, shell: Shell, models: OpenedModels):
        self.root, self.world, self.shell, self.models = root, world, shell, models
        self.done: dict[Path, int] = {}  # number of commands, by the folder of a block

    def run(self, block: Block, index: int, python: Callable[[Block, Path], str]) -> str:
        """What a command of the block prints; those before it, which it may need, run first. python: runs Python."""
        folder = self.folder(block)
        self.models.whole = bool(block.printed)
        if block.language == "python":
            return python(block, folder)
        if block.language == "make":
            return self.shell.make(block.code, folder)
        if block.language == "crontab":
            return "".join(self.shell.run(command, folder) for command in cron_commands(block.code))
        code = commands(block.code)
        while self.done[folder] < index:
            self.done[folder] += 1
            self.shell.run(code[self.done[folder] - 1], folder)
        self.done[folder] = index + 1
        return self.shell.run(code[index], folder)

    def folder(self, block: Block) -> Path:
        """The folder of a block, with what it reads."""
        folder = self.root / block_name(block)
        if folder not in self.done:
            self.done[folder] = 0
            folder.mkdir()
            self.world.provide(block.code, folder, whole=bool(block.printed))
        return folder
