"""The schedule of style transfer: from coarse to fine, by Adam or L-BFGS, with the average of the iterates.

Gatys et al. 2016 optimize one size by L-BFGS. Coarse sizes first let large forms of the style appear (Gatys et al.
2017, section 6). Adam keeps its moments, enlarged, from size to size, and the result is an exponential average of the
iterates, which takes the noise of its steps out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.errors import TrainingError, UsageError
from mlcli.io import image_io
from mlcli.methods.painting.configs import Stylize
from mlcli.methods.painting.style_losses import Losses, Objective, Perception, Style
from mlcli.models import features
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import rng

BETAS = (0.9, 0.99)
FIRST_STEP = 0.01  # of L-BFGS: how far it moves a value on average
HISTORY = 10  # steps that L-BFGS remembers, each two images large


class Progress(NamedTuple):
    step: int  # done, over all scales
    steps: int
    size: tuple[int, int]  # height and width at this scale
    losses: Losses  # before the step


@dataclass(frozen=True)
class Scale:
    long: int  # the long side of the image
    steps: int


def scales(config: Stylize) -> list[Scale]:
    """From coarse to fine. `config.scales`, or from `size` down to `smallest` by the factor between scales.

    `config.steps` are those of each scale; the last number holds for the rest.
    """
    sides = list(config.scales)
    if not sides:
        side = float(config.size)
        while round(side) >= min(config.smallest, config.size):
            sides.insert(0, round(side))
            side /= config.factor
    return [Scale(side, config.steps[min(i, len(config.steps) - 1)]) for i, side in enumerate(sides)]


class FeatureExtractor(NamedTuple):
    """A model and its layers, opened once for any number of images."""

    perception: Perception
    content_layers: dict[str, float]
    style_layers: dict[str, float]


def open_layers(model: Model, config: Stylize, runtime: Runtime) -> FeatureExtractor:
    """Resolve the layers of the config; where it names none, those of the convolutional stages.

    The network's padding, and its pooling if the config says so, are changed. Raises UsageError for an unknown layer or
    one whose units have no place in the image.
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
            raise UsageError(f"{name}: the units of this {layer.kind} have no place in the image; take a convolution")
    # Zeros around the image are gray of a hue of their own, which shows as a frame.
    features.convolution(model, stages[0].alias if stages else next(iter(layers))).module.padding_mode = "replicate"
    return FeatureExtractor(Perception(model, layers, runtime, config.tile), content, style)


def average_pooling(model: Model) -> None:
    """Have a network average where it takes maxima, for smoother images (Gatys et al. 2016, section 2).

    Raises UsageError where it has no layers that do.
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
    """One image on its way. `steps` goes on from where the state is."""

    def __init__(
        self,
        seer: FeatureExtractor,
        content: Tensor,
        styles: Sequence[Style],
        config: Stylize,
        start: Tensor | None = None,
    ):
        """content, start: (3, H, W) in [0, 1], on the device. start: what `init` "file" begins with."""
        self.seer, self.config, self.content, self.start = seer, config, content, start
        self.palette = content
        if config.keep_colors:
            styles = [replace(style, image=luminance_like(style.image, content)) for style in styles]
            self.content = image_io.to_gray(content).expand(3, -1, -1).contiguous()
        self.styles = styles
        self.scales = scales(config)
        self.scale, self.done = 0, 0  # the scale at work, the steps done in it
        self.image: Tensor | None = None
        self.average = Average(config.averaging)
        self.optimizer: torch.optim.Optimizer | None = None

    @property
    def total(self) -> int:
        return sum(scale.steps for scale in self.scales)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return size_at(self.content, self.scales[-1].long)

    def steps(self) -> Iterator[Progress]:
        """Optimize; yields after each step. Raises TrainingError where the loss is no longer a number."""
        before = sum(scale.steps for scale in self.scales[: self.scale])
        for index in range(self.scale, len(self.scales)):
            if index > self.scale or self.image is None:
                self._begin(index)
            objective = self._objective()
            while self.done < self.scales[index].steps:
                losses = self._step(objective)
                self.done += 1
                yield Progress(before + self.done, self.total, tuple(self.image.shape[1:]), losses)
            before += self.done

    def result(self) -> Tensor:
        """The image so far, (3, H, W) in [0, 1]."""
        if self.image is None:
            self._begin(0)
        image = self.average.value(self.image).clamp_(0, 1)
        if not self.config.keep_colors:
            return image
        return with_colors_of(image, resized(self.palette, tuple(image.shape[1:])))

    def _step(self, objective: Objective) -> Losses:
        losses = None
        # The loss is of means over pixels, so its derivative by one of them is tiny; L-BFGS takes small products of
        # gradients for noise, and its first step has the length of its rate in all, whatever the number of pixels.
        lbfgs = self.config.optimizer == "lbfgs"
        values = self.image.numel() if lbfgs else 1
        if lbfgs:
            self.optimizer.param_groups[0]["lr"] = FIRST_STEP * values if self.done == 0 else 1

        def evaluate() -> Tensor:
            nonlocal losses
            self.image.grad = None  # as large as the image: its room is for the next one's
            losses, gradient = objective(self.image)
            self.image.grad = gradient.mul_(values)
            return self.image.new_tensor(losses.total * values)

        self.optimizer.step(evaluate)
        if not math.isfinite(losses.total + self.image.detach().sum().item()):
            raise TrainingError(
                f"the loss is no longer a number at step {self.done + 1} of scale {self.scales[self.scale].long}; take "
                "a smaller --lr, --optimizer adam or --precision fp32"
            )
        with torch.no_grad():
            self.image.clamp_(0, 1)
        self.average.add(self.image)
        return losses

    def _begin(self, index: int) -> None:
        """Enter a scale: enlarge the image and what Adam remembers of its gradients."""
        size = size_at(self.content, self.scales[index].long)
        if self.image is None:
            image, moments = self._first(size), {}
        else:
            image = resized(self.average.value(self.image), size)
            moments = self.optimizer.state_dict()["state"].get(0, {}) if self.config.optimizer == "adam" else {}
        self.scale, self.done = index, 0
        self._hold(image)
        if moments:
            kept = {
                "step": moments["step"],
                "exp_avg": resized(moments["exp_avg"], size, low=None, high=None),
                # of squares, which bicubic overshoot would make negative
                "exp_avg_sq": resized(moments["exp_avg_sq"], size, high=None),
            }
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": {0: kept}})

    def _hold(self, image: Tensor) -> None:
        self.image = image.detach().clone().requires_grad_()
        self.average = Average(self.config.averaging)
        if self.config.optimizer == "adam":
            fused = image.device.type in ("cpu", "cuda")  # in one pass, without temporary images
            self.optimizer = torch.optim.Adam([self.image], lr=self.config.lr, betas=BETAS, fused=fused)
        else:
            # Both tolerances off, or it takes the small gradients of a mean over many pixels for the end. One
            # evaluation a step.
            self.optimizer = torch.optim.LBFGS(
                [self.image], max_iter=1, history_size=HISTORY, tolerance_grad=0, tolerance_change=0
            )

    def _first(self, size: tuple[int, int]) -> Tensor:
        if self.config.init == "noise":
            noise = torch.rand(3, *size, generator=rng(self.config.seed, "stylize/noise"))
            return noise.to(self.content.device)
        if self.config.init == "gray":
            return torch.full((3, *size), 0.5, device=self.content.device)
        if self.config.init == "style":
            return covering(self.styles[0].image, size)
        return resized(self.content, size) if self.start is None else covering(self.start, size)

    def _objective(self) -> Objective:
        config, seer = self.config, self.seer
        content = resized(self.content, tuple(self.image.shape[1:]))
        long = round(self.scales[self.scale].long * config.style_scale)
        # Never enlarged: what is blurred by that is no style.
        images = [resized(s.image, size_at(s.image, min(long, max(s.image.shape[1:])))) for s in self.styles]
        return Objective(
            seer.perception,
            content,
            [replace(style, image=image) for style, image in zip(self.styles, images, strict=True)],
            content_layers=seer.content_layers,
            style_layers=seer.style_layers,
            alpha=config.alpha,
            tv=config.tv,
            style_loss=config.style_loss,
        )

    # -- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, besides what the constructor was given."""
        return {
            "scale": self.scale,
            "done": self.done,
            "image": self.image.detach(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale, self.done = state["scale"], state["done"]
        self._hold(state["image"].to(self.content.device))
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


class Average:
    """Exponential average of the iterates, without the bias of its start."""

    def __init__(self, decay: float):
        self.decay, self.sum, self.weight = decay, None, 0.0

    def add(self, image: Tensor) -> None:
        if self.decay == 0:
            return
        image = image.detach()
        self.sum = torch.zeros_like(image) if self.sum is None else self.sum
        self.sum.lerp_(image, 1 - self.decay)
        self.weight = self.weight * self.decay + (1 - self.decay)

    def value(self, latest: Tensor) -> Tensor:
        return latest.detach() if self.sum is None else self.sum / self.weight

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self.sum, "weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sum, self.weight = state["sum"], state["weight"]


# -- images ------------------------------------------------------------------------------------------------


def size_at(image: Tensor, long: int) -> tuple[int, int]:
    """(height, width) of an image with its long side brought to `long`, the ratio kept."""
    height, width = image.shape[1:]
    factor = long / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resized(image: Tensor, size: tuple[int, int], low: float | None = 0, high: float | None = 1) -> Tensor:
    """(3, H, W) at another size, bicubic, antialiased, clamped."""
    if tuple(image.shape[1:]) == size:
        return image
    larger = F.interpolate(image[None].detach(), size, mode="bicubic", antialias=True)[0]
    return larger if low is None and high is None else larger.clamp(low, high)


def covering(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of an image that fills `size`, its ratio kept."""
    factor = max(size[0] / image.shape[1], size[1] / image.shape[2])
    height, width = (max(want, round(side * factor)) for want, side in zip(size, image.shape[1:], strict=True))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return resized(image, (height, width))[:, top : top + size[0], left : left + size[1]]


def luminance_like(image: Tensor, other: Tensor) -> Tensor:
    """An image (3, H, W) in gray, its luminance with the mean and deviation of another's (Gatys et al. 2017, 5.1)."""
    own, wanted = image_io.to_gray(image), image_io.to_gray(other)
    matched = (own - own.mean()) / own.std().clamp_min(1e-3) * wanted.std() + wanted.mean()
    return matched.clamp(0, 1).expand(3, -1, -1).contiguous()


def with_colors_of(image: Tensor, other: Tensor) -> Tensor:
    """The luminance of an image (3, H, W) with the chroma (I and Q of YIQ) of another of its size."""
    return (other + image_io.to_gray(image) - image_io.to_gray(other)).clamp(0, 1)
