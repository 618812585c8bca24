import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.visualization.motion import (
    CIRCULAR,
    FLIPS,
    SYMMETRIC,
    Grid,
    amounts,
    motion,
    sample,
    transform_values,
)

IMAGE = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
POSITIONS = torch.arange(8, dtype=torch.float64)
WHOLE = Grid(POSITIONS[:, None], POSITIONS[None], 1.0, (0.0, 0.0))


@pytest.mark.parametrize(
    "transform, amount, wanted",
    [
        ("shift", 3, IMAGE.roll(3, 3)),
        ("shift", 0, IMAGE),
        ("flip", "left-right", IMAGE.flip(3)),
        ("flip", "upside down", IMAGE.flip(2)),
        ("flip", "both", IMAGE.flip(2, 3)),
        ("rotate", 90, IMAGE.rot90(1, (2, 3))),
        ("rotate", 180, IMAGE.rot90(2, (2, 3))),
        ("rotate", 270, IMAGE.rot90(3, (2, 3))),
        ("scale", 1.0, IMAGE),
    ],
)
def test_what_takes_pixels_to_pixels_is_exact(transform, amount, wanted):
    found, exact = transform_values(IMAGE, motion(transform, amount), WHOLE, 8, CIRCULAR)
    assert exact and torch.equal(found, wanted)


def test_beyond_the_border_is_a_reflection():
    found, exact = transform_values(IMAGE, motion("shift", 3), WHOLE, 8, SYMMETRIC)
    assert exact and torch.equal(found[..., 3:], IMAGE[..., :5])
    assert torch.equal(found[..., :3], IMAGE[..., :3].flip(3))
    far, _ = sample(IMAGE, POSITIONS[:, None] * 0 - 17, POSITIONS[None] * 0 + 15, SYMMETRIC)  # two reflections away
    assert torch.equal(far, IMAGE[..., :1, :1].expand_as(far))


def test_a_slope_stays_a_slope_between_pixels():
    slope = (2 * POSITIONS[:, None] + 3 * POSITIONS[None]).float()[None, None]
    for transform, amount in (("rotate", 30), ("scale", 1.5), ("scale", 0.5), ("shift", 0.25)):
        t = motion(transform, amount)
        rows, columns = t.source(POSITIONS[:, None], POSITIONS[None], 8)
        found, exact = transform_values(slope, t, WHOLE, 8, SYMMETRIC)
        known = (rows >= 1) & (rows <= 6) & (columns >= 1) & (columns <= 6)
        assert not exact and known.sum() >= 4
        torch.testing.assert_close(found[0, 0][known], (2 * rows + 3 * columns).float()[known])


def test_a_smaller_image_is_the_mean_of_what_it_shows():
    for times, inner in ((2, slice(2, 6)), (4, slice(3, 5))):
        found, _ = transform_values(IMAGE, motion("scale", 1 / times), WHOLE, 8, SYMMETRIC)
        torch.testing.assert_close(found[..., inner, inner], torch.nn.functional.avg_pool2d(IMAGE, times))


def test_turning_left_lifts_what_is_at_the_right():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 8] = 1
    positions = torch.arange(9, dtype=torch.float64)
    rotated, _ = transform_values(
        image, motion("rotate", 90), Grid(positions[:, None], positions[None], 1.0, (0.0, 0.0)), 9, SYMMETRIC
    )
    assert rotated[0, 0, 0, 4] == 1


def test_a_grid_of_units_moves_by_its_own_step():
    units = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    positions = 0.5 + 2 * torch.arange(4, dtype=torch.float64)
    grid = Grid(positions[:, None], positions[None], 2.0, (0.5, 0.5))
    found, exact = transform_values(units, motion("shift", 4), grid, 8, CIRCULAR)
    assert exact and torch.equal(found, units.roll(2, 3))
    found, exact = transform_values(units, motion("shift", 3), grid, 8, CIRCULAR)
    assert not exact
    torch.testing.assert_close(found, (units.roll(1, 3) + units.roll(2, 3)) / 2)


def test_the_range_of_each_transformation():
    assert amounts("shift", None, 17, 32, 8) == list(range(17))
    assert amounts("shift", 5, 4, 32, 8) == [0, 2, 3, 5] and amounts("shift", 1, 9, 32, 8) == [0, 1]
    assert amounts("shift", None, 3, 32, 64) == [0, 16, 32]  # no further than the image goes
    assert amounts("rotate", None, 5, 32, 8) == [0, 45, 90, 135, 180]
    assert amounts("scale", None, 5, 32, 8) == pytest.approx([0.5, 0.5**0.5, 1, 2**0.5, 2])
    assert 1.0 in amounts("scale", 3, 4, 32, 8)
    assert amounts("flip", None, 5, 32, 8) == list(FLIPS)


@pytest.mark.parametrize(
    "transform, most", [("shift", 33), ("shift", 0), ("rotate", 0), ("rotate", 361), ("scale", 1), ("flip", 2)]
)
def test_ranges_that_cannot_be(transform, most):
    with pytest.raises(UsageError, match="--range"):
        amounts(transform, most, 5, 32, 8)
