import math

import pytest
import torch

from mlcli.errors import MlcliError
from mlcli.methods.visualization.color_decorrelation import Colors
from mlcli.methods.visualization.parametrization import (
    PARAMETRIZATIONS,
    Fourier,
    Images,
    Pixels,
    Transforms,
    ascend,
    sample_reflected,
    sample_reflected_by_index,
    windows,
)
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import generator, rng

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, "fp32")
PLAIN = Colors(torch.full((3,), 0.5), torch.eye(3))


@pytest.mark.parametrize("height, width", [(4, 6), (5, 3)])
def test_the_fourier_parametrization_is_the_sum_of_its_waves(height, width):
    spectrum = torch.randn(1, 1, height, width // 2 + 1, 2, generator=generator(0))
    found = Fourier(spectrum, (height, width))()[0, 0]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    expected = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            # What is not in the half spectrum is the conjugate of its mirror image
            known = j <= width // 2
            k, m = (i, j) if known else (-i % height, width - j)
            re, im = spectrum[0, 0, k, m].tolist()
            if j in (0, width / 2):  # its own mirror image: of the two that should be conjugates, the mean counts
                other = spectrum[0, 0, -i % height, m].tolist()
                re, im = (re + other[0]) / 2, (im - other[1]) / 2
            fy, fx = min(i, height - i) / height, min(j, width - j) / width
            scale = 1 / max(math.hypot(fy, fx), 1 / max(height, width))
            phase = 2 * math.pi * (i * rows / height + j * columns / width)
            expected += scale * (re * phase.cos() - (im if known else -im) * phase.sin())
    assert torch.allclose(found.double(), expected / math.sqrt(height * width) / 4, atol=1e-5)


@pytest.mark.parametrize("kind", PARAMETRIZATIONS.values())
def test_a_parametrization_begins_at_an_image_or_at_noise(kind):
    start = torch.randn(2, 3, 7, 10)
    assert torch.allclose(kind.from_values(start)(), start, atol=1e-5)
    four = kind.noise((4, 3, 8, 6), 5)()
    assert four.shape == (4, 3, 8, 6) and torch.equal(kind.noise((2, 3, 8, 6), 5, first=2)(), four[2:])
    assert not torch.equal(four[0], four[1]) and not torch.equal(kind.noise((1, 3, 8, 6), 6)()[0], four[0])
    assert kind.noise((1, 3, 32, 32), 0)().std() < 0.1


def test_an_image_that_is_not_square_is_shifted_resized_and_rotated():
    height, width = 30, 60
    rows, columns = (torch.arange(n, dtype=torch.float32) + 0.5 for n in (height, width))
    ramps = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)]).expand(3, -1, -1, -1)
    transformed = Transforms(0.05, 0.1, 20)(ramps, seed=3, step=9)
    draws = (torch.rand(3, 4, generator=rng(3, "maximize/transform", 9)) * 2 - 1).tolist()
    for image, drawn in zip(transformed, draws, strict=True):
        angle, size = math.radians(20) * drawn[0], 1 + 0.1 * drawn[1]
        for row, column in ((12, 25), (17, 36), (15, 30)):
            x, y = column + 0.5 - width / 2, row + 0.5 - height / 2
            source_x = (x * math.cos(angle) - y * math.sin(angle)) / size + 0.05 * drawn[2] * width + width / 2
            source_y = (x * math.sin(angle) + y * math.cos(angle)) / size + 0.05 * drawn[3] * height + height / 2
            assert image[:, row, column].tolist() == pytest.approx([source_x, source_y], abs=1e-3)


def test_windows_of_a_large_image_lie_in_the_cells_of_a_grid():
    height, width = 40, 90  # of windows of 20 x 30: two rows, three columns
    rows, columns = (torch.arange(n, dtype=torch.float32) + 0.5 for n in (height, width))
    ramps = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])[None]
    transforms = Transforms(window=(20, 30))
    assert transforms.grid(height, width) == (2, 3) and transforms.window_size(10, 90) == (10, 30)
    assert transforms.grid(10, 10) == (1, 1)
    for number in range(6):
        row, column = divmod(number, 3)
        first, second = (transforms(ramps, 0, step, number=number) for step in (0, 1))
        assert first.shape == (1, 2, 20, 30) and not torch.allclose(first, second)
        (left, top), (right, bottom) = first[0, :, 0, 0].tolist(), first[0, :, -1, -1].tolist()
        assert (right - left, bottom - top) == pytest.approx((29, 19), abs=1e-3)  # neither resized nor rotated
        assert 20 * column <= left - 0.5 + 1e-3 and left - 0.5 <= 20 * (column + 1) + 1e-3  # 60 pixels of room
        assert 10 * row <= top - 0.5 + 1e-3 and top - 0.5 <= 10 * (row + 1) + 1e-3  # 20 pixels of room
    seen = windows(ramps, transforms)
    assert [(part[0, 0, 0, 0].item(), part[0, 1, 0, 0].item()) for part in seen] == [
        (left + 0.5, top + 0.5) for top in (0, 20) for left in (0, 30, 60)
    ]
    assert windows(ramps, Transforms())[0] is not None and len(windows(ramps, Transforms())) == 1


def test_jitter_shifts_a_window_past_the_border():
    ramp = torch.arange(64, dtype=torch.float32).expand(1, 1, 64, 64)
    jittered = Transforms(jitter=0.25, window=(32, 32))
    starts = [[jittered(ramp, 0, step, number=n)[0, 0, 0, 16].item() for step in range(60)] for n in (0, 1)]
    assert min(starts[0]) < 16 - 4 and max(starts[1]) > 48 + 4


def test_images_are_enlarged_between_octaves():
    start = torch.randn(2, 3, 10, 14, generator=generator(2))
    for part in (Pixels.from_values(start), Fourier.from_values(start, exponent=1.5)):
        images = Images(part, PLAIN, CPU, sequence_length=2)
        more = torch.randn(1, 3, 20, 28, generator=generator(3))
        expected = torch.nn.functional.interpolate(start, (20, 28), mode="bicubic", antialias=True) + more
        images.enlarge((20, 28), more)
        torch.testing.assert_close(images.parts[0](), expected, atol=1e-4, rtol=1e-4)
        assert type(images.parts[0]) is type(part) and images.parts[1].highest == 14 / 8
        assert images().shape == (2, 3, 20, 28) and images.parts[0].unknown.requires_grad


def test_a_larger_exponent_changes_large_shapes_more():
    one, more = (Fourier.noise((1, 1, 16, 16), 0, exponent=exponent).scale[..., 0] for exponent in (1.0, 1.5))
    assert one.square().mean().item() == pytest.approx(more.square().mean().item(), rel=1e-5)
    assert more[0, 0] > 1.3 * one[0, 0] and more[8, 8] < 0.8 * one[8, 8]


def test_each_image_and_step_draws_its_own_transform():
    images = torch.rand(1, 3, 12, 12).expand(4, -1, -1, -1)
    transforms = Transforms(0.2, 0.1, 10)
    first = transforms(images, 0, 0)
    assert not torch.equal(first[0], first[1]) and not torch.equal(first, transforms(images, 0, 1))
    assert torch.equal(transforms(images[2:], 0, 0, first=2), first[2:])
    pairs = transforms(images, 0, 0, sequence_length=2)
    assert torch.equal(pairs[0], pairs[1]) and not torch.equal(pairs[1], pairs[2])
    assert torch.equal(transforms(images[2:], 0, 0, first=2, sequence_length=2), pairs[2:])
    assert Transforms()(images, 0, 0) is images


@pytest.mark.parametrize("kind", PARAMETRIZATIONS.values())
def test_ascend_reaches_the_maximum(kind):
    target = torch.rand(2, 3, 8, 8, generator=generator(1)) * 0.6 + 0.2

    def near(seen, images, step):
        assert seen.shape == images.shape == target.shape
        return -(images - target).square().mean((1, 2, 3))

    seen = []
    images = Images(kind.noise(target.shape, 0), PLAIN, CPU)
    ascend(
        images,
        near,
        steps=range(150),
        lr=lambda step: 0.05,
        transforms=Transforms(),
        seed=0,
        runtime=RUNTIME,
        on_step=lambda step, value, drawn: seen.append((step, value, drawn)),
    )
    assert (images() - target).abs().max() < 0.03
    assert [step for step, *_ in seen] == list(range(150)) and seen[-1][1] > 0.01 * seen[0][1]
    assert seen[0][1] == pytest.approx(near(seen[0][2], seen[0][2], 0).mean().item())


def test_frames_share_low_frequencies():
    images = Images(Pixels(torch.zeros(4, 3, 32, 32)), PLAIN, CPU, sequence_length=2)
    only_the_first = torch.tensor([1.0, 0, 0, 0])
    ascend(
        images,
        lambda seen, drawn, step: only_the_first * drawn.mean((1, 2, 3)),
        steps=range(3),
        lr=lambda step: 0.05,
        transforms=Transforms(),
        seed=0,
        runtime=RUNTIME,
    )
    means = images().mean((1, 2, 3))
    assert means[0] > means[1] > 0.5 + 1e-3 and means[2:].tolist() == pytest.approx([0.5, 0.5])
    shared = images.parts[1]
    cycles = 32 * torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.rfftfreq(32))  # from side to side
    assert torch.equal(shared.scale[..., 0] > 0, cycles <= 4)
    shared = shared.like(torch.zeros(4, 3, 64, 64))  # four also where there are more pixels
    cycles = 64 * torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64))
    assert torch.equal(shared.scale[..., 0] > 0, cycles <= 4)


def test_ascend_takes_the_mean_over_the_windows():
    """Where a window is seen it grows bright, and all of the image is."""
    images = Images(Pixels(torch.zeros(1, 3, 8, 16)), PLAIN, CPU)
    seen_values = []

    def objective(seen, drawn, step):
        assert seen.shape == (1, 3, 8, 8) and drawn.shape == (1, 3, 8, 16)
        return seen.mean((1, 2, 3))

    ascend(
        images,
        objective,
        steps=range(30),
        lr=lambda step: 0.3 * (step < 20),
        transforms=Transforms(window=(8, 8)),
        seed=0,
        runtime=RUNTIME,
        on_step=lambda step, value, drawn: seen_values.append((value, drawn)),
    )
    assert seen_values[0][0] == pytest.approx(0.5) and images().mean() > 0.9 and images().min() > 0.6
    assert torch.equal(seen_values[20][1], images())  # a learning rate of nothing


def test_an_objective_that_is_no_number_is_an_error():
    images = Images(Pixels(torch.zeros(1, 3, 8, 8)), PLAIN, CPU)
    with pytest.raises(MlcliError, match="not a finite number at step 0"):
        ascend(
            images,
            lambda seen, drawn, step: drawn.mean((1, 2, 3)) * math.nan,
            steps=range(2),
            lr=lambda step: 0.1,
            transforms=Transforms(),
            seed=0,
            runtime=RUNTIME,
        )


@pytest.mark.parametrize("size, seen", [((5, 7), (4, 9)), ((1, 6), (3, 2))])
def test_sampling_by_index_equals_grid_sample(size, seen):
    torch.manual_seed(0)
    images = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    positions = torch.rand(2, *seen, 2, dtype=torch.float64) * 6 - 3
    ours, theirs = sample_reflected_by_index(images, positions), sample_reflected(images, positions)
    torch.testing.assert_close(ours, theirs)
    weights = torch.rand_like(ours)
    gradients = [torch.autograd.grad((weights * each).sum(), images)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*gradients)
