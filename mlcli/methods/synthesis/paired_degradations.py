"""Image pairs by a known degradation: X = f^-1(Y), where f, from X to Y, is hard and f^-1, from Y to X, is simple.

A network that learns f, such as from edges to photographs, gets as many pairs as there are images Y. Images are
(3, H, W) in [0, 1]; X has the same height and width as Y.
"""

import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mlcli.imaging import image_io
from mlcli.methods.synthesis.configs import INVERSES
from mlcli.runtime.random_streams import rng

FLAT = ("edges", "labels")  # degradations with few values, whatever the bit depth of the image
SEGMENTED = 512  # longer side in pixels at which regions are found


def pair(
    name: str, image: Tensor, strength: float | None = None, size: tuple[int, int] | None = None
) -> tuple[Tensor | Image.Image, Tensor]:
    """(X, Y) of an image (3, H, W), uint8 or in [0, 1]. X is as `make` returns it.

    Y is the center of the image at `size` (height, width), or the whole image. For a gray image both are (1, H, W).
    """
    y = image_io.to_unit(image)
    gray = bool((y[:1] == y).all())
    if size is not None:
        y = image_io.fill(y, size)
    x = make(name, y, strength)
    return (x[:1] if gray and isinstance(x, Tensor) else x), (y[:1] if gray else y)


def make(name: str, image: Tensor, strength: float | None = None) -> Tensor | Image.Image:
    """The degraded image X of Y: (1 or 3, H, W) in [0, 1]; for 'labels' a Pillow image with a palette of classes.

    name: a key of INVERSES, which defines `strength`. strength: None for the default, or for one that suits the size of
    the image.
    """
    if name == "gray":
        return image_io.to_gray(image)
    if strength is None:
        strength = INVERSES[name].strength or default_strength(name, min(image.shape[1:]))
    if name == "labels":
        indices, colors = labels(image, round(strength))
        return image_io.with_palette(indices, colors)
    real = {"edges": edges, "blur": blur}
    return real[name](image, strength) if name in real else INTEGER[name](image, max(1, round(strength)))


def default_strength(name: str, side: int) -> float:
    """The default strength for an image with a shorter side of this many pixels."""
    return {
        "edges": min(3.0, max(0.7, math.sqrt(side / 180))),  # fine lines in small images, no grain in large ones
        "blur": max(1.0, side / 50),
        "mosaic": max(2.0, side / 24),
    }[name]


# ----------------------------------------------------------------------------------------------- plain filters


def blur(image: Tensor, sigma: float) -> Tensor:
    """(C, H, W) convolved with a Gaussian of standard deviation `sigma` in pixels; the border is repeated."""
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    rows = F.pad(image[:, None], (0, 0, radius, radius), mode="replicate")
    rows = F.conv2d(rows, kernel.view(1, 1, -1, 1))
    return F.conv2d(F.pad(rows, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))[:, 0]


def low_resolution(image: Tensor, factor: int) -> Tensor:
    """(C, H, W) with its sides reduced by `factor` and enlarged again, both bicubic."""
    size = image.shape[1:]
    small = [max(1, round(side / factor)) for side in size]
    image = F.interpolate(image[None], small, mode="bicubic", antialias=True)
    return F.interpolate(image, size, mode="bicubic")[0].clamp(0, 1)


def mosaic(image: Tensor, side: int) -> Tensor:
    """(C, H, W) in square tiles of `side` pixels from the upper left, each filled with its mean color."""
    height, width = image.shape[1:]
    means = F.avg_pool2d(image[None], side, ceil_mode=True)[0]  # tiles at the border are smaller
    return means.repeat_interleave(side, 1)[:, :height].repeat_interleave(side, 2)[:, :, :width]


INTEGER = {"low-resolution": low_resolution, "mosaic": mosaic}  # degradations whose strength is an integer

# ------------------------------------------------------------------------------------------------------- edges


def edges(image: Tensor, sigma: float) -> Tensor:
    """The edges of an image (3, H, W) by Canny 1986: (1, H, W), 0 on an edge and 1 elsewhere.

    sigma: standard deviation in pixels of the blur before the gradient. The gradient is that of the color channel that
    changes most. The upper threshold is Otsu's (1979) of the gradients along ridges, the lower is 0.4 of it. Lines
    shorter than a 20th of the shorter side are removed, as in the data of Isola et al. 2017.
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


NOISE = 0.01  # largest invisible gradient, in full range per pixel


def gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel gradient (gx, gy) of the steepest channel of an image (C, H, W), (H, W) each, in full range per pixel."""
    smooth, slope = torch.tensor([1.0, 2.0, 1.0]) / 4, torch.tensor([-1.0, 0.0, 1.0]) / 2
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]
    g = F.conv2d(F.pad(image[:, None], (1, 1, 1, 1), mode="replicate"), kernels)  # (C, 2, H, W)
    steepest = g.square().sum(1).argmax(0)  # (H, W)
    gx, gy = g.gather(0, steepest.expand(1, 2, -1, -1))[0]
    return gx, gy


def thin(strength: Tensor, gx: Tensor, gy: Tensor) -> Tensor:
    """Non-maximum suppression: where the gradient is greatest along its own direction, (H, W) bool.

    strength: norm of the gradient (H, W). The neighbors in the direction of the gradient lie between pixels and are
    interpolated linearly.
    """
    around = F.pad(strength[None, None], (1, 1, 1, 1))[0, 0]
    height, width = strength.shape

    def at(down: int, right: int) -> Tensor:
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    flat = gx.abs() >= gy.abs()
    fraction = torch.where(flat, gy.abs(), gx.abs()) / torch.where(flat, gx.abs(), gy.abs()).clamp_min(1e-12)
    same = (gx * gy) >= 0  # the gradient runs from upper left to lower right or back

    def neighbor(sign: int) -> Tensor:
        diagonal = torch.where(same, at(sign, sign), torch.where(flat, at(-sign, sign), at(sign, -sign)))
        return (1 - fraction) * torch.where(flat, at(0, sign), at(sign, 0)) + fraction * diagonal

    before, after = neighbor(-1), neighbor(1)
    slope = torch.minimum(before, after) > 0.999 * strength  # equal on both sides: an even slope, and not a ridge
    return (strength > before) & (strength >= after) & ~slope


def without_corners(lines: Tensor) -> Tensor:
    """Lines (H, W) bool without the corners of stairs. The two neighbors of a corner touch, so lines stay connected."""
    for quarter_turns in range(4):  # corners of one orientation are never neighbors, so they can be removed at once
        padded = F.pad(lines.rot90(quarter_turns), (1, 1, 1, 1))
        up, right, down, left = padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]
        corner = up & right & ~down & ~left & ~padded[2:, :-2]
        lines = (padded[1:-1, 1:-1] & ~corner).rot90(-quarter_turns)
    return lines


def otsu(values: Tensor) -> float:
    """The threshold that maximizes the variance between two classes of values (N,) (Otsu 1979)."""
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
    """Connected components of a mask (H, W): (H, W) int64, numbered from 0 in reading order, -1 outside the mask.

    diagonal: whether pixels that touch at a corner are connected. like: (H, W); only pixels of equal values are
    connected. Union-find: each round joins the roots of connected neighbors under the lower one, and shortens all paths
    to the roots.
    """
    height, width = mask.shape
    index = torch.arange(height * width).view(height, width)
    firsts, seconds = [], []
    for down, right in ((0, 1), (1, 0)) + (((1, 1), (1, -1)) if diagonal else ()):
        pixel = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        neighbor = (slice(down, height), slice(max(0, right), width + min(0, right)))
        joined = mask[pixel] & mask[neighbor]
        if like is not None:
            joined = joined & (like[pixel] == like[neighbor])
        firsts.append(index[pixel][joined])
        seconds.append(index[neighbor][joined])
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
    """Segment an image (3, H, W) into flat regions: (class of each pixel (H, W) uint8, colors (K, 3) uint8).

    k-means in color (Lab) and, with a small weight, in position. Ragged borders are smoothed by a majority vote of the
    neighbors. Regions under 1 / 500 of the image join the neighbor with which they share the longest border. There are
    at most `classes` classes, in order from dark to light. Their colors are the mean colors of the image.
    """
    height, width = image.shape[1:]
    shrink = min(1, SEGMENTED / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    small = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    small = blur(small, max(0.5, min(size) / 150))
    down, right = torch.meshgrid(*(torch.arange(side) / max(size) for side in size), indexing="ij")
    points = torch.cat([lab(small), POSITION_WEIGHT * torch.stack([down, right])]).flatten(1).T  # (pixels, 5)
    labels = nearest(points, k_means(points, classes)).view(size)
    labels = vote(labels, classes, size, max(0.5, min(size) / 100))
    labels = without_specks(labels, labels.numel() // 500)
    labels = vote(labels, classes, (height, width), max(0.5, min(size) / 150))
    count = torch.bincount(labels.flatten(), minlength=classes)
    sums = torch.zeros(classes, 3).index_add_(0, labels.flatten(), image.flatten(1).T)
    colors = (sums / count[:, None].clamp_min(1))[count > 0]
    order = (colors @ torch.tensor([0.299, 0.587, 0.114])).argsort(stable=True)
    rank = torch.zeros(classes, dtype=torch.long)
    rank[(count > 0).nonzero()[:, 0][order]] = torch.arange(len(order))
    return rank[labels].to(torch.uint8), image_io.to_bytes(colors[order])


POSITION_WEIGHT = 25.0  # distance in Lab that corresponds to the longer side of the image


def lab(image: Tensor) -> Tensor:
    """CIE L* (0 to 100), a* and b*, with white point D65, of an sRGB image (3, H, W) in [0, 1]."""
    light = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = torch.einsum("cd,dhw->chw", matrix / matrix.sum(1, keepdim=True), light)
    x, y, z = torch.where(xyz > 216 / 24389, xyz.clamp_min(1e-9) ** (1 / 3), (24389 / 27 * xyz + 16) / 116)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def k_means(points: Tensor, k: int, rounds: int = 20) -> Tensor:
    """Centers (k, D) of points (N, D) by k-means on at most 10,000 points, initialized by k-means++ (Arthur 2007).

    There are fewer centers if there are fewer distinct points.
    """
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
    """Index of the nearest of the centers (K, D) for each of the points (N, D), (N,)."""
    return (centers.square().sum(1) - 2 * points @ centers.T).argmin(1)


def vote(labels: Tensor, classes: int, size: tuple[int, int], sigma: float) -> Tensor:
    """Smooth class labels (h, w), resized to `size` (H, W): each pixel takes the most frequent class around it.

    sigma: standard deviation in pixels of the Gaussian neighborhood. The classes are processed one by one, so that
    memory does not grow with their number.
    """
    best, winner = torch.full(size, -1.0), torch.zeros(size, dtype=torch.long)
    for label in range(classes):
        fraction = blur((labels == label).float()[None], sigma)
        if size != labels.shape:
            fraction = F.interpolate(fraction[None], size, mode="bilinear")[0]
        ahead = fraction[0] > best
        best[ahead], winner[ahead] = fraction[0][ahead], label
    return winner


def without_specks(labels: Tensor, least: int) -> Tensor:
    """Class labels (H, W), in which connected regions of fewer pixels than `least` take the class around them."""
    while True:
        region = components(torch.ones_like(labels, dtype=torch.bool), like=labels)
        area = torch.bincount(region.flatten())
        if len(area) == 1 or area.min() >= least:
            return labels
        sides = [(region[:, 1:], region[:, :-1]), (region[1:], region[:-1])]
        a = torch.cat([x.flatten() for x, y in sides] + [y.flatten() for x, y in sides])
        b = torch.cat([y.flatten() for x, y in sides] + [x.flatten() for x, y in sides])
        touching = (a != b) & (area[a] < least)
        keys, border = (a[touching] * len(area) + b[touching]).unique(return_counts=True)
        pairs = torch.stack([keys // len(area), keys % len(area)])
        # Only regions without a smaller neighbor change in this round; otherwise two specks could swap their classes
        rank = area * len(area) + torch.arange(len(area))
        lowest = torch.full_like(area, torch.iinfo(torch.long).max).scatter_reduce_(0, pairs[0], rank[pairs[1]], "amin")
        ready = rank[pairs[0]] < lowest[pairs[0]]
        pairs, border = pairs[:, ready], border[ready]
        order = border.argsort(stable=True)  # the longest border comes last and wins
        label = labels.new_zeros(len(area))
        label[region.flatten()] = labels.flatten()
        taken = label.clone()
        for speck, around in pairs[:, order].T.tolist():
            taken[speck] = label[around]
        labels = taken[region]
