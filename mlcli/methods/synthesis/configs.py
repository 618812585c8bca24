"""What paired degradations can be, and how strong; loads no torch, for the sake of --help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Inverse:
    """One way of `mlcli pairs` to make X of Y. means: what its strength is; empty where it has none.

    strength: the default; None where it goes by the size of the image. It lies from `least` to `most`.
    """

    means: str = ""
    strength: float | None = None
    least: float = 0.0
    most: float = float("inf")


INVERSES = {
    "edges": Inverse("smoothing in pixels", None, 0.3, 50),
    "gray": Inverse(),
    "blur": Inverse("standard deviation in pixels", None, 0.3, 500),
    "low-resolution": Inverse("factor", 4, 2, 1000),
    "mosaic": Inverse("side of a tile in pixels", None, 2, 10_000),
    "labels": Inverse("number of classes", 12, 2, 256),
}
