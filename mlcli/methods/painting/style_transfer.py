"""The schedule of style transfer: from coarse to fine, by Adam or L-BFGS, with an average of the iterates.

Gatys et al. 2016 optimize a single size by L-BFGS. Beginning with coarse sizes lets large forms of the style appear
(Gatys et al. 2017, section 6). Adam keeps its moments from size to size, enlarged. The result is an exponential moving
average of the iterates, which removes the noise of its steps.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.errors import TrainingError, UsageError
from mlcli.imaging import image_io
from mlcli.methods.painting.configs import Stylize
from mlcli.methods.painting.style_losses import Losses, Objective, Perception, Style
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import LBFGS, Adam

BETAS = (0.9, 0.99)
FIRST_STEP = 0.01  # mean absolute change of a value in the first step of L-BFGS
HISTORY = 10  # steps that L-BFGS stores, each of the size of two images


class Progress(NamedTuple):
    """The state after a step."""

    step: int  # steps done, over all scales
    steps: int  # steps of all scales
    size: tuple[int, int]  # height and width at this scale
    losses: Losses  # before the step


@dataclass(frozen=True)
class Scale:
    """One size of the schedule."""

    long: int  # longer side of the image in pixels
    steps: int


def scales(config: Stylize) -> list[Scale]:
    """The scales from coarse to fine: `config.scales`, or from `size` down to `smallest` by the factor between scales.

    `config.steps` holds the number of steps of each scale; its last entry holds for all further scales.
    """
    sides = list(config.scales)
    if not sides:
        side = float(config.size)
        while round(side) >= min(config.smallest, config.size):
            sides.insert(0, round(side))
            side /= config.factor
    return [Scale(side, config.steps[min(i, len(config.steps) - 1)]) for i, side in enumerate(sides)]


class FeatureExtractor(NamedTuple):
    """A network with its content and style layers, opened once for any number of images."""

    perception: Perception
    content_layers: dict[str, float]
    style_layers: dict[str, float]


def open_layers(model: Model, config: Stylize, runtime: Runtime) -> FeatureExtractor:
    """Resolve the layers of the config; where it names none, the convolutional stages.

    Changes the padding of the network, and its pooling if the config says so. Raises UsageError for an unknown layer
    and for one that is not a map.
    """
    if config.pooling == "average":
        average_pooling(model)
    stages = [layer for layer in features.layers(model) if layer.alias and layer.is_map]
    style = dict(config.style_layers) or {layer.alias: 1.0 for layer in stages}
    content = dict(config.content_layers) or {layer.alias: 1.0 for layer in stages[-2:][:1]}
    if not (style and content):
        raise UsageError(f"{model.name}: has no convolutional stages; name a --content-layer and a --style-layer")
    layers = {name: features.resolve(model, name) for name in (*content, *style)}
    for name, layer in layers.items():
        if not layer.is_map:
            raise UsageError(
                f"{name}: the units of this {layer.kind} have no position in the image; take a convolution"
            )
    # Zero padding is a gray of its own hue, which would show as a frame.
    first = features.convolution(model, stages[0].alias if stages else next(iter(layers))).module
    assert isinstance(first, nn.Conv2d)
    first.padding_mode = "replicate"
    return FeatureExtractor(Perception(model, layers, runtime, config.tile), content, style)


def average_pooling(model: Model) -> None:
    """Replace max pooling with average pooling, for smoother images (Gatys et al. 2016, section 2).

    Raises UsageError for a network without max pooling.
    """
    parents = [
        (parent, name, child)
        for parent in model.network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.MaxPool2d)
    ]
    if not parents:
        raise UsageError(f"--pooling average: {model.name} has no max pooling")
    for parent, name, child in parents:
        window = child.kernel_size, child.stride, child.padding, child.ceil_mode
        setattr(parent, name, nn.AvgPool2d(*window, count_include_pad=False))


class Stylization:
    """The style transfer of one image. `steps` resumes from the current state."""

    def __init__(
        self,
        extractor: FeatureExtractor,
        content: Tensor,
        styles: Sequence[Style],
        config: Stylize,
        start: Tensor | None = None,
    ):
        """content, start: (3, H, W) in [0, 1], on the device. start: initial image if `init` is "file"."""
        self.extractor, self.config, self.content, self.start = extractor, config, content, start
        self.color_source = content
        if config.keep_colors:
            styles = [replace(style, image=luminance_like(style.image, content)) for style in styles]
            self.content = image_io.to_gray(content).expand(3, -1, -1).contiguous()
        self.styles = styles
        self.scales = scales(config)
        self.scale, self.done = 0, 0  # index of the current scale, and the steps done in it
        self._image: Tensor | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self.ema = EMA(config.averaging)

    @property
    def image(self) -> Tensor:
        """The current iterate (3, H, W), once the first scale has begun."""
        assert self._image is not None
        return self._image

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the current scale, once the first scale has begun."""
        assert self._optimizer is not None
        return self._optimizer

    @property
    def total(self) -> int:
        """Number of steps of all scales."""
        return sum(scale.steps for scale in self.scales)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return size_at(self.content, self.scales[-1].long)

    def steps(self) -> Iterator[Progress]:
        """Optimize the image; yields after each step. Raises TrainingError if the loss or the image is not finite."""
        before = sum(scale.steps for scale in self.scales[: self.scale])
        for index in range(self.scale, len(self.scales)):
            if index > self.scale or self._image is None:
                self._begin(index)
            objective = self._objective()
            while self.done < self.scales[index].steps:
                losses = self._step(objective)
                self.done += 1
                yield Progress(before + self.done, self.total, size_of(self.image), losses)
            before += self.done

    def result(self) -> Tensor:
        """The image so far, (3, H, W) in [0, 1]."""
        if self._image is None:
            self._begin(0)
        image = self.ema.value(self.image).clamp_(0, 1)
        if not self.config.keep_colors:
            return image
        return with_colors_of(image, resized(self.color_source, size_of(image)))

    def _step(self, objective: Objective) -> Losses:
        """Take one step. Returns the losses before it."""
        losses: list[Losses] = []
        # The loss is a mean over pixels, so its derivatives are tiny, and L-BFGS ignores tiny products of gradients.
        # Its first step has a total length of its learning rate, whatever the number of pixels. So both are scaled.
        lbfgs = self.config.optimizer == "lbfgs"
        factor = self.image.numel() if lbfgs else 1
        if lbfgs:
            self.optimizer.param_groups[0]["lr"] = FIRST_STEP * factor if self.done == 0 else 1

        def evaluate() -> float:
            self.image.grad = None  # frees the memory of one image for the next gradient
            found, gradient = objective(self.image)
            losses.append(found)
            self.image.grad = gradient.mul_(factor)
            return self.image.new_tensor(found.total * factor)  # type: ignore[return-value]  # LBFGS takes a tensor

        self.optimizer.step(evaluate)
        if not math.isfinite(losses[-1].total + self.image.detach().sum().item()):
            raise TrainingError(
                f"the loss is not finite at step {self.done + 1} of scale {self.scales[self.scale].long}; take "
                "a smaller --lr, --optimizer adam or --precision fp32"
            )
        with torch.no_grad():
            self.image.clamp_(0, 1)
        self.ema.add(self.image)
        return losses[-1]

    def _begin(self, index: int) -> None:
        """Begin a scale: enlarge the image and Adam's moments of its gradients."""
        size = size_at(self.content, self.scales[index].long)
        moments: dict[str, Any] = {}
        if self._image is None:
            image = self._initial_image(size)
        else:
            image = resized(self.ema.value(self.image), size)
            if self.config.optimizer == "adam":
                moments = self.optimizer.state_dict()["state"].get(0, {})
        self.scale, self.done = index, 0
        self._set_image(image)
        if moments:
            kept = {
                "step": moments["step"],
                "exp_avg": resized(moments["exp_avg"], size, low=None, high=None),
                # clamped at zero, since bicubic interpolation may overshoot
                "exp_avg_sq": resized(moments["exp_avg_sq"], size, high=None),
            }
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": {0: kept}})

    def _set_image(self, image: Tensor) -> None:
        """Optimize this image from now on, with a new optimizer and a new average."""
        self._image = image.detach().clone().requires_grad_()
        self.ema = EMA(self.config.averaging)
        if self.config.optimizer == "adam":
            fused = image.device.type in ("cpu", "cuda")  # in one pass, without temporary images
            self._optimizer = Adam([self.image], lr=self.config.lr, betas=BETAS, fused=fused)
        else:
            # One evaluation a step. Without both tolerances, since the gradients of a mean over many pixels are small
            # enough to count as convergence.
            self._optimizer = LBFGS(
                [self.image], max_iter=1, history_size=HISTORY, tolerance_grad=0, tolerance_change=0
            )

    def _initial_image(self, size: tuple[int, int]) -> Tensor:
        if self.config.init == "noise":
            noise = torch.rand(3, *size, generator=rng(self.config.seed, "stylize/noise"))
            return noise.to(self.content.device)
        if self.config.init == "gray":
            return torch.full((3, *size), 0.5, device=self.content.device)
        if self.config.init == "style":
            return covering(self.styles[0].image, size)
        return resized(self.content, size) if self.start is None else covering(self.start, size)

    def _objective(self) -> Objective:
        config, extractor = self.config, self.extractor
        content = resized(self.content, size_of(self.image))
        long = round(self.scales[self.scale].long * config.style_scale)
        # A style image is never enlarged, since blur would become a part of the style.
        images = [resized(s.image, size_at(s.image, min(long, max(s.image.shape[1:])))) for s in self.styles]
        return Objective(
            extractor.perception,
            content,
            [replace(style, image=image) for style, image in zip(self.styles, images, strict=True)],
            content_layers=extractor.content_layers,
            style_layers=extractor.style_layers,
            alpha=config.alpha,
            tv=config.tv,
            style_loss=config.style_loss,
        )

    # -- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on besides the arguments of the constructor."""
        return {
            "scale": self.scale,
            "done": self.done,
            "image": self.image.detach(),
            "average": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        self.scale, self.done = state["scale"], state["done"]
        self._set_image(state["image"].to(self.content.device))
        self.ema.load_state_dict(state["average"], self.content.device)
        self.optimizer.load_state_dict(state["optimizer"])


class EMA:
    """Exponential moving average of the iterates, without the bias of its start."""

    def __init__(self, decay: float):
        self.decay, self.weight = decay, 0.0
        self.sum: Tensor | None = None

    def add(self, image: Tensor) -> None:
        """Add an iterate."""
        if self.decay == 0:
            return
        image = image.detach()
        self.sum = torch.zeros_like(image) if self.sum is None else self.sum
        self.sum.lerp_(image, 1 - self.decay)
        self.weight = self.weight * self.decay + (1 - self.decay)

    def value(self, latest: Tensor) -> Tensor:
        """The average; the latest iterate if none was added."""
        return latest.detach() if self.sum is None else self.sum / self.weight

    def state_dict(self) -> dict[str, Any]:
        """The state of the average."""
        return {"sum": self.sum, "weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Resume on this device from what `state_dict` returned."""
        self.sum, self.weight = None if state["sum"] is None else state["sum"].to(device), state["weight"]


# -- images ------------------------------------------------------------------------------------------------


def size_of(image: Tensor) -> tuple[int, int]:
    """(height, width) of an image (3, H, W)."""
    return image.shape[1], image.shape[2]


def size_at(image: Tensor, long: int) -> tuple[int, int]:
    """(height, width) of an image that is scaled to a longer side of `long` pixels."""
    height, width = image.shape[1:]
    factor = long / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resized(image: Tensor, size: tuple[int, int], low: float | None = 0, high: float | None = 1) -> Tensor:
    """An image (3, H, W) at another size (height, width), bicubic with antialiasing, clamped to [low, high]."""
    if size_of(image) == size:
        return image
    scaled = F.interpolate(image[None].detach(), size, mode="bicubic", antialias=True)[0]
    return scaled if low is None and high is None else scaled.clamp(low, high)


def covering(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (3, H, W) scaled to cover `size` (height, width), and cropped at the center."""
    factor = max(size[0] / image.shape[1], size[1] / image.shape[2])
    height, width = (max(least, round(side * factor)) for least, side in zip(size, image.shape[1:], strict=True))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return resized(image, (height, width))[:, top : top + size[0], left : left + size[1]]


def luminance_like(image: Tensor, other: Tensor) -> Tensor:
    """An image (3, H, W) in gray, whose luminance gets the mean and standard deviation of another image's.

    (Gatys et al. 2017, section 5.1.)
    """
    own, target = image_io.to_gray(image), image_io.to_gray(other)
    matched = (own - own.mean()) / own.std().clamp_min(1e-3) * target.std() + target.mean()
    return matched.clamp(0, 1).expand(3, -1, -1).contiguous()


def with_colors_of(image: Tensor, other: Tensor) -> Tensor:
    """The luminance of an image (3, H, W) with the chroma (I and Q of YIQ) of another image of the same size."""
    return (other + image_io.to_gray(image) - image_io.to_gray(other)).clamp(0, 1)
