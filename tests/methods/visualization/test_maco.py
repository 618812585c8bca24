import math

import pytest
import torch

from mlcli.methods.visualization import color_decorrelation
from mlcli.methods.visualization.color_decorrelation import Colors
from mlcli.methods.visualization.configs import MACO
from mlcli.methods.visualization.maco import AMPLITUDE, EXPONENT, Crops, FixedMagnitudes, Spectrum
from mlcli.methods.visualization.parametrization import Images, ascend
from mlcli.runtime.device import Runtime

RUNTIME = Runtime.choose("cpu", "fp32")
COLORS = Colors(torch.tensor([0.5, 0.4, 0.3]), torch.eye(3))


def photos(count=6, size=(20, 24)):
    random = torch.Generator().manual_seed(3)
    return [torch.rand(3, *size, generator=random).cumsum(2).div(size[1]) for _ in range(count)]


def test_the_measured_spectrum_is_the_mean_of_magnitudes():
    images = photos()
    spectrum = Spectrum.measured(iter(images), COLORS)
    x = COLORS.coordinates(torch.stack(images)).double()
    expected = torch.fft.fft2(x).abs().mean(0)[..., :13] / math.sqrt(20 * 24)
    assert spectrum.size == (20, 24) and spectrum.magnitudes.double().allclose(expected, atol=1e-5)


def test_phases_alone_change():
    spectrum = Spectrum.measured(photos(), COLORS)
    phases = FixedMagnitudes(spectrum).noise((2, 3, 20, 24), 0)
    images = Images(phases, COLORS, RUNTIME.device)

    def magnitudes():
        return torch.fft.rfft2(phases(), norm="ortho").abs().detach()

    # A real image has real values where a frequency is its own negative; elsewhere magnitudes are those of the spectrum
    own = torch.zeros(20, 13, dtype=torch.bool)
    own[:, 0] = own[:, 12] = True
    before = images().detach()
    assert magnitudes()[:, :, ~own].allclose(spectrum.magnitudes[:, ~own].expand(2, -1, -1), atol=1e-4)
    ascend(
        images,
        lambda window, drawn, step: window[:, :, 8:12, 8:12].mean((1, 2, 3)),
        steps=range(6),
        lr=lambda step: 0.3,
        transforms=Crops(window=(20, 24), number=1, smallest=1.0, noise=0.0),
        seed=0,
        runtime=RUNTIME,
    )
    assert magnitudes()[:, :, ~own].allclose(spectrum.magnitudes[:, ~own].expand(2, -1, -1), atol=1e-4)
    after = images().detach()
    assert (after - before)[:, :, 8:12, 8:12].mean() > 0.05


def test_the_phases_of_an_image_with_its_own_spectrum_are_the_image():
    image = photos(1)[0]
    own = Spectrum.measured([image], COLORS)
    start = COLORS.coordinates(image[None])
    assert FixedMagnitudes(own).from_values(start)().allclose(start, atol=1e-4)


@pytest.mark.parametrize("size", [(224, 224), (64, 96), (33, 47)])
def test_the_natural_spectrum_is_a_power_law(size):
    spectrum = Spectrum.natural(3, size)
    f = abs(torch.fft.rfftfreq(size[1])[5]).item()
    assert spectrum.magnitudes[2, 0, 5].item() == pytest.approx(AMPLITUDE * f**-EXPONENT)
    assert spectrum.magnitudes.shape == (3, size[0], size[1] // 2 + 1)


def test_a_smaller_size_has_the_lower_frequencies():
    """A smooth image, resized: its spectrum is that of the smaller size."""
    y, x = torch.meshgrid(torch.arange(40) / 40, torch.arange(60) / 60, indexing="ij")
    wave = torch.sin(2 * math.pi * (2 * x + 3 * y)) + torch.cos(2 * math.pi * x)
    large, small = wave.expand(3, -1, -1), wave[::2, ::2].expand(3, -1, -1)
    spectra = [torch.fft.rfft2(image, norm="ortho").abs() for image in (large, small)]
    assert Spectrum(spectra[0], (40, 60)).at((20, 30)).magnitudes.allclose(spectra[1], atol=1e-3)


def test_images_depend_on_their_index_alone():
    make = FixedMagnitudes(Spectrum.natural(1, (8, 8))).noise
    assert make((3, 1, 8, 8), 0).unknown[2].equal(make((1, 1, 8, 8), 0, first=2).unknown[0])
    crops = Crops.of(8)
    images = torch.rand(3, 1, 12, 12)
    assert crops(images, 0, 5)[2].equal(crops(images[2:], 0, 5, first=2)[0])
    assert not crops(images, 0, 5).equal(crops(images, 0, 6))


def test_crops_are_inside_and_of_the_size_of_the_network():
    crops = Crops(window=(10, 10), number=3, smallest=0.4, noise=0.0)
    ramp = (torch.arange(30) / 29).expand(64, 1, 30, 30)
    assert crops.grid(30, 30) == (1, 3)
    for number in range(3):
        seen = crops(ramp, 0, 0, number=number)
        assert seen.shape == (64, 1, 10, 10)
        steps = seen[:, 0].diff(dim=2)
        # Never reflected, and between 0.4 and 1 of the side
        assert steps.min() > 0 and 0.35 < (9 * steps.mean((1, 2))).min() and (9 * steps.mean((1, 2))).max() < 0.95
        assert steps.mean((1, 2)).std() > 0.01


def test_noise_has_its_deviation():
    crops = Crops(window=(64, 64), number=1, smallest=1.0, noise=0.05)
    added = crops(torch.zeros(2, 3, 64, 64), 0, 0)
    assert added.std().item() == pytest.approx(0.05, rel=0.05) and not added[0].equal(added[1])


def test_the_colors_of_photographs_have_the_power_that_the_spectrum_gives():
    """Its images are neither gray nor black and white alone."""
    colors = Colors(torch.full((3,), 0.5), color_decorrelation._scaled(torch.tensor(color_decorrelation.IMAGENET)))
    drawn = colors.images(FixedMagnitudes(Spectrum.natural(3, (96, 96))).noise((4, 3, 96, 96), 0)())
    assert 0.1 < drawn.std() < 0.4 and MACO.octaves == 1
