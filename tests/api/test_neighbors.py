import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mlcli
from mlcli.errors import DataError, UsageError
from tests import cli
from tests.tiny import COLORS, class_folders


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", per_class=3, noise=20)


def test_the_neighbors_are_those_of_the_command(photos, colors, tmp_path):
    query = photos / "red" / "00.png"
    steps = []
    result = mlcli.neighbors(
        query, among=photos, model=str(colors), k=2, output=tmp_path / "python.png", on_progress=steps.append
    )
    (found,) = result.queries
    assert [image.parent.name for image, _ in found.neighbors] == ["red", "red"]
    assert query not in dict(found.neighbors) and found.neighbors[0][1] <= found.neighbors[1][1]
    assert result.index.parent == Path(os.environ["XDG_CACHE_HOME"]) / "mlcli" / "indexes" and result.failures == 0
    assert {step.title for step in steps} == {"queries", "index"}

    words = ("--model", colors, "-k", 2, "-o", tmp_path / "command.png", "--format", "json")
    printed = cli.mlcli("neighbors", query, "--among", photos, *words).stdout
    assert json.loads(printed) == result.as_json()
    assert (tmp_path / "python.png").read_bytes() == (tmp_path / "command.png").read_bytes()
    assert (tmp_path / "python.png.json").read_bytes() == (tmp_path / "command.png.json").read_bytes()


def test_a_query_in_memory_and_no_file(photos, colors):
    blue = Image.new("RGB", (16, 16), COLORS["blue"])
    result = mlcli.neighbors([blue, np.asarray(blue)], among=photos, model=str(colors), k=3, size=16)
    first, second = result.queries
    assert [image.parent.name for image, _ in first.neighbors] == ["blue"] * 3
    assert first.neighbors == second.neighbors and (first.image, second.image) == ("image 0", "image 1")
    assert result.output is None and result.image.width == 6 + 4 * (40 + 6) + 4  # labels need 40 pixels


def test_what_cannot_be_read_has_an_error(photos, colors, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no image")
    queries = [tmp_path / "torn.png", photos / "red" / "00.png"]
    result = mlcli.neighbors(queries, among=photos, model=str(colors), k=1)
    bad, good = result.queries
    assert "torn.png" in bad.error and not bad.neighbors and good.neighbors and result.failures == 1
    with pytest.raises(DataError, match="none of the queries"):
        mlcli.neighbors(queries[0], among=photos, model=str(colors))
    with pytest.raises(UsageError, match="in memory"):
        mlcli.neighbors(queries[1], among=[Image.new("RGB", (8, 8))], model=str(colors))
