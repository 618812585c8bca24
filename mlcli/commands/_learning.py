"""Options of the commands that train a network on images."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Argument(help="A folder with one folder of images for each class.", show_default=False)]
Model = Annotated[str, typer.Option("--model", help="cifarnet, or an architecture of torchvision or timm.")]
Size = Annotated[
    int | None,
    typer.Option("--size", min=8, help="Side in pixels; default that of the first image, within reason."),
]
Gray = Annotated[bool, typer.Option("--gray", help="One channel instead of three.")]
Epochs = Annotated[int, typer.Option("--epochs", min=1)]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Stop after so many steps, schedule included.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", min=0)]
Flip = Annotated[bool, typer.Option("--flip/--no-flip", help="Mirror images; off for digits and letters.")]
Shift = Annotated[int, typer.Option("--shift", min=0, help="Shift by up to so many pixels.")]
