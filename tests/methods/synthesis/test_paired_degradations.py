"""Each X = f^-1(Y) against values computed another way, and on drawn images whose edges and regions are known."""

import math
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.imaging import image_io
from mlcli.methods.synthesis import paired_degradations
from mlcli.methods.synthesis.configs import INVERSES
from mlcli.methods.synthesis.paired_degradations import (
    blur,
    components,
    edges,
    gradient,
    k_means,
    lab,
    labels,
    low_resolution,
    mosaic,
    otsu,
    pair,
    without_corners,
    without_specks,
)

PHOTOS = Path(__file__).parents[3] / "samples" / "photos"


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def disc(side: int, radius: float, inside=(0.9, 0.2, 0.1), outside=(0.1, 0.2, 0.9)) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(side) - side / 2 + 0.5, torch.arange(side) - side / 2 + 0.5, indexing="ij")
    fraction = (radius + 0.5 - torch.hypot(x, y)).clamp(0, 1)
    return fraction * torch.tensor(inside)[:, None, None] + (1 - fraction) * torch.tensor(outside)[:, None, None]


# ----------------------------------------------------------------------------------------------- plain filters


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_is_a_gaussian(sigma):
    image = noise(2, 9, 11)
    radius = max(1, math.ceil(3 * sigma))
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    padded = np.pad(image.double().numpy(), ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    expected = np.zeros((2, 9, 11))
    for i, down in enumerate(weights):
        for j, right in enumerate(weights):
            expected += down * right * padded[:, i : i + 9, j : j + 11]
    assert np.allclose(blur(image, sigma), expected, atol=1e-6)


def test_low_resolution_takes_what_is_fine_and_leaves_what_is_coarse():
    fine = torch.zeros(3, 32, 32)
    fine[:, ::2] = 1
    assert (low_resolution(fine, 4)[:, 4:-4] - 0.5).abs().max() < 0.02
    ramp = torch.linspace(0.1, 0.9, 32).expand(3, 32, 32)
    assert (low_resolution(ramp, 4) - ramp)[:, :, 6:-6].abs().max() < 0.006
    assert low_resolution(noise(3, 13, 7), 4).shape == (3, 13, 7)


def test_mosaic_by_hand():
    image = torch.tensor([[1.0, 3, 5, 7, 9], [1, 3, 5, 7, 9], [0, 2, 4, 6, 8]])[None]
    expected = torch.tensor([[2.0, 2, 6, 6, 9], [2, 2, 6, 6, 9], [1, 1, 5, 5, 8]])[None]
    assert torch.equal(mosaic(image, 2), expected)
    assert torch.allclose(mosaic(image, 99), image.mean().expand(1, 3, 5))


# ------------------------------------------------------------------------------------------------------- edges


def test_gradient_of_the_steepest_channel():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    image = torch.stack([0.01 * x, 0.03 * x - 0.04 * y, 0 * x])
    gx, gy = gradient(image)
    assert torch.allclose(gx[1:-1, 1:-1], torch.tensor(0.03)) and torch.allclose(gy[1:-1, 1:-1], torch.tensor(-0.04))


@pytest.mark.parametrize("sigma", [0.7, 1.5])
def test_the_edge_of_a_disc_is_a_thin_closed_ring_where_it_should_be(sigma):
    side, radius = 64, 20
    found = edges(disc(side, radius), sigma)[0] == 0
    y, x = (found.nonzero() - side / 2 + 0.5).T
    assert (torch.hypot(x, y) - radius).abs().max() < 1.2
    assert len(x) < 2 * math.pi * radius * 1.1  # thin
    angles = torch.atan2(y, x).sort().values
    assert angles.diff().max() < 0.12  # closed: neighbors are about 1 / 20 apart
    assert components(found, diagonal=True).max() == 0


def test_the_corners_of_stairs_go_and_lines_stay_whole():
    stairs = torch.zeros(9, 9, dtype=torch.bool)
    for step in range(8):
        stairs[step, step : step + 2] = True
    thin = without_corners(stairs)
    assert thin.sum() == 9 and components(thin, diagonal=True).max() == 0
    crossing = torch.zeros(9, 9, dtype=torch.bool)
    crossing[4], crossing[:, 4] = True, True
    assert torch.equal(without_corners(crossing), crossing)
    for seed in range(20):
        mask = noise(20, 20, seed=seed) < 0.3
        assert components(without_corners(mask), diagonal=True).max() == components(mask, diagonal=True).max()


def test_edges_between_equally_bright_colors_are_found():
    assert (edges(disc(48, 15, (0.587, 0, 0.5), (0, 0.299, 0.5)), 1.0) == 0).sum() > 60


def test_faint_edges_count_where_they_go_on_from_strong_ones():
    image = torch.full((3, 60, 60), 0.5)
    image[:, 20:, :30] += torch.linspace(0.5, 0.15, 30)  # an edge that fades
    image[:, 50:, 45:] += 0.15  # one no fainter than its end, alone
    found = edges(image, 1.0)[0] == 0
    assert found[19:21, 2:28].any(0).all() and found[22:, 29:31].any(1).all()
    assert not found[:, 40:].any()


def test_flat_and_nearly_flat_images_have_no_edges():
    assert (edges(torch.full((3, 20, 20), 0.3), 1.0) == 1).all()
    assert (edges(0.5 + 0.01 * noise(3, 40, 40), 1.0) == 1).all()


def test_edges_of_a_photograph_are_lines():
    image = image_io.fill(image_io.to_unit(image_io.read(PHOTOS / "coffee.jpg")), (128, 128))
    found = edges(image, paired_degradations.default_strength("edges", 128))[0] == 0
    assert 0.02 < found.float().mean() < 0.15
    blocks = torch.nn.functional.avg_pool2d(found[None, None].float(), 3, 1)
    assert blocks.max() < 0.8  # nowhere a blot
    sizes = torch.bincount(components(found, diagonal=True)[found])
    assert sizes.min() >= 6


def test_otsu_against_every_threshold():
    values = torch.cat([0.2 + 0.05 * noise(300), 0.7 + 0.1 * noise(100, seed=1)])

    def within(threshold):
        low, high = values[values <= threshold], values[values > threshold]
        return sum(float(((part - part.mean()).double() ** 2).sum()) for part in (low, high) if len(part))

    best = min(within(threshold) for threshold in np.linspace(0.21, 0.79, 400))
    assert within(otsu(values)) <= best * 1.001
    assert 0.24 < otsu(values) < 0.7


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("fraction", [0.4, 0.6])
def test_components_against_a_flood(diagonal, fraction):
    mask = noise(23, 31) < fraction
    values = (noise(23, 31, seed=1) * 2).long()
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)] + ([(1, 1), (1, -1), (-1, 1), (-1, -1)] if diagonal else [])
    for like in (None, values):
        expected, count = torch.full((23, 31), -1), 0
        for start in mask.nonzero().tolist():
            if expected[tuple(start)] >= 0:
                continue
            queue = deque([tuple(start)])
            expected[tuple(start)] = count
            while queue:
                y, x = queue.popleft()
                for down, right in steps:
                    there = y + down, x + right
                    if not (0 <= there[0] < 23 and 0 <= there[1] < 31) or not mask[there] or expected[there] >= 0:
                        continue
                    if like is None or like[there] == like[y, x]:
                        expected[there] = count
                        queue.append(there)
            count += 1
        assert torch.equal(components(mask, diagonal=diagonal, like=like), expected)
    assert (components(torch.zeros(3, 3, dtype=torch.bool)) == -1).all()


def test_components_of_a_spiral_are_one():
    side = 41
    mask = torch.zeros(side, side, dtype=torch.bool)
    y, x, down, right = 0, 0, 0, 1
    mask[0, 0] = True
    for length in [side - 1] + [n for k in range(side - 1, 0, -2) for n in (k, k)]:
        for _ in range(length):
            y, x = y + down, x + right
            mask[y, x] = True
        down, right = right, -down
    assert components(mask).max() == 0 and mask.sum() > 800


# ------------------------------------------------------------------------------------------------------ labels


def test_lab_of_known_colors():
    colors = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).T[:, None]
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    assert torch.allclose(lab(colors)[:, 0].T, torch.tensor(known), atol=0.1)


def test_k_means_finds_clusters_and_stops_at_few_colors():
    true = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    points = (true[torch.arange(400) % 4] + noise(400, 2)).contiguous()
    centers = k_means(points, 4)
    assert (torch.cdist(true + 0.5, centers).min(1).values < 0.1).all()
    assert len(k_means(true[torch.arange(50) % 3], 8)) == 3


def test_labels_of_flat_regions_are_those_regions():
    image = torch.empty(3, 60, 80)
    image[:] = torch.tensor([0.9, 0.9, 0.2])[:, None, None]
    image[:, :, :40] = torch.tensor([0.1, 0.1, 0.5])[:, None, None]
    image[:, 30:, :20] = torch.tensor([0.8, 0.2, 0.2])[:, None, None]
    truth = torch.full((60, 80), 2)
    truth[:, :40], truth[30:, :20] = 0, 1
    image[:, 10:12, 60:62] = 0  # a speck
    numbers, colors = labels((image + 0.05 * noise(3, 60, 80)).clamp(0, 1), 3)
    assert numbers.dtype == torch.uint8 and (numbers != truth).float().mean() < 0.01
    assert numbers[10:12, 60:62].unique().tolist() == [2]
    expected = torch.tensor([[31, 31, 134], [210, 57, 57], [235, 235, 57]])  # of dark to light, with the noise
    assert (colors.int() - expected).abs().max() <= 6


def test_specks_take_the_class_with_which_they_share_most_border():
    numbers = torch.zeros(12, 12, dtype=torch.long)
    numbers[:, 6:] = 1
    numbers[3:5, 5:7] = 2  # 4 pixels, half in each
    numbers[3, 4] = 2  # and one more
    numbers[9, 9], numbers[9, 10] = 3, 4  # two specks that touch
    cleaned = without_specks(numbers, 6)
    expected = torch.zeros(12, 12, dtype=torch.long)
    expected[:, 6:] = 1
    expected[3:5, 5:7] = 0
    assert torch.equal(cleaned, expected)
    crowded = (noise(40, 40) * 9).long()  # no region is large to begin with
    assert torch.bincount(components(torch.ones(40, 40).bool(), like=without_specks(crowded, 30)).flatten()).min() >= 30


# --------------------------------------------------------------------------------------------------- the pairs


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (33, 50)])
def test_any_size(name, size):
    image = noise(3, *size)
    x = paired_degradations.make(name, image)
    if isinstance(x, Image.Image):
        assert x.size == size[::-1] and x.mode == "P"
    else:
        assert x.shape[1:] == size and x.isfinite().all() and 0 <= x.min() and x.max() <= 1 + 1e-6
    again = paired_degradations.make(name, image)
    assert again == x if isinstance(x, Image.Image) else torch.equal(x, again)


def test_strength_counts():
    image = image_io.fill(image_io.to_unit(image_io.read(PHOTOS / "cat.jpg")), (64, 64))

    def detail(x):
        return (x - blur(x, 1)).abs().mean()

    for name, weak, strong in [("blur", 1, 4), ("low-resolution", 2, 8), ("mosaic", 2, 16)]:
        assert paired_degradations.make(name, image, strong).std() < paired_degradations.make(name, image, weak).std()
    assert detail(paired_degradations.make("blur", image, 4)) < 0.3 * detail(paired_degradations.make("blur", image, 1))
    assert (paired_degradations.make("edges", image, 0.5) == 0).sum() > 1.5 * (
        paired_degradations.make("edges", image, 3) == 0
    ).sum()
    counts = [len(np.unique(np.asarray(paired_degradations.make("labels", image, n)))) for n in (3, 12)]
    assert counts[0] == 3 and 6 < counts[1] <= 12


def test_pairs_of_gray_images_are_gray_and_size_is_cut_from_the_middle():
    image = (noise(1, 20, 30) * 255).to(torch.uint8).expand(3, -1, -1)
    for name in ("gray", "blur", "mosaic", "low-resolution", "edges"):
        x, y = pair(name, image)
        assert x.shape == y.shape == (1, 20, 30)
    assert torch.equal(image_io.to_bytes(y), image[:1])
    image = torch.stack([noise(20, 30)] * 2 + [torch.zeros(20, 30)])
    x, y = pair("blur", image, None, (20, 10))
    assert x.shape == y.shape == (3, 20, 10) and torch.equal(y, image[:, :, 10:20])
    x, y = pair("gray", image, None, (5, 9))
    assert x.shape == (1, 5, 9) and torch.allclose(x, image_io.to_gray(y))
