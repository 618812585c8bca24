import pytest
import torch

from mlcli.methods.painting.inverted_file import CROWDED, InvertedFile, nearest, row_minimum
from mlcli.runtime.random_streams import generator


def curve(count, seed, dimensions=8):
    """Points about a curve, as neighborhoods of images lie about surfaces of few dimensions."""
    random = generator(seed)
    at = torch.rand(count, 1, generator=random) * torch.arange(1.0, dimensions + 1)
    return torch.cos(at) + 0.05 * torch.randn(count, dimensions, generator=random)


def brute_force(queries, points):
    distances = torch.cdist(queries.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return distances.min(1)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 700, 5000])
def test_nearest_is_brute_force(count):
    queries, points = curve(300, 1), curve(count, 2)
    distances, numbers = nearest(queries, points)
    expected = brute_force(queries, points)
    assert torch.equal(numbers, expected.indices)
    assert torch.allclose(distances.double(), expected.values, atol=1e-5)


def test_the_minimum_of_rows_and_its_index():
    values = torch.randn(17, 200, generator=generator(0))
    least, index = row_minimum(values)
    assert torch.equal(least, values.min(1).values) and torch.equal(index, values.min(1).indices)


def test_one_cell_is_exact():
    queries, points = curve(200, 3), curve(3000, 4)
    distances, numbers = InvertedFile.build(points, generator(0), cells=1).search(queries)
    assert torch.equal(numbers, brute_force(queries, points).indices)


def test_many_cells_come_near_brute_force():
    queries, points = curve(1000, 5), curve(6000, 6)
    index = InvertedFile.build(points, generator(0))
    assert len(index.centers) == 77 and max(map(len, index.cell_points)) < len(points) / 4
    distances, numbers = index.search(queries)
    expected = brute_force(queries, points)
    assert torch.allclose(distances, (points[numbers] - queries).square().sum(1), atol=1e-4)
    assert (numbers == expected.indices).float().mean() > 0.95
    assert distances.sqrt().mean() < 1.02 * expected.values.sqrt().mean()
    again = InvertedFile.build(points, generator(0)).search(queries)
    assert torch.equal(again[0], distances) and torch.equal(again[1], numbers)


def test_a_crowd_of_equal_points_costs_no_more_than_others():
    points = torch.cat([torch.ones(5000, 4), curve(100, 7, 4) + 5])
    index = InvertedFile.build(points, generator(0), probes=2)
    assert max(map(len, index.cell_points)) <= 2 * CROWDED * 72
    distances, numbers = index.search(points[-100:])
    assert (distances < 1e-3).float().mean() > 0.9 and (numbers[distances < 1e-3] >= 5000).all()
    assert index.search(torch.ones(3, 4))[0].max() < 1e-4


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_points(count):
    points = torch.arange(float(count))[:, None]
    distances, numbers = InvertedFile.build(points, generator(0)).search(points + 0.25)
    assert numbers.tolist() == list(range(count)) and torch.allclose(distances, torch.tensor(0.0625))
    empty = InvertedFile.build(points, generator(0)).search(points[:0])
    assert [len(part) for part in empty] == [0, 0]
