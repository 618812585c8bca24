"""The inversion of layers, for `mlcli.maximize` with `invert`: what is left of an image at each of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mlcli.api import inputs
from mlcli.api.events import Progress
from mlcli.api.image_result import ImageResult
from mlcli.errors import UsageError
from mlcli.methods.visualization.configs import Inversion

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from mlcli.api.maximize import MaximizeConfig
    from mlcli.methods.visualization.inversion import Inverted
    from mlcli.models.model import Model

# What an inversion has not, by the value that stands for "not given"
FOREIGN = {"init": "noise", "batch": 1, "frames": 7}
FOREIGN |= dict.fromkeys(("octaves", "snapshots", "jitter", "scale", "rotation", "spectrum", "classes", "batch_size"))
SHEET_SIDE = 224  # pixels, at least, of each image of a sheet


@dataclass(frozen=True)
class InvertedLayer:
    """What is left of an image at a layer.

    image: whose values at the layer are those of the given image. layer: its address as given. psnr: of `image` beside
    the given one, in dB. error: squared distance of the values at the layer, relative to the square of those wanted.
    """

    image: "Image.Image"
    layer: str
    psnr: float
    error: float

    def as_json(self) -> dict[str, Any]:
        return {"layer": self.layer, "psnr": self.psnr, "error": self.error}


@dataclass(frozen=True)
class InvertedImages(ImageResult):
    """image: a sheet of the given image and those of the layers.  layers: each by itself, in the order given."""

    layers: tuple[InvertedLayer, ...]


def inverted(config: "MaximizeConfig") -> InvertedImages:
    """The inversion of each layer that `config` names, in one sheet. Raises UsageError for options that do not go with
    it, and for layers that the model does not have."""
    from mlcli.api import layer_names
    from mlcli.api.outputs import determining, record
    from mlcli.imaging import image_io
    from mlcli.methods.visualization import inversion
    from mlcli.models import registry
    from mlcli.reporting import canvas
    from mlcli.runtime.device import Runtime

    _require_fitting(config)
    runtime = Runtime.choose(config.device, config.precision).for_training()
    if config.precision == "auto":
        runtime = replace(runtime, precision="fp32")  # rounding to bf16 is noise in what a layer is left with
    model = registry.load(config.model, config.weights).to(runtime)
    layers = _layers(config, model)
    addresses = layer_names.addresses(model, layers)
    image = _prepared(config, model)
    hyperparameters = _hyperparameters(config)
    height, width = image.shape[1:]
    side = max(height, width)
    zoom = config.zoom or max(1, -(-SHEET_SIDE // side))
    layout = canvas.GridLayout(len(layers) + 1, height, width, _columns(len(layers)), side * zoom, lines=2)
    image_io.require_room(config.output or "result.png", *layout.size)
    found: list[Inverted] = []
    with Progress(len(layers) * hyperparameters.steps, "invert") as bar:
        for name in layers:
            start = len(found) * hyperparameters.steps

            def on_step(done: int, value: float, start: int = start, name: str = name) -> None:
                bar.to(start + done, f"{name}: objective {value:.4g}")

            found.append(inversion.invert(model, name, image, hyperparameters, runtime, on_step=on_step))
    made = tuple(
        InvertedLayer(image_io.to_pillow(each.image), name, each.psnr, each.error)
        for name, each in zip(layers, found, strict=True)
    )
    sheet = _sheet(image, found, made, side * zoom)
    options = determining(config, layer=layers, size=side, precision=runtime.precision, **asdict(hyperparameters))
    described = [each.as_json() for each in made]
    written = record("maximize", options, model, addresses=addresses, layers=described)
    return InvertedImages.written(sheet, written, config.output, layers=made)


def _require_fitting(config: "MaximizeConfig") -> None:
    """Raise UsageError for options that an inversion has not."""
    if config.param == "maco":
        raise UsageError("--param maco: has no effect with --invert; take fourier or pixel")
    for name, absent in FOREIGN.items():
        value = getattr(config, name)
        if not (isinstance(value, type(absent)) and value == absent):
            raise UsageError(f"--{name.replace('_', '-')}: has no effect with --invert; leave it out")


def _layers(config: "MaximizeConfig", model: "Model") -> list[str]:
    """The layers as given, in commas or one by one; without any, the stages. Raises UsageError for unknown ones."""
    from mlcli.models.structure import features

    given = [name.strip() for each in inputs.listed(config.layer or ()) for name in each.split(",") if name.strip()]
    layers = list(dict.fromkeys(given)) or [layer.alias for layer in features.layers(model) if layer.alias]
    if not layers:
        raise UsageError(f"--model {model.name}: has no convolutional stages; name a layer with --layer")
    for name in layers:
        features.resolve(model, name)
    return layers


def _prepared(config: "MaximizeConfig", model: "Model") -> "Tensor":
    """The image (C, H, W) uint8 as the network takes it, or the central square of it resized to `size`."""
    from mlcli.imaging import image_io

    image = image_io.read(inputs.one_image(config.invert))
    if config.size is None:
        return image_io.to_bytes(model.preprocessing.prepare(image))
    square = image_io.to_bytes(image_io.fit(image, config.size))
    return image_io.to_gray(square) if model.preprocessing.channels == 1 else square


def _hyperparameters(config: "MaximizeConfig") -> Inversion:
    given = {name: value for name in ("steps", "lr") if (value := getattr(config, name)) is not None}
    return replace(Inversion(), param=config.param, seed=config.seed, **given)


def _sheet(image: "Tensor", found: "Sequence[Inverted]", made: Sequence[InvertedLayer], side: int) -> "Image.Image":
    """The given image and what is left of it at each layer, with labels."""
    import torch

    from mlcli.reporting import canvas

    tiles = torch.stack([image, *(each.image for each in found)]).expand(-1, 3, -1, -1)
    labels = ["image\n", *(f"{each.layer}\n{each.psnr:.1f} dB" for each in made)]
    return canvas.grid(tiles, labels, columns=_columns(len(made)), side=side)


def _columns(layers: int) -> int | None:
    """The tiles of a row: all of few, with the given image before them."""
    return layers + 1 if layers < 6 else None
