"""Translators: built for a size, described and opened again, damaged files named."""

import pytest
import torch

from mlcli.data.pairs import ImageSpec
from mlcli.errors import UsageError, WeightsError
from mlcli.models import artifacts, translators


def small(name: str = "unet", size=(16, 32), **options):
    torch.manual_seed(0)
    return translators.create(name, ImageSpec(1), ImageSpec(labels=3), size, filters=4, **options)


def saved(folder, described=lambda description: description):
    translator = small()
    tensors = {f"AtoB.{name}": tensor for name, tensor in translator.network.state_dict().items()}
    description = {"kind": "translator", "generators": {"AtoB": described(translator.describe())}}
    artifacts.save(folder / "model.safetensors", tensors, description)
    return translator


def test_opened_again_it_computes_the_same(tmp_path):
    translator = saved(tmp_path)
    opened = translators.load(tmp_path, "AtoB")
    assert (opened.source, opened.target, opened.size) == (ImageSpec(1), ImageSpec(labels=3), (16, 32))
    assert not any(p.requires_grad for p in opened.network.parameters()) and not opened.network.training
    x = torch.randint(0, 256, (2, 1, 16, 32), dtype=torch.uint8)
    translator.network.eval()
    assert torch.equal(opened(x), translator(x)) and opened(x).shape == (2, 1, 16, 32)


@pytest.mark.parametrize(
    "name, size, multiple, smallest",
    [("unet", (16, 32), 16, 16), ("resnet-6", (16, 16), 4, 16), ("pix2pixhd", (64, 64), 16, 64)],
)
def test_sides_that_pass_through(name, size, multiple, smallest):
    translator = small(name, size)
    assert translator.multiple == multiple == translators.multiple(name, size) and translator.smallest == smallest
    least = torch.zeros(1, 1, smallest, smallest, dtype=torch.uint8)
    assert translator(least).shape == (1, 1, smallest, smallest)


@pytest.mark.parametrize(
    "name, size", [("unet", (20, 32)), ("resnet-9", (18, 32)), ("resnet-9", (8, 32)), ("pix2pixhd", (32, 32))]
)
def test_sizes_that_do_not_suit_are_refused(name, size):
    with pytest.raises(UsageError, match=rf"--size {size[1]}x{size[0]}: .*multiples"):
        small(name, size)


def test_files_that_hold_no_translator(tmp_path):
    with pytest.raises(WeightsError, match="no run in this folder"):
        translators.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="--resume"):
        translators.load(tmp_path)
    saved(tmp_path)
    with pytest.raises(UsageError, match="translates AtoB, not BtoA"):
        translators.load(tmp_path, "BtoA")
    saved(tmp_path, lambda description: description | {"architecture": "transformer"})
    with pytest.raises(WeightsError, match="its description is damaged"):
        translators.load(tmp_path)
    saved(tmp_path, lambda description: description | {"options": description["options"] | {"filters": 8}})
    with pytest.raises(WeightsError, match="has other shapes"):
        translators.load(tmp_path)
