"""The colors of classes in label maps."""

import torch
from torch import Tensor

# Of Okabe and Ito (2008), which color-blind people can distinguish too
COLORS = ((86, 180, 233), (0, 158, 115), (213, 94, 0), (230, 159, 0), (240, 228, 66), (204, 121, 167), (0, 114, 178))


def class_colors(count: int) -> Tensor:
    """(count, 3) uint8: black for class 0, the background; after seven colors they repeat, darker."""
    palette: list[tuple[int, ...]] = [(0, 0, 0)]
    for number in range(count - 1):
        repeat, index = divmod(number, len(COLORS))
        palette.append(tuple(round(value * 0.75**repeat) for value in COLORS[index]))
    return torch.tensor(palette, dtype=torch.uint8)
