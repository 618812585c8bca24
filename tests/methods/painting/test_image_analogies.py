import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mlcli.errors import DataError
from mlcli.imaging import image_io
from mlcli.methods.painting import image_analogies
from mlcli.methods.painting.configs import ANALOGIES
from mlcli.runtime.random_streams import generator

FILTER = ANALOGIES["filter"]


def sample_image(height, width, seed=0, cell=6):
    """Soft blots of all colors with some grain: (3, height, width) in [0, 1]."""
    random = generator(seed)
    small = torch.rand(1, 3, max(2, height // cell), max(2, width // cell), generator=random)
    blots = F.interpolate(small, size=(height, width), mode="bicubic", align_corners=False)[0]
    return (blots + 0.03 * torch.randn(3, height, width, generator=random)).clamp(0, 1)


def edges(image):
    """A filter of luminance: the horizontal difference about mid-gray."""
    gray = image_io.to_gray(image)
    return (0.5 + (gray.roll(-1, 2) - gray.roll(1, 2))).clamp(0, 1).expand(3, -1, -1).contiguous()


def test_yiq():
    image = sample_image(9, 7)
    yiq = image_analogies.to_yiq(image)
    assert torch.allclose(yiq[:1], image_io.to_gray(image), atol=1e-6)
    assert torch.allclose(image_analogies.from_yiq(yiq), image, atol=1e-5)
    gray = image_analogies.to_yiq(torch.full((3, 2, 2), 0.4))
    assert gray[1:].abs().max() < 1e-6


def test_the_pyramid_is_that_of_burt_and_adelson():
    image = sample_image(7, 10)[:1]
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    wide = np.pad(image[0].double().numpy(), 2, mode="edge")
    rows = range(0, 7, 2)
    expected = [[kernel @ wide[y : y + 5, x : x + 5] @ kernel for x in range(0, 10, 2)] for y in rows]
    levels = image_analogies.pyramid(image, 3)
    assert [tuple(level.shape) for level in levels] == [(1, 7, 10), (1, 4, 5), (1, 2, 3)]
    assert np.allclose(levels[1][0], expected, atol=1e-6) and torch.equal(levels[0], image)


def test_luminance_is_remapped_to_mean_and_deviation():
    a, a_prime, b = (image_analogies.to_yiq(sample_image(12, 12, seed)) for seed in (1, 2, 3))
    mapped = image_analogies.remap_luminance(a, a, b)
    assert math.isclose(mapped[0].mean(), b[0].mean(), abs_tol=1e-5)
    assert math.isclose(mapped[0].std(), b[0].std(), abs_tol=1e-5)
    assert torch.equal(mapped[1:], a[1:])
    scale = b[0].std() / a[0].std()
    assert torch.allclose(
        image_analogies.remap_luminance(a_prime, a, b)[0], scale * (a_prime[0] - a[0].mean()) + b[0].mean()
    )
    flat = torch.full((3, 4, 4), 0.5)
    assert image_analogies.remap_luminance(flat, flat, b).isfinite().all()


def test_whose_colors():
    a = sample_image(20, 20)
    sepia = image_io.to_gray(a) * torch.tensor([1.0, 0.8, 0.55])[:, None, None]
    of = {"b": [a, 0.5 * a, a.roll(1, 1)], "a-prime": [sepia, image_io.to_gray(a).expand(3, -1, -1), 1 - a]}
    for source, primes in of.items():
        for prime in primes:
            assert image_analogies.color_source(image_analogies.to_yiq(a), image_analogies.to_yiq(prime)) == source
    gray = image_io.to_gray(a).expand(3, -1, -1)
    assert image_analogies.color_source(image_analogies.to_yiq(gray), image_analogies.to_yiq(edges(gray))) == "b"
    assert image_analogies.color_source(None, a) == "a-prime"


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("side, coarse", [(5, False), (3, True)])
def test_neighborhoods(side, coarse, wrap):
    size = (9, 7)
    image = sample_image(5, 4)[:2] if coarse else sample_image(*size)[:2]
    part = image_analogies.Part(image, side, 2.0, coarse, wrap)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    patches = part.patches(rows, columns)
    # By hand, pixel by pixel
    reach = side // 2
    gaussian = {
        (y, x): math.exp(-(y * y + x * x) / (2 * (side / 4) ** 2))
        for y in range(-reach, reach + 1)
        for x in range(-reach, reach + 1)
    }
    total = sum(gaussian.values())
    height, width = image.shape[1:]
    for number in (0, 17, 38, 62):
        row, column = int(rows[number]) // (1 + coarse), int(columns[number]) // (1 + coarse)
        expected = []
        for channel in image:
            for (y, x), weight in gaussian.items():
                y, x = row + y, column + x
                y, x = (y % height, x % width) if wrap else (min(max(y, 0), height - 1), min(max(x, 0), width - 1))
                expected.append(float(channel[y, x]) * math.sqrt(2 * weight / total))
        assert np.allclose(patches[number], expected, atol=1e-6)
    axes = torch.randn(patches.shape[1], 6, generator=generator(1))
    projected = part.projected(axes, size)
    assert torch.allclose(projected.flatten(1).T, patches @ axes, atol=1e-5)
    if not coarse:
        for top, left in ((0, 0), (1, 0), (0, 1), (1, 1)):
            some = part.every_second(axes, top, left)
            assert torch.allclose(some, projected[:, top::2, left::2], atol=1e-5)


def test_the_source_map_of_the_level_below():
    source = torch.tensor([[0, 4], [5, 2]])  # into A' of 2 x 3: (0, 0), (1, 1); (1, 2), (0, 2)
    finer = image_analogies.finer(source, 3, (3, 6), (3, 4))  # A' of 3 x 6
    expected = [[(0, 0), (0, 1), (2, 2), (2, 3)], [(1, 0), (1, 1), (2, 2), (2, 3)], [(2, 4), (2, 5), (0, 4), (0, 5)]]
    assert finer.tolist() == [[row * 6 + column for row, column in line] for line in expected]


def matcher(margin=0, blind=True, **more):
    a, a_prime, b, b_prime = (sample_image(*size, seed)[:1] for seed, size in enumerate([(14, 11)] * 2 + [(9, 10)] * 2))
    parts_a = image_analogies.feature_parts([a], [a_prime], 0, 2.0)
    parts_b = image_analogies.feature_parts([b], [b_prime], 0, 2.0)
    options = {"blind": blind, "margin": margin, "ties": 0.0, "cells": 1} | more
    built = image_analogies.Matcher.build(parts_a, parts_b, ((14, 11), (9, 10)), generator(0), **options)
    return built, a_prime, b_prime


def test_the_best_match_without_coherence_is_brute_force():
    built, a_prime, b_prime = matcher()
    source = torch.randint(14 * 11, (9, 10), generator=generator(5))
    distance = built.revise(source, a_prime, b_prime, coherence=1.0)
    queries = built.known.flatten(1).T.double()
    distances = torch.cdist(queries, built.features.double())
    chosen = distances.gather(1, source.flatten()[:, None])[:, 0]
    assert torch.allclose(chosen, distances.min(1).values, atol=1e-3)
    assert math.isclose(distance, distances.min(1).values.mean(), rel_tol=1e-3)
    assert torch.equal(b_prime.flatten(), a_prime.flatten()[source.flatten()])


@pytest.mark.parametrize("margin", [0, 2])
def test_the_coherent_match(margin):
    built, *_ = matcher(margin)
    source = torch.randint(14 * 11, (9, 10), generator=generator(6))
    top, left = 1, 0
    queries = built.known[:, top::2, left::2].flatten(1).T
    distances, pixels = built.coherent_match(queries, source, top, left)
    for number, (y, x) in enumerate((y, x) for y in range(top, 9, 2) for x in range(left, 10, 2)):
        best = math.inf
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                # A neighbor beyond the edge counts as the edge's pixel does: it is one more offset of it
                r = min(max(y + down, 0), 8), min(max(x + right, 0), 9)
                row, column = int(source[r]) // 11 - down, int(source[r]) % 11 - right
                if margin <= row < 14 - margin and margin <= column < 11 - margin:
                    best = min(best, float((built.features[row * 11 + column] - queries[number]).square().sum()))
        assert distances[number] == pytest.approx(best, rel=1e-4)
        if best < math.inf:
            found = (built.features[pixels[number]] - queries[number]).square().sum()
            assert float(found) == pytest.approx(best, rel=1e-4)


def test_coherence_wins_within_its_weight():
    for coherence, coherent in ((1e9, True), (0.0, False)):
        built, a_prime, b_prime = matcher()
        source = torch.arange(9)[:, None] * 11 + torch.arange(10)  # a copy of one corner of A', all of a piece
        start = source.clone()
        built.revise(source, a_prime, b_prime, coherence)
        assert ((source - start).abs() <= 12).all() == coherent


def test_textures_copy_no_pixel_of_the_border():
    built, a_prime, b_prime = matcher(margin=2)
    source = torch.zeros(9, 10, dtype=torch.long)
    for _ in range(2):
        built.revise(source, a_prime, b_prime, 1.0)
    assert (source // 11).min() >= 2 and (source // 11).max() < 12
    assert (source % 11).min() >= 2 and (source % 11).max() < 9


def test_the_image_itself_is_found_again():
    a = sample_image(40, 33)
    result = image_analogies.create(a, edges(a), a, FILTER)
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(33), indexing="ij")
    assert (result.source == torch.stack([rows, columns], -1)).all(-1).float().mean() > 0.98
    assert result.distance < 0.002


@pytest.mark.parametrize("size", [(64, 64), (50, 71)])
def test_a_filter_is_learned(size):
    a, b = sample_image(64, 64, 1), sample_image(*size, 2)
    truth = image_io.to_gray(edges(b))
    fractions = []
    result = image_analogies.create(a, edges(a), b, replace(FILTER, color="b"), progress=fractions.append)
    assert result.b_prime.shape == b.shape and result.b_prime.min() >= 0 and result.b_prime.max() <= 1

    def decibel(image):
        return float(-10 * (image_io.to_gray(image) - truth).square().mean().log10())

    assert decibel(result.b_prime) > decibel(b) + 8
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_colors_come_from_b_or_from_a_prime():
    a, b = sample_image(32, 32, 1), sample_image(32, 32, 2)
    darker = image_analogies.create(a, 0.8 * a, b, FILTER)
    assert darker.color == "b"
    inside = (darker.b_prime > 0.01) & (darker.b_prime < 0.99)  # not clamped
    chroma = (image_analogies.to_yiq(darker.b_prime) - image_analogies.to_yiq(b))[1:].abs().amax(0)
    assert chroma[inside.all(0)].max() < 1e-4
    tone = torch.tensor([1.0, 0.8, 0.55])[:, None, None]
    sepia = image_analogies.create(a, image_io.to_gray(a) * tone, b, FILTER)
    assert sepia.color == "a-prime"
    truth = image_io.to_gray(b) * tone
    assert (sepia.b_prime - truth).abs().mean() < 0.02
    gray = image_io.to_gray(b).expand(3, -1, -1)
    result = image_analogies.create(image_io.to_gray(a).expand(3, -1, -1), edges(a), gray, FILTER).b_prime
    assert (result.amax(0) - result.amin(0)).max() < 1e-4


def test_remapping_reaches_a_darker_image():
    a = sample_image(48, 48, 1)
    b = 0.3 * sample_image(48, 48, 2)
    softer = [image[None].roll(1, 2).add(image).div(2)[0] for image in (a, b)]  # commutes with the remapping
    error = {
        remap: (image_analogies.create(a, softer[0], b, replace(FILTER, remap=remap)).b_prime - softer[1])
        .square()
        .mean()
        for remap in ("none", "a")
    }
    assert error["a"] < 0.5 * error["none"]


def test_a_texture_of_stripes_continues():
    stripes = (torch.arange(64) // 4 % 2).float().expand(3, 64, 64)
    result = image_analogies.create(None, stripes, None, ANALOGIES["texture-synthesis"], size=(56, 80))
    assert result.b_prime.shape == (3, 56, 80)
    gray = result.b_prime[0].round()
    assert torch.allclose(result.b_prime, gray.expand(3, -1, -1), atol=1e-5)  # copies
    assert (gray == gray.roll(1, 0)).float().mean() > 0.9
    assert (gray != gray.roll(1, 1)).float().mean() == pytest.approx(1 / 4, abs=0.04)
    assert 0.4 < gray.mean() < 0.6


def test_a_texture_can_be_tiled():
    texture = sample_image(64, 64, 5, cell=8)
    gray = image_analogies.to_yiq(
        image_analogies.create(None, texture, None, ANALOGIES["texture-synthesis"], size=(48, 48)).b_prime
    )[0]
    for side in (0, 1):
        steps = (gray - gray.roll(1, side)).abs().mean(1 - side)
        assert steps[0] < 1.5 * steps[1:].mean()  # the first is that over the seam


def test_numbers_are_painted_with_their_textures():
    labels = torch.zeros(3, 48, 48)
    labels[0, :, :24], labels[2, :, 24:] = 0.4, 0.8
    painting = sample_image(48, 48, 4, cell=3) * 0.3
    painting[1, :, :24] += 0.6
    painting[0, :, 24:] += 0.6
    target = labels.transpose(1, 2).contiguous()
    result = image_analogies.create(labels, painting, target, ANALOGIES["texture-by-numbers"])
    green = result.b_prime[1] > result.b_prime[0]
    assert green[:22].float().mean() > 0.98 and green[26:].float().mean() < 0.02


def test_a_texture_takes_the_shape_of_a_image():
    texture = sample_image(64, 64, 5, cell=3)
    b = torch.zeros(3, 64, 64)
    b[:, :, 32:] = 0.1  # both darker than the texture, were it not for the remapping
    result = image_analogies.create(texture, texture, b, ANALOGIES["texture-transfer"])
    gray = image_io.to_gray(result.b_prime)[0]
    assert gray[:, 36:].mean() > gray[:, :28].mean() + 0.1
    row, column = result.source.unbind(-1)
    assert torch.allclose(result.b_prime, texture[:, row, column], atol=1e-5)
    assert min(row.min(), column.min()) >= 2 and max(row.max(), column.max()) < 62


def test_among_equal_neighborhoods_chance_decides():
    flat = torch.full((1, 20, 20), 0.5)
    parts = image_analogies.feature_parts([flat], [flat], 0, 1.0)
    distinct = []
    for ties in (0.0, image_analogies.TIES):
        built = image_analogies.Matcher.build(
            parts, parts, ((20, 20), (20, 20)), generator(0), blind=True, margin=0, ties=ties, cells=1
        )
        found = built.index.search(built.known.flatten(1).T.contiguous())[1].view(20, 20)[4:-4, 4:-4]
        distinct.append(len(found.unique()))
    assert distinct[0] < 10 and distinct[1] > 50


def test_more_weight_on_coherence_copies_larger_pieces():
    texture, b = sample_image(48, 48, 5, cell=3), sample_image(48, 48, 6)
    pieces = []
    for kappa in (0.0, 5.0, 1000.0):
        source = image_analogies.create(texture, texture, b, replace(ANALOGIES["texture-transfer"], kappa=kappa)).source
        step = source[:, 1:] - source[:, :-1]
        pieces.append(float((step == torch.tensor([0, 1])).all(-1).float().mean()))
    assert pieces[0] < min(pieces[1:]) - 0.1


def test_the_weight_of_coherence_is_halved_from_level_to_level(monkeypatch):
    """1 + kappa 2^(l - L) at level l, where L is the finest level (Hertzmann et al. 2001, section 3.1)."""
    found = []

    def revise(matcher, source, a_prime, b_prime, coherence):
        found.append((source.numel(), coherence))
        return 0.0

    monkeypatch.setattr(image_analogies.Matcher, "revise", revise)
    a = sample_image(64, 64)
    image_analogies.create(a, edges(a), a, replace(FILTER, kappa=8.0, levels=3, passes=1))
    assert found == [(16 * 16, 3.0), (32 * 32, 5.0), (64 * 64, 9.0)]


def test_a_search_in_cells_comes_near_the_exact_one():
    a, b = sample_image(64, 64, 1), sample_image(64, 64, 2)
    found, exact = (image_analogies.create(a, edges(a), b, FILTER, cells=cells).distance for cells in (None, 1))
    assert found < 1.05 * exact


def test_the_seed_is_all_the_chance_there_is():
    texture = sample_image(40, 40, 5, cell=3)
    synthesis = ANALOGIES["texture-synthesis"]
    one, again, other = (
        image_analogies.create(None, texture, None, replace(synthesis, seed=seed), size=(24, 24)).b_prime
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("mode", ANALOGIES)
@pytest.mark.parametrize("small, large", [((1, 1), (1, 1)), ((1, 1), (20, 3)), ((2, 37), (1, 1)), ((3, 3), (1, 50))])
def test_tiny_images(mode, small, large):
    a, b = sample_image(*small, 1), sample_image(*large, 2)
    if mode == "texture-synthesis":
        result = image_analogies.create(None, a, None, ANALOGIES[mode], size=large)
    else:
        result = image_analogies.create(a, 1 - a, b, ANALOGIES[mode])
    assert result.b_prime.shape == b.shape and result.b_prime.isfinite().all()


def test_flat_images():
    flat = torch.full((3, 40, 40), 0.5)
    for remap in ("none", "a", "b"):
        result = image_analogies.create(flat, flat, sample_image(40, 40), replace(FILTER, remap=remap, color="a-prime"))
        assert result.b_prime.isfinite().all()


def test_sizes_that_differ():
    with pytest.raises(DataError, match="A is 5 x 4 pixels and A' 4 x 5"):
        image_analogies.create(sample_image(4, 5), sample_image(5, 4), sample_image(4, 4), FILTER)
