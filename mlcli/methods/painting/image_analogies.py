"""Image Analogies (Hertzmann, Jacobs, Oliver, Curless and Salesin 2001): the image B' such that A : A' :: B : B'.

Each pixel q of B' is a copy of a pixel s(q) of A', chosen such that the neighborhood of s(q) in A and A' resembles that
of q in B and B', level by level from the coarsest of the Gaussian pyramids to the finest. The symbols are the paper's:
l is a level, F_l(p) the feature vector of a pixel, s the source map, κ the coherence weight.

Deviations from the paper:
- The paper visits the pixels one by one in scan-line order and compares the finished half of the neighborhood in B'.
  Here a level starts from the source map of the coarser level and revises all its pixels a few times, every second
  pixel of every second row at once, with the full neighborhood in B' (the order of Lefebvre and Hoppe 2005, "Parallel
  controllable texture synthesis"). So each pass is a few large matrix products. Where B' is not known yet, the first
  revision ignores it.
- The approximate match comes from an inverted file instead of a tree, and the coherent match from 3 x 3 neighbors
  instead of 5 x 5. Both compare feature vectors on the principal axes that hold nearly all their variance.
- The channels of A' and B' that are compared are those that are copied: luminance, or all of YIQ where the color comes
  from A' too.
- A texture that is synthesized without B wraps around at its borders, so it can be tiled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.errors import DataError
from mlcli.methods.painting.configs import Analogy as Config
from mlcli.methods.painting.inverted_file import InvertedFile
from mlcli.runtime.random_streams import rng

# RGB to YIQ (NTSC 1953); the first row is the luminance
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

FINE, COARSE = 5, 3  # sides of the neighborhoods in a level and in the next coarser one
KEPT_VARIANCE = 0.995  # fraction of the variance on the principal axes that are kept
SAMPLE = 20_000  # pixels from which the principal axes are computed
COARSEST = 16  # least side of the coarsest level in pixels
TIES = 0.02  # standard deviation of the noise that makes the choice among equal neighborhoods of a texture random


@dataclass(frozen=True)
class Result:
    """Result of `create`.

    b_prime: (3, H, W), sRGB in [0, 1]. source: (H, W, 2), row and column in A' from which each pixel was copied.
    distance: mean over the pixels of |F(s(q)) - F(q)| at the last revision. color: source of the colors of B', 'b' or
    'a-prime'.
    """

    b_prime: Tensor
    source: Tensor
    distance: float
    color: str


def create(
    a: Tensor | None,
    a_prime: Tensor,
    b: Tensor | None,
    config: Config,
    *,
    size: tuple[int, int] | None = None,
    cells: int | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Result:
    """B' such that A : A' :: B : B'. Images are (3, H, W), sRGB in [0, 1], on one device.

    Without a and b, the result is a texture of `size` (height, width) that resembles A'. cells: number of cells of the
    inverted file; 1 makes the search exact, at a cost that grows with the product of the numbers of pixels.
    progress(fraction done) is called after each pass. Raises DataError if A and A' differ in size.
    """
    if a is not None and a.shape != a_prime.shape:
        sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in (a, a_prime)]
        raise DataError(f"A is {sizes[0]} pixels and A' {sizes[1]}: resize and align them, pixel by pixel")
    if size is None:
        assert b is not None
        size = b.shape[1], b.shape[2]
    a, b = (None if image is None else to_yiq(image) for image in (a, b))
    a_prime = to_yiq(a_prime)
    color = color_source(a, a_prime) if config.color == "auto" else config.color
    compared_b = b
    if a is not None and b is not None:
        if config.remap == "b":
            compared_b = remap_luminance(b, b, a)
        elif config.remap == "a":
            a, a_prime = remap_luminance(a, a, b), remap_luminance(a_prime, a, b)
    channels = 3 if config.match == "color" else 1
    source, distance = synthesize(
        None if a is None else a[:channels],
        a_prime if color == "a-prime" else a_prime[:1],
        None if compared_b is None else compared_b[:channels],
        size,
        config,
        cells,
        progress,
    )
    b_prime = a_prime.flatten(1)[:, source]
    if color == "b" and b is not None:
        b_prime = torch.cat([b_prime[:1], b[1:]])
    columns = a_prime.shape[2]
    return Result(from_yiq(b_prime), torch.stack([source // columns, source % columns], -1), distance, color)


# ------------------------------------------------------------------------------------------------ color


def to_yiq(image: Tensor) -> Tensor:
    """(3, H, W) RGB to YIQ."""
    return torch.einsum("ij,jhw->ihw", YIQ.to(image), image)


def from_yiq(image: Tensor) -> Tensor:
    """(3, H, W) YIQ to RGB, clamped to [0, 1]."""
    return torch.einsum("ij,jhw->ihw", torch.linalg.inv(YIQ).to(image), image).clamp(0, 1)


def remap_luminance(image: Tensor, of: Tensor, to: Tensor) -> Tensor:
    """Luminance remapping (section 3.4 of the paper) of `image`; all images are YIQ.

    The linear map is the one that gives the luminance of `of` the mean and standard deviation of that of `to`.
    """
    scale = to[0].std(correction=0) / of[0].std(correction=0).clamp(min=1 / 255)
    return torch.cat([scale * (image[:1] - of[0].mean()) + to[0].mean(), image[1:]])


def color_source(a: Tensor | None, a_prime: Tensor) -> str:
    """'b' if the filter A : A' (YIQ) changes colors little, so that those of B can be kept; otherwise 'a-prime'."""
    if a is None:
        return "a-prime"
    changed = (a_prime[1:] - a[1:]).square().mean().sqrt()
    return "b" if changed <= max(0.02, 0.7 * float(a[1:].square().mean().sqrt())) else "a-prime"


# ---------------------------------------------------------------------------------------- feature vectors


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """Gaussian pyramid (Burt and Adelson 1983) of (C, H, W), finest first; sides are halved and rounded up."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=image.device) / 16
    images = [image]
    for _ in range(levels - 1):
        fine = padded(images[-1], 2)[:, None]
        rows = F.conv2d(fine, kernel.view(1, 1, 5, 1), stride=(2, 1))
        images.append(F.conv2d(rows, kernel.view(1, 1, 1, 5), stride=(1, 2))[:, 0])
    return images


def padded(image: Tensor, margin: int, wrap: bool = False) -> Tensor:
    """(C, H, W) with `margin` more pixels on each side: the border repeated, or with `wrap` the opposite side."""

    def inside(length: int) -> Tensor:
        indices = torch.arange(-margin, length + margin, device=image.device)
        return indices % length if wrap else indices.clamp(0, length - 1)

    return image[:, inside(image.shape[1])[:, None], inside(image.shape[2])]


@dataclass(frozen=True)
class Part:
    """One part of the feature vectors: neighborhoods in an image (C, h, w) of the level itself or the coarser one.

    A Gaussian weighs the pixels of a neighborhood; the squares of the weights sum to `weight`, however large it is.
    """

    image: Tensor
    side: int
    weight: float
    coarse: bool
    wrap: bool = False

    def weights(self) -> Tensor:
        """Factors of the values of a neighborhood, (C · side²,)."""
        at = torch.arange(self.side, device=self.image.device) - self.side // 2
        gaussian = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * (self.side / 4) ** 2))
        return (self.weight * gaussian / gaussian.sum()).sqrt().flatten().repeat(len(self.image))

    def patches(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The part for N pixels of the level by their row and column: (N, C · side²)."""
        if self.coarse:
            rows, columns = rows // 2, columns // 2
        image = padded(self.image, self.side // 2, self.wrap)
        at = torch.arange(self.side, device=image.device)
        values = image[:, rows[:, None, None] + at[:, None], columns[:, None, None] + at]
        return values.movedim(0, 1).flatten(1) * self.weights()

    def projected(self, axes: Tensor, size: tuple[int, int]) -> Tensor:
        """The part for all pixels of a level of `size`, projected on axes (C · side², D): (D, H, W), by convolution."""
        values = self.convolved(axes, padded(self.image, self.side // 2, self.wrap), 1)
        if not self.coarse:
            return values
        rows, columns = (torch.arange(length, device=values.device) // 2 for length in size)
        return values[:, rows[:, None], columns]

    def every_second(self, axes: Tensor, top: int, left: int) -> Tensor:
        """As `projected`, for every second row from `top` and every second column from `left`."""
        return self.convolved(axes, padded(self.image, self.side // 2, self.wrap)[:, top:, left:], 2)

    def convolved(self, axes: Tensor, image: Tensor, stride: int) -> Tensor:
        """The projections of the neighborhoods in a padded image (C, h, w)."""
        kernels = (axes * self.weights()[:, None]).T.reshape(-1, len(self.image), self.side, self.side)
        return F.conv2d(image[None], kernels, stride=stride)[0]


def feature_parts(
    sources: list[Tensor] | None, primes: list[Tensor], level: int, source_weight: float, wrap: bool = False
) -> list[Part]:
    """The parts of F_l in the pyramids A, A' (or B, B'): 5 x 5 pixels of level l and 3 x 3 of the coarser level.

    The part of A'_l (or B'_l) comes first.
    """
    parts = []
    for images, weight in ((primes, 1.0), (sources, source_weight)):
        if images is not None and weight > 0:
            parts.append(Part(images[level], FINE, weight, False, wrap))
            if level + 1 < len(images):
                parts.append(Part(images[level + 1], COARSE, weight, True, wrap))
    return parts


def principal_axes(parts: list[Part], size: tuple[int, int], random: torch.Generator) -> list[Tensor]:
    """The axes that hold KEPT_VARIANCE of the feature vectors, split into those of the parts, (C · side², D) each."""
    pixels = torch.randperm(math.prod(size), generator=random)[:SAMPLE].to(parts[0].image.device)
    vectors = torch.cat([part.patches(pixels // size[1], pixels % size[1]) for part in parts], 1)
    variances, axes = torch.linalg.eigh(torch.cov(vectors.T, correction=0).double().cpu())
    fraction = variances.flip(0).clamp(min=0).cumsum(0) / variances.sum().clamp(min=1e-12)
    kept = axes.flip(1)[:, : int((fraction < KEPT_VARIANCE).sum()) + 1].to(vectors)
    return list(kept.split([len(part.image) * part.side**2 for part in parts]))


# ---------------------------------------------------------------------------------------------- synthesis


def synthesize(
    a: Tensor | None,
    a_prime: Tensor,
    b: Tensor | None,
    size: tuple[int, int],
    config: Config,
    cells: int | None,
    progress: Callable[[float], None],
) -> tuple[Tensor, float]:
    """CREATEIMAGEANALOGY of the paper: the source map (H, W), as pixel indices of A', and the mean distance."""
    shortest = min(*a_prime.shape[1:], *size)
    levels = min(config.levels, 1 + int(math.log2(max(1, shortest / COARSEST))))
    a_pyramid, b_pyramid = (None if image is None else pyramid(image, levels) for image in (a, b))
    a_prime_pyramid = pyramid(a_prime, levels)
    sizes = [size]
    for _ in range(levels - 1):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    b_prime_pyramid = [a_prime.new_zeros(len(a_prime), *level_size) for level_size in sizes]
    work, done = config.passes * sum(map(math.prod, sizes)), 0
    for level in reversed(range(levels)):
        random = rng(config.seed, "analogy/level", level)
        size_a, size_b = (a_prime_pyramid[level].shape[1], a_prime_pyramid[level].shape[2]), sizes[level]
        if level == levels - 1:
            source = torch.randint(math.prod(size_a), size_b, generator=random).to(a_prime.device)
        else:
            source = finer(source, a_prime_pyramid[level + 1].shape[2], size_a, size_b)
        b_prime_pyramid[level].copy_(a_prime_pyramid[level].flatten(1)[:, source])
        parts_a = feature_parts(a_pyramid, a_prime_pyramid, level, config.source_weight)
        parts_b = feature_parts(b_pyramid, b_prime_pyramid, level, config.source_weight, wrap=b is None)
        # A texture continues from the coarser level. A filter first compares B alone, since B' is still out of phase.
        blind = len(parts_a) > 1 and not (config.texture and level < levels - 1) and a is not None
        for number in range(config.passes):
            if number == 0 or (number == 1 and blind):
                matcher = Matcher.build(
                    parts_a,
                    parts_b,
                    (size_a, size_b),
                    random,
                    blind=blind and number == 0,
                    margin=min(FINE // 2, min(size_a) // 8) if config.texture else 0,
                    ties=TIES if config.texture and blind and number == 0 else 0.0,
                    cells=cells,
                )
            coherence = 1 + config.kappa * 2.0**-level  # 1 + κ 2^(l - L); here level 0 is L
            distance = matcher.revise(source, a_prime_pyramid[level], b_prime_pyramid[level], coherence)
            done += math.prod(size_b)
            progress(done / work)
    return source, distance


def finer(source: Tensor, columns: int, size_a: tuple[int, int], size_b: tuple[int, int]) -> Tensor:
    """The source map (h, w) of a level, upsampled to the next finer level: (H, W), of size_b, into A' of size_a.

    columns: width of A' at the coarser level.
    """
    rows, cols = (torch.arange(length, device=source.device) for length in size_b)
    above = source[rows[:, None] // 2, cols // 2]
    row = 2 * (above // columns) + (rows % 2)[:, None]
    column = 2 * (above % columns) + cols % 2
    return row.clamp(max=size_a[0] - 1) * size_a[1] + column.clamp(max=size_a[1] - 1)


@dataclass(frozen=True)
class Matcher:
    """BESTMATCH of the paper for one level: the better of the approximate and the coherent match.

    features: F(p) of the pixels of A and A', (h·w, D). known: the part of F(q) of B and B' that does not change,
    (D, H, W). changing: the part of B' at this level and its axes; None if it is ignored.
    candidates: the pixels of A' that may be copied, which are at least `margin` pixels from the border.
    """

    features: Tensor
    size_a: tuple[int, int]
    margin: int
    candidates: Tensor
    index: InvertedFile
    known: Tensor
    changing: tuple[Part, Tensor] | None

    @classmethod
    def build(
        cls,
        parts_a: list[Part],
        parts_b: list[Part],
        sizes: tuple[tuple[int, int], tuple[int, int]],
        random: torch.Generator,
        *,
        blind: bool,
        margin: int,
        ties: float,
        cells: int | None,
    ) -> "Matcher":
        """Compute the features of one level.

        blind: whether to ignore the first part, B' at this level. ties: standard deviation of noise in two more
        dimensions of the feature vectors. cells: as in `create`.
        """
        size_a, size_b = sizes
        parts_a, parts_b = parts_a[blind:], parts_b[blind:]
        axes = principal_axes(parts_a, size_a, random)
        features = reduce(torch.add, (part.projected(own, size_a) for part, own in zip(parts_a, axes, strict=True)))
        still = list(zip(parts_b, axes, strict=True))[0 if blind else 1 :]
        known = sum((part.projected(its, size_b) for part, its in still), features.new_zeros(len(features), *size_b))
        if ties:
            noise = [ties * torch.randn(2, *size, generator=random).to(features.device) for size in sizes]
            features, known = torch.cat([features, noise[0]]), torch.cat([known, noise[1]])
        rows = features.flatten(1).T.contiguous()
        inside = torch.arange(math.prod(size_a), device=rows.device).view(size_a)
        candidates = inside[margin : size_a[0] - margin, margin : size_a[1] - margin].flatten()
        index = InvertedFile.build(rows[candidates], random, cells=cells)
        return cls(rows, size_a, margin, candidates, index, known, None if blind else (parts_b[0], axes[0]))

    def revise(self, source: Tensor, a_prime: Tensor, b_prime: Tensor, coherence: float) -> float:
        """Choose s(q) again for all q, a quarter of them at a time; `source` and `b_prime` are changed in place.

        coherence: greatest ratio of the squared distance of the coherent match to that of the approximate match at
        which the coherent match is taken. Returns the mean of |F(s(q)) - F(q)|.
        """
        total = 0.0
        for top, left in ((0, 0), (1, 1), (0, 1), (1, 0)):
            these = (slice(None), slice(top, None, 2), slice(left, None, 2))
            if not source[these[1:]].numel():
                continue
            queries = self.known[these]
            if self.changing is not None:
                part, axes = self.changing
                queries = queries + part.every_second(axes, top, left)
            queries = queries.flatten(1).T.contiguous()
            approximate, found = self.index.search(queries)
            coherent, pixels = self.coherent_match(queries, source, top, left)
            better = coherent <= coherence * approximate
            chosen = torch.where(better, pixels, self.candidates[found]).view_as(source[these[1:]])
            source[these[1:]] = chosen
            b_prime[these] = a_prime.flatten(1)[:, chosen]
            total += torch.where(better, coherent, approximate).sqrt().double().sum().item()
        return total / source.numel()

    def coherent_match(self, queries: Tensor, source: Tensor, top: int, left: int) -> tuple[Tensor, Tensor]:
        """BESTCOHERENCEMATCH: the best of s(r) + (q - r) over the neighbors r of q; squared distances and pixels."""
        height, width = source.shape
        rows = torch.arange(top, height, 2, device=source.device)[:, None]
        columns = torch.arange(left, width, 2, device=source.device)
        best = queries.new_full((len(queries),), math.inf)
        pixels = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                neighbor = source[(rows + down).clamp(0, height - 1), (columns + right).clamp(0, width - 1)]
                row, column = neighbor // self.size_a[1] - down, neighbor % self.size_a[1] - right
                valid = self.inside(row, column).flatten()
                pixel = (
                    row.clamp(0, self.size_a[0] - 1) * self.size_a[1] + column.clamp(0, self.size_a[1] - 1)
                ).flatten()
                distance = (self.features[pixel] - queries).square().sum(1).masked_fill(~valid, math.inf)
                better = distance < best
                best, pixels = torch.where(better, distance, best), torch.where(better, pixel, pixels)
        return best, pixels

    def inside(self, row: Tensor, column: Tensor) -> Tensor:
        """Whether these pixels of A' are candidates."""
        height, width = (length - self.margin for length in self.size_a)
        return (row >= self.margin) & (row < height) & (column >= self.margin) & (column < width)
