"""`mlcli.filters`: the kernels of a convolution."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.image_result import ImageResult, image_output, require_writable
from mlcli.errors import UsageError
from mlcli.options import NETWORK, OUTPUT, option, same

if TYPE_CHECKING:
    from PIL import Image

    from mlcli.methods.visualization.filter_images import Kernels


@dataclass(frozen=True, kw_only=True)
class FiltersConfig(common.UsesModel):
    output: Path | None = image_output()
    model: str = same(common.UsesModel, "model", default="cifarnet")
    layer: str = option(
        "conv1",
        "Layer, or a unit of it as in conv4:12; `mlcli layers` lists the layers.",
        panel=NETWORK,
        completes="layer",
    )
    size: int = option(56, "Side of a tile in pixels.", minimum=8, maximum=1024, panel=OUTPUT)
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class FilterSheet(ImageResult):
    """A sheet of kernels. address: of the convolution.  units: number of each kernel on the sheet.  of: kernels in all.

    unit: whose input channels are shown, or None for the kernels of all units.
    """

    address: str
    units: tuple[int, ...]
    of: int
    unit: int | None


@function(FiltersConfig)
def filters(call: Call[FiltersConfig]) -> FilterSheet:
    """Draw the kernels of a convolution.

    The kernels of the first layer are drawn in color, each scaled on its own, edges by orientation before colors by
    hue. Of a unit of a deeper layer (conv4:12; default unit 0) each input channel is a gray tile, the strongest first.

        >>> import mlcli
        >>> sheet = mlcli.filters()
        >>> sheet.image.size
        (502, 817)

    Raises UsageError for a layer or a unit that is not there, and for an `output` that exists.
    """
    from torch import nn

    from mlcli.api.layer_names import addresses
    from mlcli.api.outputs import record
    from mlcli.methods.visualization import filter_images
    from mlcli.models import registry
    from mlcli.models.structure import features
    from mlcli.models.structure.units import split_unit

    config = call.config
    require_writable(config.output, overwrite=config.overwrite)
    address, unit = split_unit(config.layer)
    model = registry.load(config.model, config.weights)
    convolution = features.convolution(model, address)
    addresses(model, [address], features.convolution)
    kernels = convolution.module
    assert isinstance(kernels, nn.Conv2d)
    weight = kernels.weight.detach().float()
    if unit is not None and unit >= len(weight):
        raise UsageError(f"--layer {config.layer}: {convolution.address} has the units 0 to {len(weight) - 1}")
    in_color = weight.shape[1] in (1, 3) and unit is None
    if in_color:
        drawn = filter_images.first_layer(weight)
    else:
        unit = unit or 0
        drawn = filter_images.one_unit(weight, unit, kernels.groups)
    image = _with_scales(drawn, weight.shape[1] if in_color else 0, config.size)
    structure = [round(fraction, 4) for fraction in filter_images.structure(weight).tolist()]
    options = {name: config.as_json()[name] for name in ("model", "weights", "layer", "size")}
    told = record("filters", options, model, address=convolution.address, structure=structure, scales=drawn.scales)
    return FilterSheet.written(
        image,
        told,
        config.output,
        address=convolution.address,
        units=tuple(drawn.numbers),
        of=len(weight),
        unit=None if in_color else unit,
    )


def _with_scales(drawn: "Kernels", channels: int, size: int) -> "Image.Image":
    """The kernels with their numbers, and what black, gray and white stand for.

    channels: 1 or 3 where each kernel has a scale of its own; 0 for one scale of all.
    """
    from mlcli.reporting import canvas, legend

    if not channels:
        grid = canvas.grid(drawn.tiles, [str(number) for number in drawn.numbers], side=size)
        most = f"{drawn.scales[0]:.3g}"
        return legend.with_gray_scale(grid, f"\N{MINUS SIGN}{most}", "0", f"+{most}", "One scale for all kernels.")
    labels = [f"{number}\n±{scale:.2g}" for number, scale in zip(drawn.numbers, drawn.scales, strict=True)]
    grid = canvas.grid(drawn.tiles, labels, side=size)
    note = "Each kernel has its own scale, from minus to plus the largest of its weights, w, which is below it"
    note += "; red, green and blue are scaled alike." if channels == 3 else "."
    return legend.with_gray_scale(grid, "\N{MINUS SIGN}w", "0", "+w", note)
