"""`mlcli.render` as a notebook calls it, against what the command writes."""

import json

import pytest

from mlcli.api.render import RenderConfig, render
from mlcli.errors import UsageError
from mlcli.imaging.image_io import read_labels
from mlcli.methods.synthesis import digits, phantoms
from mlcli.options import of
from tests.cli import mlcli


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what, size", [("digits", 28), ("organs", 64)])
def test_the_files_are_those_of_the_command(what, size, tmp_path):
    steps = []
    result = render(what, output=tmp_path / "ours", count=6, style="b", seed=3, on_progress=steps.append)
    mlcli("render", what, "-n", 6, "--style", "b", "--seed", 3, "-o", tmp_path / "theirs")
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert (result.folder, result.count, result.size) == (tmp_path / "ours", 6, size)
    assert result.as_json() == json.loads((tmp_path / "ours/render.json").read_text())
    assert [step.done for step in steps] == [1, 2, 3, 4, 5, 6] and steps[0].total == 6


def test_masks_hold_the_classes_of_the_record(tmp_path):
    result = render("organs", output=str(tmp_path / "chests"), count=2, size=48)
    mask = read_labels(result.folder / "masks" / "0.png")
    assert mask.shape == (1, 48, 48) and mask.unique().tolist() == [0, 1, 2, 3]
    assert tuple(result.record["classes"]) == phantoms.CLASSES


def test_errors_are_of_mlcli_and_nothing_is_printed(tmp_path, capfd):
    with pytest.raises(UsageError, match="what letters: take one of digits, organs"):
        render("letters", output=tmp_path / "out")
    with pytest.raises(UsageError, match="at least 12 pixels"):
        render("digits", output=tmp_path / "out", size=11)
    with pytest.raises(UsageError, match="count 0: take a number from 1"):
        render("digits", output=tmp_path / "out", count=0)
    render("digits", output=tmp_path / "out", count=1)
    with pytest.raises(UsageError, match="holds something already"):
        render("digits", output=tmp_path / "out", count=1)
    assert capfd.readouterr() == ("", "")


def test_the_styles_are_those_of_the_methods():
    (style,) = (each for each in RenderConfig.__dataclass_fields__.values() if each.name == "style")
    for module in (digits, phantoms):
        assert of(style).choices == tuple(module.STYLES)
