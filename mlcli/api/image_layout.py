"""How the images that `maximize` makes are drawn: one enlarged, or all in a grid with labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from mlcli.api.maximize import MaximizeConfig
    from mlcli.methods.visualization.activation_maximization import Maximized
    from mlcli.methods.visualization.objectives import Objective

SINGLE, TILE = 256, 96  # pixels, the least side of a single image, and about the side of one in a grid


@dataclass(frozen=True)
class Layout:
    """How the images are drawn: a single one enlarged, or all in a grid.

    zoom: of the single image; None for a grid. labels, columns, side: of `canvas.grid`.
    """

    zoom: int | None = None
    labels: list[str] | None = None
    columns: int | None = None
    side: int = TILE

    @classmethod
    def of(
        cls, config: "MaximizeConfig", objectives: "Sequence[Objective]", steps: list[int], size: tuple[int, int]
    ) -> "Layout":
        """A row of snapshots, of frames or of a batch, or a grid of units; enlarged for a single image.

        steps: numbers of steps after which images are shown. size: (height, width) of an image.
        """
        if len(objectives) * len(steps) == 1:
            return cls(config.zoom or max(1, -(-SINGLE // min(size))))
        frames = config.frames if config.interpolate else 0
        names = _labels(objectives, frames)
        if len(steps) > 1:
            names = [f"{name} step {step}".strip() for name in names for step in steps]
        columns = len(steps) if len(steps) > 1 else frames or (config.batch if config.batch > 1 else None)
        side = max(size) * config.zoom if config.zoom else TILE
        return cls(labels=names if any(names) else None, columns=columns, side=side)

    def require_room(self, output: Path | None, count: int, size: tuple[int, int]) -> None:
        """Raise UsageError where the drawing of `count` images would be too large for the file or for memory."""
        from mlcli.imaging import image_io
        from mlcli.reporting import canvas

        if self.zoom is not None:
            height, width = (side * self.zoom for side in size)
        else:
            lines = int(self.labels is not None)
            height, width = canvas.GridLayout(count, *size, self.columns, self.side, lines=lines).size
        image_io.require_room(output or Path("result.png"), height, width)

    def draw(self, made: "Maximized") -> "Tensor | Image.Image":
        """The drawing, in which the snapshots and the final image of an objective stand side by side."""
        import torch

        from mlcli.reporting import canvas

        if self.zoom is not None:
            return canvas.enlarged(made.images[0], self.zoom)
        tiles = torch.stack([*made.snapshots.values(), made.images], 1).flatten(0, 1).expand(-1, 3, -1, -1)
        return canvas.grid(tiles, self.labels, columns=self.columns, side=self.side)


def _labels(objectives: "Sequence[Objective]", frames: int) -> list[str]:
    """What tells the objectives apart: the position of a frame from 0 to 1, or the unit of a range."""
    if frames:
        return [f"{index / (frames - 1):.2f}" for index in range(frames)]
    shared = set.intersection(*({term.text for _, term in each.terms} for each in objectives))
    own = [[(factor, term) for factor, term in each.terms if term.text not in shared] for each in objectives]
    return ["-" * (terms[0][0] < 0) + terms[0][1].text if terms else "" for terms in own]
