import json

import numpy as np
import pytest
from PIL import Image

import mlcli
from mlcli.errors import UsageError
from tests.cli import mlcli as command_line

QUICK = {"scales": "16,24", "steps": "2", "precision": "fp32"}


@pytest.fixture
def photos():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(2)]


def test_in_memory_as_in_a_file_as_by_the_command(photos, tmp_path):
    content, style = photos
    for name, image in zip(("content", "style"), photos, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    steps = []
    (in_memory,) = mlcli.stylize(content, style=Image.fromarray(style), **QUICK, on_progress=steps.append).images
    assert [step.done for step in steps] == [1, 2, 3, 4] and in_memory.output is None
    paths = tmp_path / "content.png", tmp_path / "style.png"
    (in_file,) = mlcli.stylize(paths[0], style=paths[1], output=tmp_path / "a.png", **QUICK).images
    command_line(
        "stylize", paths[0], "--style", paths[1], "-o", tmp_path / "b.png", "--scales", "16,24", "--steps", 2,
        "--precision", "fp32",
    )  # fmt: skip
    assert in_memory.image.tobytes() == in_file.image.tobytes() == Image.open(tmp_path / "b.png").tobytes()
    told = json.loads((tmp_path / "b.png.json").read_text())
    assert told["options"] == in_file.as_json()["options"] and told["losses"] == in_file.as_json()["losses"]


def test_several_contents_go_to_a_folder_and_what_is_finished_stays(photos, tmp_path):
    for number, image in enumerate(photos):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    contents = [tmp_path / "0.png", tmp_path / "1.png"]
    first = mlcli.stylize(contents, style=photos[1], output=tmp_path / "painted", **QUICK)
    assert [painted.output.name for painted in first.images] == ["0.png", "1.png"] and not first.failures
    assert mlcli.stylize(contents, style=photos[1], output=tmp_path / "painted", **QUICK).images == ()


@pytest.mark.parametrize(
    "options", [{"size": 16}, {"style_weight": [1, 2]}, {"content_layer": ["conv1=-1"]}, {"alpha": 2}]
)
def test_what_does_not_go_together_is_said(photos, options):
    with pytest.raises(UsageError):
        mlcli.stylize(photos[0], style=photos[1], **QUICK | options)
