"""Pairs from a known inverse: X = f^-1(Y), where to make Y of X is hard, and X of Y is plain.

A network that is to learn f, such as from edges to photographs, gets as many pairs as there are images Y. Images
are (3, H, W) in [0, 1]; what is made of them has the same height and width.
"""

import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mlcli.io import image_io
from mlcli.methods.synthesis.configs import INVERSES
from mlcli.runtime.random_streams import rng

FLAT = ("edges", "labels")  # of a few values, whatever the depth of the image
SEGMENTED = 512  # pixels, the long side at which regions are found


def pair(
    name: str, image: Tensor, strength: float | None = None, size: tuple[int, int] | None = None
) -> tuple[Tensor | Image.Image, Tensor]:
    """(X, Y) of an image as read, (3, H, W) uint8 or in [0, 1]: Y is its middle at `size` (height, width), or all.

    Of a gray image both are gray, (1, H, W). X as `make` gives it.
    """
    y = image_io.to_unit(image)
    gray = bool((y[:1] == y).all())
    if size is not None:
        y = image_io.fill(y, size)
    x = make(name, y, strength)
    return (x[:1] if gray and isinstance(x, Tensor) else x), (y[:1] if gray else y)


def make(name: str, image: Tensor, strength: float | None = None) -> Tensor | Image.Image:
    """X of Y: an image (1 or 3, H, W) in [0, 1], or of `labels` a Pillow image with the palette of its classes.

    name: one of INVERSES, which says what `strength` is; None: its default, or what fits the size of the image.
    """
    if name == "gray":
        return image_io.to_gray(image)
    if strength is None:
        strength = INVERSES[name].strength or fitting(name, min(image.shape[1:]))
    if name == "labels":
        numbers, colors = labels(image, round(strength))
        return image_io.with_palette(numbers, colors)
    whole = {"edges": edges, "blur": blur}
    return whole[name](image, strength) if name in whole else STEPS[name](image, max(1, round(strength)))


def fitting(name: str, side: int) -> float:
    """The strength for an image whose short side has so many pixels."""
    return {
        "edges": min(3.0, max(0.7, math.sqrt(side / 180))),  # fine lines in small images, no grain in large ones
        "blur": max(1.0, side / 50),
        "mosaic": max(2.0, side / 24),
    }[name]


# ----------------------------------------------------------------------------------------------- plain filters


def blur(image: Tensor, sigma: float) -> Tensor:
    """(C, H, W) convolved with a Gaussian of standard deviation `sigma` in pixels; the border is repeated."""
    radius = max(1, math.ceil(3 * sigma))
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-at.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    rows = F.pad(image[:, None], (0, 0, radius, radius), mode="replicate")
    rows = F.conv2d(rows, kernel.view(1, 1, -1, 1))
    return F.conv2d(F.pad(rows, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))[:, 0]


def low_resolution(image: Tensor, factor: int) -> Tensor:
    """(C, H, W) brought to 1 / `factor` of its sides and back, both bicubic."""
    size = image.shape[1:]
    small = [max(1, round(side / factor)) for side in size]
    image = F.interpolate(image[None], small, mode="bicubic", antialias=True)
    return F.interpolate(image, size, mode="bicubic")[0].clamp(0, 1)


def mosaic(image: Tensor, side: int) -> Tensor:
    """(C, H, W) in square tiles of so many pixels, from the upper left, each of its mean color."""
    height, width = image.shape[1:]
    means = F.avg_pool2d(image[None], side, ceil_mode=True)[0]  # the tiles at the border as far as they go
    return means.repeat_interleave(side, 1)[:, :height].repeat_interleave(side, 2)[:, :, :width]


STEPS = {"low-resolution": low_resolution, "mosaic": mosaic}

# ------------------------------------------------------------------------------------------------------- edges


def edges(image: Tensor, sigma: float) -> Tensor:
    """(1, H, W), thin black lines on white where (3, H, W) changes (Canny 1986): 0 on an edge and 1 elsewhere.

    The gradient is that of the color channel that changes most. The upper threshold is the one that parts the
    gradients along ridges best (Otsu 1979), the lower is 0.4 of it. Lines shorter than a 20th of the side are left out,
    as in the data of Isola et al. 2017.
    """
    gx, gy = gradient(blur(image, sigma))
    strength = torch.hypot(gx, gy)  # (H, W)
    ridge = thin(strength, gx, gy)
    found = strength[ridge]
    found = found[found > NOISE]
    if not len(found):
        return torch.ones_like(strength)[None]
    high = otsu(found)
    weak = ridge & (strength > 0.4 * high)
    number = components(weak, diagonal=True)
    count = int(number.max()) + 1
    strong = torch.zeros(count, dtype=torch.bool)
    strong[number[weak & (strength > high)]] = True
    length = torch.bincount(number[weak], minlength=count)
    kept = strong & (length >= max(3, min(image.shape[1:]) // 20))
    return (~without_corners(weak & kept[number.clamp_min(0)])).float()[None]


NOISE = 0.01  # a slope, in units of full range a pixel, that no eye sees


def gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """(gx, gy), each (H, W), of (C, H, W) by the kernels of Sobel, in full range a pixel: of the steepest channel."""
    smooth, slope = torch.tensor([1.0, 2.0, 1.0]) / 4, torch.tensor([-1.0, 0.0, 1.0]) / 2
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]
    g = F.conv2d(F.pad(image[:, None], (1, 1, 1, 1), mode="replicate"), kernels)  # (C, 2, H, W)
    steepest = g.square().sum(1).argmax(0)  # (H, W)
    gx, gy = g.gather(0, steepest.expand(1, 2, -1, -1))[0]
    return gx, gy


def thin(strength: Tensor, gx: Tensor, gy: Tensor) -> Tensor:
    """(H, W) bool: where the gradient is greatest along its own direction, so that edges are one pixel wide.

    The neighbors in that direction lie between pixels; their values are interpolated linearly.
    """
    around = F.pad(strength[None, None], (1, 1, 1, 1))[0, 0]
    height, width = strength.shape

    def at(down: int, right: int) -> Tensor:
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    flat = gx.abs() >= gy.abs()
    share = torch.where(flat, gy.abs(), gx.abs()) / torch.where(flat, gx.abs(), gy.abs()).clamp_min(1e-12)
    same = (gx * gy) >= 0  # the gradient runs from upper left to lower right, or the other way

    def neighbor(sign: int) -> Tensor:
        diagonal = torch.where(same, at(sign, sign), torch.where(flat, at(-sign, sign), at(sign, -sign)))
        return (1 - share) * torch.where(flat, at(0, sign), at(sign, 0)) + share * diagonal

    before, after = neighbor(-1), neighbor(1)
    slope = torch.minimum(before, after) > 0.999 * strength  # the same all around: an even slope, not the top of one
    return (strength > before) & (strength >= after) & ~slope


def without_corners(lines: Tensor) -> Tensor:
    """(H, W) bool without the corners of stairs, whose two neighbors touch each other: what is left is connected."""
    for turn in range(4):  # corners of one kind have none beside them, so those of a turn can go at once
        padded = F.pad(lines.rot90(turn), (1, 1, 1, 1))
        up, right, down, left = padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]
        corner = up & right & ~down & ~left & ~padded[2:, :-2]
        lines = (padded[1:-1, 1:-1] & ~corner).rot90(-turn)
    return lines


def otsu(values: Tensor) -> float:
    """The threshold that parts (N,) values into two classes whose means lie furthest apart (Otsu 1979)."""
    levels = 256
    low, high = values.min(), values.max()
    if low == high:
        return float(low) * 0.999
    counts = torch.histc(values, levels, float(low), float(high)).double()
    middles = torch.linspace(float(low), float(high), 2 * levels + 1, dtype=torch.float64)[1::2]
    below = counts.cumsum(0)
    sums = (counts * middles).cumsum(0)
    above = below[-1] - below
    between = (sums * below[-1] - sums[-1] * below).square() / (below * above).clamp_min(1e-12)
    return float(middles[between.argmax()])


def components(mask: Tensor, *, diagonal: bool = False, like: Tensor | None = None) -> Tensor:
    """(H, W) int64: the connected parts of a mask, numbered from 0 in reading order; -1 outside of it.

    diagonal: whether pixels that touch at a corner are connected. like: (H, W); only equal values are.
    Each round hangs the roots of neighbors that differ under the lower one, and shortens all ways to the roots.
    """
    height, width = mask.shape
    place = torch.arange(height * width).view(height, width)
    firsts, seconds = [], []
    for down, right in ((0, 1), (1, 0)) + (((1, 1), (1, -1)) if diagonal else ()):
        here = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        there = (slice(down, height), slice(max(0, right), width + min(0, right)))
        joined = mask[here] & mask[there]
        if like is not None:
            joined = joined & (like[here] == like[there])
        firsts.append(place[here][joined])
        seconds.append(place[there][joined])
    first, second = torch.cat(firsts), torch.cat(seconds)
    root = torch.arange(height * width)
    while len(first):
        root.scatter_reduce_(0, torch.maximum(first, second), torch.minimum(first, second), "amin")
        while not torch.equal(shorter := root[root], root):
            root = shorter
        first, second = root[first], root[second]
        apart = first != second
        first, second = first[apart], second[apart]
    inside = mask.flatten()
    numbers = torch.full((height * width,), -1)
    numbers[inside] = root[inside].unique(return_inverse=True)[1]
    return numbers.view(height, width)


# ------------------------------------------------------------------------------------------------------ labels


def labels(image: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(numbers (H, W) uint8, colors (K, 3) uint8): flat regions of at most `classes` kinds, from dark to light.

    k-means in color (Lab) and, a little, in place; ragged borders are smoothed by a vote of the neighbors, and
    regions under 1 / 500 of the image go to the neighbor with which they share the longest border. The
    colors are the means of the classes.
    """
    height, width = image.shape[1:]
    shrink = min(1, SEGMENTED / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    small = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    small = blur(small, max(0.5, min(size) / 150))
    down, right = torch.meshgrid(*(torch.arange(side) / max(size) for side in size), indexing="ij")
    points = torch.cat([lab(small), PLACE * torch.stack([down, right])]).flatten(1).T  # (pixels, 5)
    numbers = nearest(points, k_means(points, classes)).view(size)
    numbers = vote(numbers, classes, size, max(0.5, min(size) / 100))
    numbers = without_specks(numbers, numbers.numel() // 500)
    numbers = vote(numbers, classes, (height, width), max(0.5, min(size) / 150))
    count = torch.bincount(numbers.flatten(), minlength=classes)
    sums = torch.zeros(classes, 3).index_add_(0, numbers.flatten(), image.flatten(1).T)
    colors = (sums / count[:, None].clamp_min(1))[count > 0]
    order = (colors @ torch.tensor([0.299, 0.587, 0.114])).argsort(stable=True)
    place = torch.zeros(classes, dtype=torch.long)
    place[(count > 0).nonzero()[:, 0][order]] = torch.arange(len(order))
    return place[numbers].to(torch.uint8), image_io.to_bytes(colors[order])


PLACE = 25.0  # units of Lab that the long side of an image counts for


def lab(image: Tensor) -> Tensor:
    """(3, H, W) sRGB in [0, 1] to CIE L* (0 to 100), a*, b* for a white of D65."""
    light = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = torch.einsum("cd,dhw->chw", matrix / matrix.sum(1, keepdim=True), light)
    x, y, z = torch.where(xyz > 216 / 24389, xyz.clamp_min(1e-9) ** (1 / 3), (24389 / 27 * xyz + 16) / 116)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def k_means(points: Tensor, k: int, rounds: int = 20) -> Tensor:
    """Centers (k, D) of (N, D), found on at most 10,000 of the points; begun by k-means++ (Arthur 2007), seed 0."""
    random = rng(0, "degradations/k-means")
    points = points[:: max(1, len(points) // 10_000)]
    centers = points[torch.randint(len(points), (1,), generator=random)]
    distance = torch.full((len(points),), math.inf)
    for _ in range(k - 1):
        distance = torch.minimum(distance, (points - centers[-1]).square().sum(1))
        if not distance.any():  # fewer colors than classes
            break
        chosen = torch.multinomial(distance, 1, generator=random)
        centers = torch.cat([centers, points[chosen]])
    for _ in range(rounds):
        owner = nearest(points, centers)
        count = torch.bincount(owner, minlength=len(centers))
        sums = torch.zeros_like(centers).index_add_(0, owner, points)
        centers = torch.where(count[:, None] > 0, sums / count[:, None].clamp_min(1), centers)
    return centers


def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """(N,) the number of the center (K, D) that is nearest to each of the points (N, D)."""
    return (centers.square().sum(1) - 2 * points @ centers.T).argmin(1)


def vote(numbers: Tensor, classes: int, size: tuple[int, int], sigma: float) -> Tensor:
    """(h, w) of class numbers to (H, W): each pixel takes the class that most of its neighborhood is of.

    Class by class, so that the memory does not grow with their number.
    """
    best, winner = torch.full(size, -1.0), torch.zeros(size, dtype=torch.long)
    for number in range(classes):
        share = blur((numbers == number).float()[None], sigma)
        if size != numbers.shape:
            share = F.interpolate(share[None], size, mode="bilinear")[0]
        ahead = share[0] > best
        best[ahead], winner[ahead] = share[0][ahead], number
    return winner


def without_specks(numbers: Tensor, least: int) -> Tensor:
    """(H, W) of class numbers, where connected regions of fewer pixels than `least` take the class around them."""
    while True:
        region = components(torch.ones_like(numbers, dtype=torch.bool), like=numbers)
        area = torch.bincount(region.flatten())
        if len(area) == 1 or area.min() >= least:
            return numbers
        sides = [(region[:, 1:], region[:, :-1]), (region[1:], region[:-1])]
        a = torch.cat([x.flatten() for x, y in sides] + [y.flatten() for x, y in sides])
        b = torch.cat([y.flatten() for x, y in sides] + [x.flatten() for x, y in sides])
        touching = (a != b) & (area[a] < least)
        keys, border = (a[touching] * len(area) + b[touching]).unique(return_counts=True)
        pairs = torch.stack([keys // len(area), keys % len(area)])
        # Of the smallest first, and only those none of whose neighbors is smaller: else two specks change places
        rank = area * len(area) + torch.arange(len(area))
        lowest = torch.full_like(area, torch.iinfo(torch.long).max).scatter_reduce_(0, pairs[0], rank[pairs[1]], "amin")
        ready = rank[pairs[0]] < lowest[pairs[0]]
        pairs, border = pairs[:, ready], border[ready]
        order = border.argsort(stable=True)  # the longest border comes last, and stays
        kind = numbers.new_zeros(len(area))
        kind[region.flatten()] = numbers.flatten()
        taken = kind.clone()
        for speck, around in pairs[:, order].T.tolist():
            taken[speck] = kind[around]
        numbers = taken[region]
