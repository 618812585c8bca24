"""`mlcli filters`"""

from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import say


def run(
    output: option.Picture,
    model: option.Model = "cifarnet",
    weights: option.Weights = None,
    layer: option.Layer = "conv1",
    unit: Annotated[int, typer.Option("--unit", min=0, help="Which unit's kernel, in layers after the first.")] = 0,
    side: Annotated[int, typer.Option("--size", min=8, max=1024, help="Side of a tile in pixels.")] = 56,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Draw the kernels of a convolution.

    The first layer's kernels are drawn in colour, edges by orientation before colours by hue, each scaled on its own
    and labelled with its unit. A deeper layer shows the kernel of one --unit, a gray tile for each channel of its
    input, the strongest first.
    """
    from mlcli.commands._result import refuse_existing, write_beside
    from mlcli.engine import canvas, features, images, models
    from mlcli.errors import UsageError
    from mlcli.methods import kernels

    refuse_existing(output, overwrite)
    images.output_format(output)
    chosen = models.load(model, weights)
    convolution = features.convolution(chosen, layer)
    weight = convolution.module.weight.detach().float()
    if weight.shape[-2:] == (1, 1) and weight.shape[1] > 3:
        say(f"{convolution.address}: its kernels are 1x1; each tile is one weight", quiet)
    if weight.shape[1] in (1, 3):
        drawn = kernels.first_layer(weight)
    elif unit < len(weight):
        drawn = kernels.one_unit(weight, unit)
    else:
        raise UsageError(f"--unit {unit}: {convolution.address} has the units 0 to {len(weight) - 1}")
    images.write(canvas.grid(drawn.tiles, [str(number) for number in drawn.numbers], side=side), output)
    write_beside(output, "filters", {"model": model, "layer": layer, "unit": unit, "size": side}, chosen)
    say(f"{output}: {len(drawn.numbers)} kernels of {convolution.address}", quiet)
