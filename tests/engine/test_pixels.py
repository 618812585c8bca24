import math

import pytest
import torch

from mlcli.engine.colours import Colours
from mlcli.engine.pixels import PARAMETRISATIONS, TRANSFORM, Fourier, Pictures, Pixels, Transforms, ascend
from mlcli.engine.runtime import Runtime, generator
from mlcli.errors import MlcliError

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, "fp32")
PLAIN = Colours(torch.full((3,), 0.5), torch.eye(3))


@pytest.mark.parametrize("height, width", [(4, 6), (5, 3)])
def test_the_fourier_parametrisation_is_the_sum_of_its_waves(height, width):
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


@pytest.mark.parametrize("kind", PARAMETRISATIONS.values())
def test_a_parametrisation_begins_at_a_picture_or_at_noise(kind):
    start = torch.randn(2, 3, 7, 10)
    assert torch.allclose(kind.of(start)(), start, atol=1e-5)
    four = kind.noise((4, 3, 8, 6), 5)()
    assert four.shape == (4, 3, 8, 6) and torch.equal(kind.noise((2, 3, 8, 6), 5, first=2)(), four[2:])
    assert not torch.equal(four[0], four[1]) and not torch.equal(kind.noise((1, 3, 8, 6), 6)()[0], four[0])
    assert kind.noise((1, 3, 32, 32), 0)().std() < 0.1


def test_a_picture_of_two_sides_is_moved_resized_and_turned():
    height, width = 30, 60
    rows, columns = (torch.arange(n, dtype=torch.float32) + 0.5 for n in (height, width))
    ramps = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)]).expand(3, -1, -1, -1)
    moved = Transforms(0.05, 0.1, 20)(ramps, seed=3, step=9)
    draws = (torch.rand(3, 4, generator=generator(3, TRANSFORM, 9)) * 2 - 1).tolist()
    for picture, drawn in zip(moved, draws, strict=True):
        angle, size = math.radians(20) * drawn[0], 1 + 0.1 * drawn[1]
        for row, column in ((12, 25), (17, 36), (15, 30)):
            x, y = column + 0.5 - width / 2, row + 0.5 - height / 2
            source_x = (x * math.cos(angle) - y * math.sin(angle)) / size + 0.05 * drawn[2] * width + width / 2
            source_y = (x * math.sin(angle) + y * math.cos(angle)) / size + 0.05 * drawn[3] * height + height / 2
            assert picture[:, row, column].tolist() == pytest.approx([source_x, source_y], abs=1e-3)


def test_each_picture_and_step_draws_anew_by_its_number():
    pictures = torch.rand(1, 3, 12, 12).expand(4, -1, -1, -1)
    transforms = Transforms(0.2, 0.1, 10)
    first = transforms(pictures, 0, 0)
    assert not torch.equal(first[0], first[1]) and not torch.equal(first, transforms(pictures, 0, 1))
    assert torch.equal(transforms(pictures[2:], 0, 0, first=2), first[2:])
    pairs = transforms(pictures, 0, 0, alike=2)
    assert torch.equal(pairs[0], pairs[1]) and not torch.equal(pairs[1], pairs[2])
    assert torch.equal(transforms(pictures[2:], 0, 0, first=2, alike=2), pairs[2:])
    assert Transforms()(pictures, 0, 0) is pictures


@pytest.mark.parametrize("kind", PARAMETRISATIONS.values())
def test_ascend_reaches_the_maximum(kind):
    target = torch.rand(2, 3, 8, 8, generator=generator(1)) * 0.6 + 0.2

    def near(seen, pictures, step):
        assert seen.shape == pictures.shape == target.shape
        return -(pictures - target).square().mean((1, 2, 3))

    seen = []
    pictures = Pictures(kind.noise(target.shape, 0), PLAIN, CPU)
    ascend(
        pictures,
        near,
        steps=range(150),
        lr=0.05,
        transforms=Transforms(),
        seed=0,
        runtime=RUNTIME,
        on_step=lambda step, value, drawn: seen.append((step, value, drawn)),
    )
    assert (pictures() - target).abs().max() < 0.03
    assert [step for step, *_ in seen] == list(range(150)) and seen[-1][1] > 0.01 * seen[0][1]
    assert seen[0][1] == pytest.approx(near(seen[0][2], seen[0][2], 0).mean().item())


def test_frames_share_low_frequencies():
    pictures = Pictures(Pixels(torch.zeros(4, 3, 16, 16)), PLAIN, CPU, alike=2)
    only_the_first = torch.tensor([1.0, 0, 0, 0])
    ascend(
        pictures,
        lambda seen, drawn, step: only_the_first * drawn.mean((1, 2, 3)),
        steps=range(3),
        lr=0.05,
        transforms=Transforms(),
        seed=0,
        runtime=RUNTIME,
    )
    means = pictures().mean((1, 2, 3))
    assert means[0] > means[1] > 0.5 + 1e-3 and means[2:].tolist() == pytest.approx([0.5, 0.5])
    shared = pictures.parts[1]
    assert (shared.scale[torch.hypot(torch.fft.fftfreq(16)[:, None], torch.fft.rfftfreq(16)) > 1 / 8] == 0).all()


def test_an_objective_that_is_no_number_is_said():
    pictures = Pictures(Pixels(torch.zeros(1, 3, 8, 8)), PLAIN, CPU)
    with pytest.raises(MlcliError, match="no number at step 0"):
        ascend(
            pictures,
            lambda seen, drawn, step: drawn.mean((1, 2, 3)) * math.nan,
            steps=range(2),
            lr=0.1,
            transforms=Transforms(),
            seed=0,
            runtime=RUNTIME,
        )
