"""`mlcli.pairs` as a notebook uses it."""

import json

import numpy as np
import pytest
from PIL import Image

import mlcli
from mlcli.errors import DataError, UsageError
from tests.cli import mlcli as command_line
from tests.tiny import class_folders


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", per_class=1)


def test_the_pairs_are_those_of_the_command(photos, tmp_path):
    steps = []
    result = mlcli.pairs(photos, make="blur", size=12, output=tmp_path / "ours", on_progress=steps.append)
    command_line("pairs", photos, "--make", "blur", "--size", 12, "-o", tmp_path / "theirs")
    names = [f"{side}/{color}/00.png" for side in "AB" for color in ("blue", "green", "red")]
    for name in names:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
        assert Image.open(tmp_path / "ours" / name).size == (12, 12)
    ours, theirs = (json.loads((tmp_path / who / "pairs.json").read_text()) for who in ("ours", "theirs"))
    assert ours == theirs and ours["options"] == {"make": "blur", "strength": None, "size": "12"}
    assert result.as_json() == {"folder": str(tmp_path / "ours"), "made": 3, "up_to_date": 0, "failures": 0}
    assert [step.done for step in steps] == [1, 2, 3] and steps[0].total == 3


def test_what_is_up_to_date_is_left_alone_and_what_fails_is_counted(photos, tmp_path):
    broken = photos / "broken.png"
    broken.write_bytes(b"no image")
    first = mlcli.pairs([photos], make="gray", output=tmp_path / "pairs")
    again = mlcli.pairs([photos], make="gray", output=tmp_path / "pairs")
    assert (first.made, first.current, first.failures) == (3, 0, 1)
    assert (again.made, again.current, again.failures) == (0, 3, 1)
    assert mlcli.pairs(photos, make="gray", output=tmp_path / "pairs", overwrite=True).made == 3
    with pytest.raises(UsageError, match="made with make gray, not edges"):
        mlcli.pairs(photos, make="edges", output=tmp_path / "pairs")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"make": "sketch"}, UsageError, "make sketch: take one of edges"),
        ({"strength": 3}, UsageError, "--make gray has none"),
        ({"make": "labels", "strength": 1}, UsageError, "the number of classes, 2 to 256"),
        ({"size": "12 by 12"}, UsageError, "--size 12 by 12"),
        ({"images": []}, DataError, "no images there"),
        ({"images": np.zeros((4, 4, 3), np.uint8)}, UsageError, "has no file name"),
        ({"images": [Image.new("RGB", (4, 4))]}, UsageError, "has no file name"),
    ],
)
def test_mistakes_are_errors(options, error, message, photos, tmp_path):
    with pytest.raises(error, match=message):
        mlcli.pairs(**{"images": photos, "make": "gray", "output": tmp_path / "pairs"} | options)
