"""Units by number."""

import pytest

from mlcli.errors import UsageError
from mlcli.models import registry
from mlcli.models.structure import features
from mlcli.models.structure.units import parse_units, split_unit
from tests.untrained import untrained


def test_units():
    assert split_unit("conv4:12") == ("conv4", 12)
    assert split_unit("features.10") == ("features.10", None)
    for wrong in ("conv4:", "conv4:x", "conv4:-1", "conv4:1:2", "conv4:²"):
        with pytest.raises(UsageError, match="a unit is a number"):
            split_unit(wrong)


@pytest.mark.parametrize(
    "text, units",
    [
        ("all", list(range(10))),
        ("0-9", list(range(10))),
        ("3", [3]),
        ("7,3,7", [7, 3]),
        ("3, 7,5-8", [3, 7, 5, 6, 8]),
        ("9-9", [9]),
    ],
)
def test_units_by_numbers_and_ranges(text, units):
    model = registry.create("cifarnet", range(10), 16)
    assert parse_units(text, features.resolve(model, "classifier")) == units


@pytest.mark.parametrize(
    "text, message",
    [
        ("10", "classifier has the units 0 to 9, not 10"),
        ("2,0-10", "classifier has the units 0 to 9, not 0-10"),
        ("5-3", "the range 5-3 runs backwards"),
        *((text, "give all, or numbers and ranges") for text in ("", "a", "-3", "3-", "1,,2", "1.5", "²", "9" * 5000)),
    ],
)
def test_units_that_are_none(text, message):
    model = registry.create("cifarnet", range(10), 16)
    with pytest.raises(UsageError, match=message):
        parse_units(text, features.resolve(model, "classifier"))


def test_how_many_units_a_layer_has():
    units = {layer.address: layer.units for layer in features.layers(untrained("vit_b_16"))}
    assert units["conv_proj"] == 768 and units["heads.head"] == 1000
    assert units["encoder.layers.encoder_layer_0.mlp"] == 0  # tokens
    layer = features.resolve(untrained("resnet18"), "avgpool")
    assert layer.shape == (512, 1, 1) and parse_units("511", layer) == [511]
    with pytest.raises(UsageError, match="neither maps nor a vector"):
        parse_units("0", features.resolve(untrained("vit_b_16"), "encoder"))
