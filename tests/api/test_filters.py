import json

import pytest
from PIL import Image

import mlcli
from mlcli.errors import UsageError


def test_the_sheet_is_what_the_command_writes(tmp_path):
    sheet = mlcli.filters(output=tmp_path / "filters.png")
    assert sheet.units == tuple(sheet.units) and len(sheet.units) == sheet.of == 64 and sheet.unit is None
    assert json.loads((tmp_path / "filters.png.json").read_text()) == sheet.as_json()
    assert Image.open(tmp_path / "filters.png").tobytes() == sheet.image.tobytes()


def test_a_sheet_without_a_file():
    sheet = mlcli.filters(layer="conv2:3", size=16)
    assert sheet.output is None and sheet.unit == 3 and sheet._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layer": "conv1:99"}, "units 0 to 63"),
        ({"size": 4}, "size 4: take a number from 8"),
        ({"output": "x.gif"}, "x.gif"),
    ],
)
def test_what_cannot_be_drawn_is_said(options, message):
    with pytest.raises(UsageError, match=message):
        mlcli.filters(**options)
