"""The losses of style transfer (Gatys, Ecker and Bethge 2016) and their gradient for an image of any size.

    L = alpha * content + (1 - alpha) * style + tv * variation

F^l (C, M) are the activations of layer l for the generated image, C channels at M positions; P^l are those of the
content image. All terms except the total variation are relative: 0 for equal features, and 1 where the generated ones
are zero. The paper instead scales the channels of its network to a mean of one, which makes its layers comparable.
Relative terms are comparable for any network.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.errors import UsageError, reason
from mlcli.imaging import image_io
from mlcli.methods.painting.tiles import Tile, tiles
from mlcli.models.model import Model
from mlcli.models.structure.features import Activations
from mlcli.models.structure.graph import Layer
from mlcli.runtime.device import Runtime, trim_memory

Name = TypeVar("Name", str, int)

# -- statistics of a layer -----------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Sums over the positions of a layer, so that those of tiles add up to those of the image."""

    total: Tensor  # (), number of positions, or sum of their weights
    first: Tensor  # (C,)
    second: Tensor  # (C, C)

    def plus(self, other: "Moments") -> "Moments":
        """The moments of both sets of positions together."""
        return Moments(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def mean(self) -> Tensor:
        """Mean of each channel, (C,)."""
        return self.first / self.total

    @property
    def gram(self) -> Tensor:
        """Gram matrix G = F F^T / M, (C, C)."""
        return self.second / self.total

    @property
    def covariance(self) -> Tensor:
        """Covariance of the channels, (C, C)."""
        return self.gram - torch.outer(self.mean, self.mean)


def moments(maps: Tensor, weights: Tensor | None = None) -> Moments:
    """The moments in float32 of maps (C, h, w). weights: (h, w) in [0, 1], the weight of each position."""
    values = maps.permute(1, 2, 0).flatten(0, 1)  # (M, C), without a copy if the maps are channels_last
    if weights is None:
        count = values.new_tensor(len(values), dtype=torch.float32)
        return Moments(count, values.sum(0, dtype=torch.float32), _Products.apply(values, None))
    weights = weights.flatten()[:, None]
    return Moments(weights.sum(), (weights * values).sum(0), _Products.apply(values, weights))


class _Products(torch.autograd.Function):
    """Sum over the rows of `weights * values values^T`, (M, C) -> (C, C), in float32.

    Written by hand for two savings over autograd: the gradient takes one product instead of two, since the result is
    symmetric, and the saved tensors keep their precision.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weights)
        floats = values.float()
        return floats.T @ (floats if weights is None else weights * floats)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        values, weights = ctx.saved_tensors
        floats = values.float() @ (gradient + gradient.T)
        return (floats if weights is None else weights * floats).to(values.dtype), None


RIDGE = 1e-4  # added to the diagonal of covariances, relative to the mean variance of the channels

# -- losses --------------------------------------------------------------------------------------------------


def gram_loss(target: Moments) -> Callable[[Moments], Tensor]:
    """|G - A|^2 / |A|^2, with A the Gram matrix of the style (Gatys et al. 2016, equation 4, here relative)."""
    style = target.gram
    scale = style.square().sum().clamp_min(1e-12)
    return lambda found: (found.gram - style).square().sum() / scale


def gaussian_loss(target: Moments) -> Callable[[Moments], Tensor]:
    """The squared Wasserstein distance of two normal distributions with the means and covariances of the layers.

    |m - n|^2 + tr(C + D - 2 (D^1/2 C D^1/2)^1/2), relative to |n|^2 + tr D, with n and D of the style (Olkin and
    Pukelsheim 1982). A Gram matrix mixes mean and covariance, so it can confuse a bright texture with a rough one. This
    loss tells them apart.
    """
    # On the CPU, since some devices have no float64. Both covariances get a ridge: the square root is steep near zero.
    mean, covariance = target.mean, target.covariance.cpu().double()
    ridge = RIDGE * covariance.diagonal().mean()
    covariance = covariance + ridge * torch.eye(len(covariance), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    trace = covariance.trace()
    scale = (mean.square().sum().double().cpu() + trace).clamp_min(1e-12)

    def loss(found: Moments) -> Tensor:
        own = found.covariance.cpu().double() + ridge * torch.eye(len(root), dtype=torch.float64)
        cross = torch.linalg.eigvalsh(root @ own @ root).clamp_min(1e-20).sqrt().sum()
        distance = (found.mean - mean).square().sum().cpu() + own.trace() + trace - 2 * cross
        return (distance / scale).to(mean)

    return loss


STYLE_LOSSES = {"gram": gram_loss, "gaussian": gaussian_loss}


def variation(image: Tensor, tile: Tile) -> Tensor:
    """Sum of the squared differences of the tile's own pixels to their right and lower neighbors.

    image: (3, h, w) in [0, 1], the tile with its context.
    """
    down, right = image.diff(dim=1).square(), image.diff(dim=2).square()
    # At the end of the image there is one difference less than there are pixels; the slices end there anyway.
    return tile.own(down).sum() + tile.own(right).sum()


# -- the objective -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """A style image.

    image: (3, H, W) in [0, 1], at the size at which it is used. weight: weight in the style loss, relative to other
    styles. mask: (H', W') in [0, 1], the positions of the content that get this style; None for all.
    """

    image: Tensor
    weight: float = 1.0
    mask: Tensor | None = None


class Losses(NamedTuple):
    """The total loss and its terms without their weights."""

    total: float
    content: float
    style: float
    variation: float


class Perception:
    """The feature maps of the content and style layers for images of any size, tile by tile."""

    def __init__(self, model: Model, layers: Mapping[str, Layer], runtime: Runtime, tile: int):
        self.model, self.layers, self.runtime, self.tile = model, layers, runtime, tile
        self.strides = {name: max(1, round(layer.stride)) for name, layer in layers.items()}
        self.activations = Activations(model, list(layers))

    def tiles(self, image: Tensor) -> list[Tile]:
        """The tiles of an image (..., H, W)."""
        return tiles(image.shape[-2], image.shape[-1], list(self.layers.values()), self.tile)

    def maps(self, image: Tensor, tile: Tile) -> dict[str, Tensor]:
        """The tile's own maps (C, h, w) by layer. image: (3, H, W) in [0, 1], the tile with its context."""
        if self.model.preprocessing.channels == 1:
            image = image_io.to_gray(image)
        try:
            with self.runtime.autocast():
                found = self.activations(image[None])
        except (RuntimeError, AssertionError, ValueError) as error:
            size = f"{image.shape[2]} x {image.shape[1]} pixels"
            if not isinstance(error, RuntimeError):  # raised by networks that take images of some sizes alone
                raise UsageError(
                    f"{self.model.name} does not take an image, or a tile, of {size} ({reason(error)}); take another "
                    "model, such as cifarnet"
                ) from None
            if min(image.shape[1:]) < 64:
                raise UsageError(
                    f"an image of {size} is too small for the layers {', '.join(self.layers)} of {self.model.name} "
                    f"({reason(error)}); take a larger one, a larger --size or earlier layers"
                ) from None
            raise
        return {name: tile.own(maps.squeeze(0), self.strides[name]) for name, maps in found.items()}

    def moments(self, image: Tensor, names: Sequence[str]) -> dict[str, Moments]:
        """The moments of the layers over a whole image (3, H, W)."""
        total: dict[str, Moments] = {}
        with torch.no_grad():
            for tile in self.tiles(image):
                maps = self.maps(tile.with_context(image), tile)
                for name in names:
                    found = moments(maps[name])
                    total[name] = total[name].plus(found) if name in total else found
        return total


class Objective:
    """The loss and its gradient for images of one size (3, H, W).

    The targets are computed once. An image larger than a tile is processed tile by tile. A first pass without gradients
    sums the statistics of the whole image. A second pass propagates the derivative of the loss with respect to these
    statistics back through one tile after the other. This gives the gradient of the whole image in the memory of one
    tile.
    """

    def __init__(
        self,
        perception: Perception,
        content: Tensor,
        styles: Sequence[Style],
        *,
        content_layers: Mapping[str, float],
        style_layers: Mapping[str, float],
        alpha: float,
        tv: float,
        style_loss: str = "gram",
    ):
        """content: (3, H, W) in [0, 1]. content_layers, style_layers: weight of each layer.

        The weights of layers and of styles are normalized to a sum of one. alpha: weight of the content loss. tv:
        weight of the total variation. style_loss: a key of STYLE_LOSSES.
        """
        self.perception, self.alpha, self.tv = perception, alpha, tv
        self.content_layers, self.style_layers = _fractions(content_layers), _fractions(style_layers)
        self.tiles = perception.tiles(content)
        self.values = content.numel()
        self.targets: list[dict[str, Tensor]] = []
        sizes = []
        with torch.no_grad():
            for tile in self.tiles:
                maps = perception.maps(tile.with_context(content), tile)
                self.targets.append({name: maps[name].clone() for name in self.content_layers})
                sizes.append({name: maps[name].shape[1:] for name in self.style_layers})
        energy = {n: _sum(_square_sum(t[n]) for t in self.targets).clamp_min(1e-12) for n in self.content_layers}
        self.content_scale = {name: weight / energy[name] for name, weight in self.content_layers.items()}
        self.style_weights = list(_fractions(dict(enumerate(style.weight for style in styles))).values())
        self.masks = [None if s.mask is None else self._weights(s.mask, content, sizes) for s in styles]
        self.style_losses = []
        for number, style in enumerate(styles, 1):
            try:
                found = perception.moments(style.image, list(self.style_layers))
            except UsageError as error:
                raise UsageError(f"style {number}: {error}") from None
            self.style_losses.append({name: STYLE_LOSSES[style_loss](found[name]) for name in self.style_layers})

    def __call__(self, image: Tensor) -> tuple[Losses, Tensor]:
        """(losses, gradient (3, H, W)) at an image (3, H, W) in [0, 1]."""
        image = image.detach()
        if len(self.tiles) == 1:
            leaf = image.clone().requires_grad_()
            found, content, variation = self._terms(leaf, 0)
            style = self._style(found)
            (self.alpha * content + (1 - self.alpha) * style + self.tv * variation).backward()
            return self._losses(content, style, variation), _gradient(leaf)
        with torch.no_grad():
            passes = [self._terms(tile.with_context(image), number)[0] for number, tile in enumerate(self.tiles)]
        whole = [
            {
                name: _leaves(functools.reduce(Moments.plus, (found[name] for found in of_style)))
                for name in self.style_layers
            }
            for of_style in zip(*passes, strict=True)
        ]
        style = self._style(whole)
        sums = [part for moments in whole for name in self.style_layers for part in moments[name]]
        slopes = torch.autograd.grad(style, sums, allow_unused=True)
        gradient = torch.zeros_like(image)
        content = variation = torch.zeros((), device=image.device)
        for number, tile in enumerate(self.tiles):
            leaf = tile.with_context(image).clone().requires_grad_()
            found, own_content, own_variation = self._terms(leaf, number)
            parts = [part for moments in found for name in self.style_layers for part in moments[name]]
            loss = self.alpha * own_content + self.tv * own_variation
            for slope, part in zip(slopes, parts, strict=True):
                if slope is not None and part.requires_grad:
                    loss = loss + (1 - self.alpha) * (slope * part).sum()
            loss.backward()
            tile.with_context(gradient).add_(_gradient(leaf))
            content, variation = content + own_content.detach(), variation + own_variation.detach()
        trim_memory()
        return self._losses(content, style, variation), gradient

    def _terms(self, image: Tensor, number: int) -> tuple[list[dict[str, Moments]], Tensor, Tensor]:
        """The contributions of a tile: the moments by style and layer, the content loss and the variation.

        image: the tile with its context. number: index of the tile.
        """
        tile = self.tiles[number]
        maps = self.perception.maps(image, tile)
        found: list[dict[str, Moments]] = []
        shared: dict[str, Moments] | None = None
        for masks in self.masks:
            if masks is None:  # the same for all styles without a mask
                shared = shared or {name: moments(maps[name]) for name in self.style_layers}
                found.append(shared)
            else:
                found.append({name: moments(maps[name], masks[number][name]) for name in self.style_layers})
        content = _sum(
            scale * _square_sum(maps[name].float() - self.targets[number][name])
            for name, scale in self.content_scale.items()
        )
        return found, content, variation(image, tile) / self.values

    def _style(self, found: Sequence[Mapping[str, Moments]]) -> Tensor:
        """The style loss of the whole image from its moments by style and layer."""
        return _sum(
            weight * fraction * losses[name](moments[name])
            for weight, losses, moments in zip(self.style_weights, self.style_losses, found, strict=True)
            for name, fraction in self.style_layers.items()
        )

    def _losses(self, content: Tensor, style: Tensor, variation: Tensor) -> Losses:
        c, s, v = content.item(), style.item(), variation.item()
        return Losses(self.alpha * c + (1 - self.alpha) * s + self.tv * v, c, s, v)

    def _weights(
        self, mask: Tensor, content: Tensor, sizes: Sequence[Mapping[str, torch.Size]]
    ) -> list[dict[str, Tensor]]:
        """A mask as weights (h, w) of the positions of each layer, for each tile (Gatys et al. 2017, section 4.1).

        The weight of a unit is the mean of the mask over one stride; its receptive field beyond that is ignored.
        """
        mask = F.interpolate(mask[None, None].float(), size=content.shape[1:], mode="bilinear", antialias=True)[0]
        mask = mask.clamp(0, 1).to(content.device)
        if not mask.any():
            raise UsageError("a mask is black everywhere, so its style would not be used")
        weights: list[dict[str, Tensor]] = []
        for tile, size in zip(self.tiles, sizes, strict=True):
            weights.append({})
            for name, (height, width) in size.items():
                stride = self.perception.strides[name]
                padded = F.avg_pool2d(tile.with_context(mask), stride, ceil_mode=True)
                pooled = tile.own(padded, stride)[:, :height, :width]
                # Networks that pad more than they need have a unit or two beyond the end of the image.
                missing = (0, width - pooled.shape[2], 0, height - pooled.shape[1])
                weights[-1][name] = F.pad(pooled, missing, mode="replicate")[0]
        return weights


def _fractions(weights: Mapping[Name, float]) -> dict[Name, float]:
    """The weights divided by their sum."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """The terms added up in order."""
    return functools.reduce(torch.add, terms)


def _gradient(leaf: Tensor) -> Tensor:
    """The gradient of a leaf after a backward pass."""
    assert leaf.grad is not None
    return leaf.grad


def _leaves(moments: Moments) -> Moments:
    """Copies of the moments as leaves, so that derivatives with respect to them can be taken."""
    return Moments(*(part.clone().requires_grad_() for part in moments))


def _square_sum(values: Tensor) -> Tensor:
    """Sum of squares in float32."""
    return values.float().square().sum()
