"""`mlcli filters`"""

from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import say


def run(
    output: option.Image,
    model: option.Model = "cifarnet",
    weights: option.Weights = None,
    layer: option.Layer = "conv1",
    size: Annotated[int, typer.Option("--size", min=8, max=1024, help="Side of a tile in pixels.")] = 56,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Draw the kernels of a convolution.

    The first layer's kernels are drawn in color, edges by orientation before colors by hue, each scaled on its own
    and labeled with its unit. A deeper layer shows the kernel of one unit, as in --layer conv4:12 (default 0): a gray
    tile for each channel of its input, the strongest first.
    The default model is cifarnet: in 7x7 kernels edges and colors can be seen, in 3x3 ones hardly.
    """
    from mlcli.api.outputs import refuse_existing, write_beside
    from mlcli.errors import UsageError
    from mlcli.io import image_io
    from mlcli.methods.visualization import filter_images
    from mlcli.models import features, registry
    from mlcli.models.units import split_unit
    from mlcli.reporting import canvas

    refuse_existing(output, overwrite)
    image_io.output_format(output)
    address, unit = split_unit(layer)
    chosen = registry.load(model, weights)
    convolution = features.convolution(chosen, address)
    weight = convolution.module.weight.detach().float()
    if unit is not None and unit >= len(weight):
        raise UsageError(f"--layer {layer}: {convolution.address} has the units 0 to {len(weight) - 1}")
    if weight.shape[1] in (1, 3) and unit is None:
        drawn = filter_images.first_layer(weight)
    else:
        drawn = filter_images.one_unit(weight, unit or 0, convolution.module.groups)
    image = canvas.grid(drawn.tiles, [str(number) for number in drawn.numbers], side=size)
    image_io.write(image, output)
    structure = [round(share, 4) for share in filter_images.structure(weight).tolist()]
    options = {"model": model, "weights": weights, "layer": layer, "size": size}
    write_beside(output, "filters", options, chosen, address=convolution.address, structure=structure)
    of = "" if len(drawn.numbers) == len(weight) and unit is None else f", unit {unit or 0}"
    say(f"{output}: {len(drawn.numbers)} kernels of {convolution.address}{of}", quiet)
