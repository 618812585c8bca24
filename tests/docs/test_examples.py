"""Every code block of the pages and of the README runs, over tiny data and made short."""

import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcli import api
from mlcli.models import registry
from mlcli.models.sources.timm_models import TimmModels
from mlcli.models.sources.torchvision_models import TorchvisionModels
from mlcli.reporting import diagnosis
from mlcli.reporting.diagnosis import OFFLINE
from tests.docs import shortened
from tests.docs.code_blocks import Block, blocks, commands, cron_commands
from tests.docs.regenerate import PAGES, ROOT
from tests.docs.shell import Shell
from tests.docs.tiny_world import TinyWorld

INSTALLS = re.compile(r"\bpip install\b")  # .ci/run does what the README's installations say


def count(block: Block) -> int:
    return len(commands(block.code)) if block.language == "sh" else 1


def examples() -> list[tuple[Block, int]]:
    """The commands of all blocks, by their numbers; a block of another language is one."""
    found = []
    for page in (ROOT / "README.md", *PAGES):
        for block in blocks(page):
            if not INSTALLS.search(block.code):
                found += [(block, number) for number in range(count(block))]
    return found


EXAMPLES = examples()
NAMES = [f"{block.page.stem}-{block.number}-{number + 1}" for block, number in EXAMPLES]


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", autouse=True)
def nothing_is_downloaded(patched, tmp_path_factory):
    """Models whose weights are not on every disk have random ones."""
    patched.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for source in (TorchvisionModels, TimmModels):
        patched.setattr(source, "fetch", lambda self, name, network: None)
    patched.setattr(registry, "load", each_once(registry.load))
    patched.setattr(diagnosis, "forward_seconds", lambda *_: 0.01)


def each_once(load):
    """`registry.load` that opens each model by name once, and gives copies of it."""
    opened = {}

    def loaded(name, weights=None, **options):
        key = name, *sorted(options.items())
        if weights is not None or name not in OFFLINE:
            return load(name, weights, **options)
        if key not in opened:
            opened[key] = load(name, **options)
        return copy.deepcopy(opened[key])

    return loaded


@pytest.fixture(scope="module")
def shell():
    opened = Shell()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def world(shell, tmp_path_factory):
    return TinyWorld(tmp_path_factory.mktemp("world"), shell)


class Folders:
    """The folder of each block, in which its commands run one after the other, each once."""

    def __init__(self, root: Path, world: TinyWorld, shell: Shell):
        self.root, self.world, self.shell = root, world, shell
        self.done: dict[tuple[Path, int], int] = {}

    def run(self, block: Block, number: int) -> str:
        """What a command of the block prints; those before it, which it may need, run first."""
        key = block.page, block.number
        folder = self.root / f"{block.page.stem}-{block.number}"
        if key not in self.done:
            folder.mkdir()
            self.world.provide(block.code, folder, whole=bool(block.printed))
        for before in range(self.done.get(key, 0), number):
            self.done[key] = before + 1
            self.shell.run(commands(block.code)[before], folder)
        self.done[key] = number + 1
        return self.shell.run(commands(block.code)[number], folder)

    def of(self, block: Block) -> Path:
        """A folder with what a block of one command needs."""
        folder = self.root / f"{block.page.stem}-{block.number}"
        folder.mkdir()
        self.world.provide(block.code, folder, whole=bool(block.printed))
        return folder


@pytest.fixture(scope="module")
def folders(world, shell, tmp_path_factory):
    return Folders(tmp_path_factory.mktemp("examples"), world, shell)


@pytest.mark.parametrize("block, number", EXAMPLES, ids=NAMES)
def test_it_runs(block, number, folders, shell, monkeypatch, capsys):
    if block.language == "sh":
        printed = folders.run(block, number)
    elif block.language == "make":
        printed = shell.make(block.code, folders.of(block))
    elif block.language == "crontab":
        folder = folders.of(block)
        printed = "".join(shell.run(command, folder) for command in cron_commands(block.code))
    else:
        monkeypatch.chdir(folders.of(block))
        load = api.load
        monkeypatch.setattr(api, "load", lambda name: short(load(name)))
        exec(compile(block.code, str(block.page), "exec"), {"__name__": "__main__"})
        printed = capsys.readouterr().out
    if block.printed and number == count(block) - 1:
        assert [line for line in shown(block.printed) if line not in shown(printed)] == [], printed


def short(function):
    @functools.wraps(function)
    def shorter(*args, **kwargs):
        return function(*args, **shortened.call(function.__name__, kwargs))

    return shorter


def shown(printed: str) -> list[str]:
    """The lines of a text, without their numbers and their spaces; … stands for lines that are left out."""
    lines = (
        re.sub(r"\s+", " ", re.sub(r"─+", "─", re.sub(r"\d[\d.,]*", "0", line))).strip()
        for line in printed.splitlines()
    )
    return [line for line in lines if line and line != "…"]
