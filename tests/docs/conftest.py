"""What the examples of the pages run in."""

import pytest

from mlcli import api
from mlcli.methods.learning import linear_head
from mlcli.models import registry
from mlcli.models.sources.timm_models import TimmModels
from mlcli.models.sources.torchvision_models import TorchvisionModels
from mlcli.reporting import diagnosis
from tests.docs.code_blocks import Block
from tests.docs.examples import Examples, OpenedModels, count, short, shown
from tests.docs.shell import Shell
from tests.docs.tiny_world import TinyWorld


@pytest.fixture(scope="module")
def quick_models(tmp_path_factory):
    """Models whose weights are not on every disk have random ones, and nothing is downloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for source in (TorchvisionModels, TimmModels):
            patch.setattr(source, "fetch", lambda self, name, network: None)
        patch.setattr(diagnosis, "forward_seconds", lambda *_: 0.01)
        patch.setattr(linear_head, "ITERATIONS", 10)
        models = OpenedModels()
        patch.setattr(registry, "load", models)
        yield models


@pytest.fixture(scope="module")
def shell():
    opened = Shell()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def examples(quick_models, shell, tmp_path_factory):
    world = TinyWorld(tmp_path_factory.mktemp("world"), shell)
    return Examples(tmp_path_factory.mktemp("examples"), world, shell, quick_models)


@pytest.fixture
def run_example(examples, monkeypatch, capsys):
    """Run a command of a block. It must succeed, and print what the page says it prints."""

    def python(block: Block, folder) -> str:
        monkeypatch.chdir(folder)
        load = api.load
        monkeypatch.setattr(api, "load", lambda name: short(load(name)))
        exec(compile(block.code, f"{block.page.name}, block {block.number}", "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    def run(block: Block, index: int) -> None:
        printed = examples.run(block, index, python)
        if block.printed and index == count(block) - 1:
            assert [line for line in shown(block.printed) if line not in shown(printed)] == [], printed

    return run
