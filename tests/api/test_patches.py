import json

import numpy as np
import pytest
from PIL import Image

import mlcli
from mlcli.api.atlas import AtlasConfig
from mlcli.api.patches import PatchesConfig
from mlcli.errors import UsageError
from mlcli.io.files import json_text
from mlcli.models.relu_rules import RULES
from mlcli.options import of, options
from tests import cli
from tests.tiny import COLORS, class_folders

BLUE = sorted(COLORS).index("blue")  # the unit of conv1 that responds to blue


def test_the_patches_are_those_of_the_command(colors, tmp_path):
    photos = class_folders(tmp_path / "photos", per_class=3, noise=20)
    steps = []
    options = {"model": str(colors), "layer": "conv1", "units": f"{BLUE},5", "top": 2}
    result = mlcli.patches(photos, output=tmp_path / "python", on_progress=steps.append, **options)

    strongest = result.layers["conv1"].of(BLUE)["strongly_positive"]
    assert [result.images[patch.image].parent.name for patch in strongest] == ["blue", "blue"]
    assert strongest[0].value > strongest[1].value > 0
    assert (result.folder, result.count, result.failures) == (tmp_path / "python", 9, 0)
    assert [(step.title, step.done) for step in steps][-1] == ("draw units", 2) and steps[0].title == "patches"

    words = ("--model", colors, "--layer", "conv1", "--units", f"{BLUE},5", "--top", 2)
    cli.mlcli("patches", photos, *words, "-o", tmp_path / "command")
    for name in ("conv1.jpg", "patches.json"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert (tmp_path / "python" / "patches.json").read_text() == json_text(result.as_json())


def test_images_in_memory(colors, tmp_path):
    images = [Image.new("RGB", (16, 16), color) for color in COLORS.values()]
    result = mlcli.patches(images, model=str(colors), layer=["conv1"], units=BLUE, output=tmp_path / "out")
    best = result.layers["conv1"].of(BLUE)["strongly_positive"][0]
    assert best.image == list(COLORS).index("blue")
    (entry,) = json.loads((tmp_path / "out" / "patches.json").read_text())["layers"][0]["units"]
    assert entry["strongly_positive"][0]["file"] == "image 0"
    array = mlcli.patches(np.asarray(images[0]), model=str(colors), layer="conv1", units=BLUE, output=tmp_path / "one")
    assert array.layers["conv1"].of(BLUE)["strongly_positive"][0].value == best.value


def test_errors_are_raised(colors, tmp_path):
    with pytest.raises(UsageError, match="did you mean conv"):
        mlcli.patches(tmp_path, model=str(colors), layer="conv9", output=tmp_path / "out")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something already"):
        mlcli.patches(tmp_path, model=str(colors), output=tmp_path)
    with pytest.raises(UsageError, match="top 0: take a number from 1 to 100"):
        mlcli.patches(tmp_path, output=tmp_path / "out", top=0)


def test_the_rules_of_projections_are_offered():
    for config in (PatchesConfig, AtlasConfig):
        (project,) = (each for each in options(config) if each.name == "project")
        assert of(project).choices == RULES
