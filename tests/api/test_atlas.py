import json
import re

import pytest
from PIL import Image

import mlcli
from mlcli.errors import RunError, UsageError
from mlcli.methods.visualization import unit_atlas
from tests import cli
from tests.tiny import class_folders


@pytest.fixture
def options(colors, tmp_path):
    photos = class_folders(tmp_path / "photos", per_class=2)
    return {
        "model": str(colors),
        "layer": "conv1",
        "units": "0,5",
        "images": [str(photos)],
        "top": 2,
        "steps": 2,
        "batch_size": 4,  # one unit at a time
        "precision": "fp32",
    }


def words(options):
    named = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    return [word for name, value in named.items() for word in (name, *(value if isinstance(value, list) else [value]))]


def content(folder):
    typed = rb'"command_line": ".*"|<pre>.*</pre>'
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): re.sub(typed, b"", file.read_bytes()) for file in files}


def test_interrupted_and_resumed_it_is_that_of_the_command(options, tmp_path, monkeypatch):
    optimize, steps = unit_atlas.optimize, []

    def broken(model, layer, units, *arguments, **more):
        if units == [5]:
            raise KeyboardInterrupt
        return optimize(model, layer, units, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(unit_atlas, "optimize", broken)
        with pytest.raises(KeyboardInterrupt):
            mlcli.atlas(output=tmp_path / "python", on_progress=steps.append, **options)
    assert steps[0].title == "patches" and steps[-1].title == "atlas of conv1" and steps[-1].total == 8
    assert not (tmp_path / "python" / "units" / "5.json").exists()

    result = mlcli.atlas(output=tmp_path / "python", resume=True, **options)
    assert result.units == (0, 5) and result.failures == 0 and result.page.is_file()
    assert json.loads((tmp_path / "python" / "atlas.json").read_text())["options"]["steps"] == 2
    cli.mlcli("atlas", *words(options), "-o", tmp_path / "command")
    assert content(tmp_path / "python") == content(tmp_path / "command")

    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "python").rglob("*")}
    assert mlcli.atlas(output=tmp_path / "python", resume=True, **options).as_json() == result.as_json()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "python").rglob("*")} == times
    with pytest.raises(RunError, match="other seed 0;"):
        mlcli.atlas(output=tmp_path / "python", resume=True, seed=1, **options)
    with pytest.raises(UsageError, match="holds an atlas already"):
        mlcli.atlas(output=tmp_path / "python", **options)


def test_projections_stand_below_the_patches(options, tmp_path):
    plain = mlcli.atlas(output=tmp_path / "plain", **options)
    drawn = mlcli.atlas(output=tmp_path / "drawn", project="guided", **options)
    sizes = [Image.open(made.folder / "units" / "0-strongly_positive.jpg").size for made in (plain, drawn)]
    assert sizes[1][0] == sizes[0][0] and sizes[1][1] == 2 * sizes[0][1] - 2
    assert "below each the projection of the unit (guided)" in drawn.page.read_text()
    assert "below each" not in plain.page.read_text()
    del options["images"]
    with pytest.raises(UsageError, match="--project guided: is drawn below patches of images; give --images"):
        mlcli.atlas(output=tmp_path / "none", project="guided", **options)
