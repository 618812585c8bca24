"""The losses of style transfer (Gatys, Ecker and Bethge 2016) and their gradient for an image of any size.

    L = alpha * content + (1 - alpha) * style + tv * variation

F^l (C, M) are the activations of layer l of the generated image: C channels at M places. P^l are the content's.
All terms but the variation are relative: 0 for equal features and 1 where the generated ones are zero. The paper takes
a network whose channels were scaled to a mean of one instead, which makes its layers comparable in the same way;
relative terms do so for any network.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.errors import UsageError
from mlcli.io import image_io
from mlcli.methods.painting.tiles import Tile, tiles
from mlcli.models.features import Activations
from mlcli.models.graph import Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime, trim_memory

# -- statistics of a layer -----------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Sums over the places of a layer, so that those of tiles add up to those of the image."""

    count: Tensor  # (), the number of places, or the sum of their weights
    first: Tensor  # (C,)
    second: Tensor  # (C, C)

    def plus(self, other: "Moments") -> "Moments":
        return Moments(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def mean(self) -> Tensor:
        """(C,)"""
        return self.first / self.count

    @property
    def gram(self) -> Tensor:
        """G = F F^T / M (C, C)."""
        return self.second / self.count

    @property
    def covariance(self) -> Tensor:
        """(C, C)"""
        return self.gram - torch.outer(self.mean, self.mean)


def moments(maps: Tensor, weights: Tensor | None = None) -> Moments:
    """The moments, in float32, of maps (C, h, w), each place counted by its weight (h, w) in [0, 1]."""
    values = maps.permute(1, 2, 0).flatten(0, 1)  # (M, C), no copy of what is channels_last
    if weights is None:
        count = values.new_tensor(len(values), dtype=torch.float32)
        return Moments(count, values.sum(0, dtype=torch.float32), _Products.apply(values, None))
    weights = weights.flatten()[:, None]
    return Moments(weights.sum(), (weights * values).sum(0), _Products.apply(values, weights))


class _Products(torch.autograd.Function):
    """Sum over the rows of `weights * values values^T`, (M, C) -> (C, C), in float32.

    By hand for two savings over autograd: the gradient takes one product instead of two, since the result is symmetric,
    and what is kept for it stays in the precision that it came in.
    """

    @staticmethod
    def forward(ctx, values: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weights)
        floats = values.float()
        return floats.T @ (floats if weights is None else weights * floats)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        values, weights = ctx.saved_tensors
        floats = values.float() @ (gradient + gradient.T)
        return (floats if weights is None else weights * floats).to(values.dtype), None


RIDGE = 1e-4  # of the mean variance of a layer's channels

# -- losses --------------------------------------------------------------------------------------------------


def gram_loss(target: Moments) -> Callable[[Moments], Tensor]:
    """|G - A|^2 / |A|^2, A the Gram matrix of the style (Gatys et al. 2016, equation 4, but relative)."""
    wanted = target.gram
    scale = wanted.square().sum().clamp_min(1e-12)
    return lambda found: (found.gram - wanted).square().sum() / scale


def gaussian_loss(target: Moments) -> Callable[[Moments], Tensor]:
    """The squared Wasserstein distance of two normal distributions with the means and covariances of the layers.

    |m - n|^2 + tr(C + D - 2 (D^1/2 C D^1/2)^1/2), relative to |n|^2 + tr D, with n and D of the style (Olkin and
    Pukelsheim 1982). A Gram matrix mixes mean and covariance, so a bright texture may pass for a rough one; this does
    not.
    """
    # In float64 on the CPU, which some devices lack, and with a ridge on both: the root is steep where nothing varies.
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

    image: (3, h, w) in [0, 1], what the tile sees.
    """
    down, right = image.diff(dim=1).square(), image.diff(dim=2).square()
    # At the image's end there is one difference less than pixels, and slices end there anyway.
    return tile.own(down).sum() + tile.own(right).sum()


# -- the objective -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """A style image (3, H, W) in [0, 1] at the size to look at it, its share of the style loss, and the places of
    the content, (H', W') in [0, 1], that it is for; None for all."""

    image: Tensor
    weight: float = 1.0
    mask: Tensor | None = None


class Losses(NamedTuple):
    total: float
    content: float
    style: float
    variation: float


class Perception:
    """What a network sees of images of any size, tile by tile: the maps of the layers of content and style."""

    def __init__(self, model: Model, layers: Mapping[str, Layer], runtime: Runtime, tile: int):
        self.model, self.layers, self.runtime, self.tile = model, layers, runtime, tile
        self.strides = {name: max(1, round(layer.stride)) for name, layer in layers.items()}
        self.activations = Activations(model, list(layers))

    def tiles(self, image: Tensor) -> list[Tile]:
        return tiles(*image.shape[-2:], list(self.layers.values()), self.tile)

    def maps(self, image: Tensor, tile: Tile) -> dict[str, Tensor]:
        """The tile's own maps (C, h, w) by layer. image: what the tile sees, (3, H, W) in [0, 1]."""
        if self.model.preprocessing.channels == 1:
            image = image_io.to_gray(image)
        try:
            with self.runtime.autocast():
                found = self.activations(image[None])
        except RuntimeError as error:
            if min(image.shape[1:]) < 64:
                raise UsageError(
                    f"an image of {image.shape[2]} x {image.shape[1]} pixels is too small for the layers "
                    f"{', '.join(self.layers)} of {self.model.name} ({str(error).splitlines()[0]}); take a larger one, "
                    "a larger --size or earlier layers"
                ) from None
            raise
        return {name: tile.own(maps.squeeze(0), self.strides[name]) for name, maps in found.items()}

    def moments(self, image: Tensor, names: Sequence[str]) -> dict[str, Moments]:
        """The moments of the layers over a whole image (3, H, W)."""
        total: dict[str, Moments] = {}
        with torch.no_grad():
            for tile in self.tiles(image):
                maps = self.maps(tile.seen(image), tile)
                for name in names:
                    found = moments(maps[name])
                    total[name] = total[name].plus(found) if name in total else found
        return total


class Objective:
    """The loss and its gradient for images of one size (3, H, W).

    The targets are computed once. An image larger than a tile is seen tile by tile: a first pass, without a graph,
    sums the statistics of the whole image; the derivative of the loss by them is then carried back through one tile
    after the other, which gives the gradient of the whole image in the memory of one tile.
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
        """content: (3, H, W) in [0, 1]. The weights of the layers, and of the styles, count by their shares."""
        self.perception, self.alpha, self.tv = perception, alpha, tv
        self.content_layers, self.style_layers = _shares(content_layers), _shares(style_layers)
        self.tiles = perception.tiles(content)
        self.values = content.numel()
        self.targets, sizes = [], []
        with torch.no_grad():
            for tile in self.tiles:
                maps = perception.maps(tile.seen(content), tile)
                self.targets.append({name: maps[name].clone() for name in self.content_layers})
                sizes.append({name: maps[name].shape[1:] for name in self.style_layers})
        energy = {n: sum(_square_sum(t[n]) for t in self.targets).clamp_min(1e-12) for n in self.content_layers}
        self.content_scale = {name: weight / energy[name] for name, weight in self.content_layers.items()}
        self.style_weights = list(_shares(dict(enumerate(style.weight for style in styles))).values())
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
            found, content, variation = self._see(leaf, 0)
            style = self._style(found)
            (self.alpha * content + (1 - self.alpha) * style + self.tv * variation).backward()
            return self._losses(content, style, variation), leaf.grad
        with torch.no_grad():
            passes = [self._see(tile.seen(image), number)[0] for number, tile in enumerate(self.tiles)]
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
            leaf = tile.seen(image).clone().requires_grad_()
            found, own_content, own_variation = self._see(leaf, number)
            parts = [part for moments in found for name in self.style_layers for part in moments[name]]
            loss = self.alpha * own_content + self.tv * own_variation
            for slope, part in zip(slopes, parts, strict=True):
                if slope is not None and part.requires_grad:
                    loss = loss + (1 - self.alpha) * (slope * part).sum()
            loss.backward()
            tile.seen(gradient).add_(leaf.grad)
            content, variation = content + own_content.detach(), variation + own_variation.detach()
        trim_memory()
        return self._losses(content, style, variation), gradient

    def _see(self, seen: Tensor, number: int) -> tuple[list[dict[str, Moments]], Tensor, Tensor]:
        """What a tile adds: the moments by style and layer, the content loss and the variation."""
        tile = self.tiles[number]
        maps = self.perception.maps(seen, tile)
        found, shared = [], None
        for masks in self.masks:
            if masks is None:  # the same for all styles without a mask
                shared = shared or {name: moments(maps[name]) for name in self.style_layers}
                found.append(shared)
            else:
                found.append({name: moments(maps[name], masks[number][name]) for name in self.style_layers})
        content = sum(
            scale * _square_sum(maps[name].float() - self.targets[number][name])
            for name, scale in self.content_scale.items()
        )
        return found, content, variation(seen, tile) / self.values

    def _style(self, found: Sequence[Mapping[str, Moments]]) -> Tensor:
        """The style loss of the whole image from its moments by style and layer."""
        return sum(
            weight * share * losses[name](moments[name])
            for weight, losses, moments in zip(self.style_weights, self.style_losses, found, strict=True)
            for name, share in self.style_layers.items()
        )

    def _losses(self, content: Tensor, style: Tensor, variation: Tensor) -> Losses:
        content, style, variation = content.item(), style.item(), variation.item()
        return Losses(self.alpha * content + (1 - self.alpha) * style + self.tv * variation, content, style, variation)

    def _weights(self, mask: Tensor, content: Tensor, sizes: Sequence[Mapping]) -> list[dict[str, Tensor]]:
        """A mask as the weights (h, w) of the places of each layer, by tile: the mean over the pixels of a stride.

        (Gatys et al. 2017, section 4.1. What a unit sees beyond its stride is left out of account.)
        """
        mask = F.interpolate(mask[None, None].float(), size=content.shape[1:], mode="bilinear", antialias=True)[0]
        mask = mask.clamp(0, 1).to(content.device)
        if not mask.any():
            raise UsageError("a mask is black all over, so its style would be nowhere")
        weights = []
        for tile, size in zip(self.tiles, sizes, strict=True):
            weights.append({})
            for name, (height, width) in size.items():
                stride = self.perception.strides[name]
                pooled = tile.own(F.avg_pool2d(tile.seen(mask), stride, ceil_mode=True), stride)[:, :height, :width]
                # Networks that pad more than they need have a unit or two beyond the image's end.
                missing = (0, width - pooled.shape[2], 0, height - pooled.shape[1])
                weights[-1][name] = F.pad(pooled, missing, mode="replicate")[0]
        return weights


def _shares(weights: Mapping) -> dict:
    """The weights over their sum."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _leaves(moments: Moments) -> Moments:
    """The same numbers, to be differentiated by."""
    return Moments(*(part.clone().requires_grad_() for part in moments))


def _square_sum(values: Tensor) -> Tensor:
    return values.float().square().sum()
