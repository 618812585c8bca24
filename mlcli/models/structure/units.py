"""Units, and other numbered objects, as the command line names them."""

import re

from mlcli.errors import UsageError
from mlcli.models.structure.graph import Layer


def split_unit(address: str) -> tuple[str, int | None]:
    """`conv4:12` -> (conv4, 12), `conv4` -> (conv4, None). Raises UsageError for what is no number of a unit."""
    layer, colon, unit = address.partition(":")
    if not colon:
        return layer, None
    if not (unit.isascii() and unit.isdigit()):
        raise UsageError(f"--layer {address}: a unit is a number, as in {layer}:12")
    return layer, int(unit)


def parse_units(text: str, layer: Layer) -> list[int]:
    """`all`, or numbers and ranges as in `3,7,12-20`, to the units of a layer in this order, none twice.

    Raises UsageError for what is neither, for units that the layer has not, and where it has none at all.
    """
    name = layer.alias or layer.address
    if not layer.units:
        raise UsageError(f"--layer {name}: its values are neither maps nor a vector; `mlcli layers` lists others")
    return parse_numbers(text, layer.units, f"{name} has the units")


def parse_numbers(text: str, count: int, having: str) -> list[int]:
    """`all`, or numbers and ranges as in `3,7,12-20`, to these of the numbers 0 to count - 1, none twice.

    having: who has what, as in "conv4 has the units", for the UsageError about others.
    """
    if text == "all":
        return list(range(count))
    numbers: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", part.strip())
        if found is None:
            raise UsageError(f"{text}: give all, or numbers and ranges as in 0-15 or 3,7,12-20")
        first, end = int(found[1]), int(found[2] or found[1])
        if first > end:
            raise UsageError(f"{text}: the range {part.strip()} runs backwards")
        if end >= count:
            raise UsageError(f"{having} 0 to {count - 1}, not {part.strip()}")
        numbers |= dict.fromkeys(range(first, end + 1))
    return list(numbers)
