import pytest
import torch

from mlcli.methods.visualization import color_decorrelation
from mlcli.methods.visualization.color_decorrelation import Colors
from mlcli.models import registry


@pytest.fixture
def model():
    torch.manual_seed(0)
    return registry.create("cifarnet", ["a", "b"], 32)


def smooth_images(covariance, mean, exponent, count=200, size=32):
    """(N, C, H, W) of random clouds with this covariance of colors (up to a factor) and fall of the spectrum."""
    f = torch.fft.fftfreq(size)
    amplitude = torch.hypot(f[:, None], f).clamp_min(1 / size) ** -exponent
    noise = torch.fft.fft2(torch.randn(count, len(mean), size, size))
    clouds = torch.fft.ifft2(noise * amplitude).real
    clouds = torch.einsum("cd,ndhw->nchw", torch.linalg.cholesky(covariance), clouds / clouds.std())
    return torch.tensor(mean)[:, None, None] + 0.1 * clouds


def remember(model, images):
    """Put the statistics of the first layer's answers into its batch norm, as training does."""
    convolution, norm = model.network.conv1.conv, model.network.conv1.norm
    center = convolution.kernel_size[0] // 2
    answers = convolution(model.preprocessing.normalize(images)).detach()[:, :, center:-center, center:-center]
    norm.running_mean.copy_(answers.mean((0, 2, 3)))
    norm.running_var.copy_(answers.var((0, 2, 3)))


def correlation(mixing):
    covariance = mixing @ mixing.T
    spread = covariance.diag().sqrt()
    return covariance / spread / spread[:, None]


@pytest.mark.parametrize("exponent", [1.0, 1.4])
def test_a_network_tells_the_colors_that_it_was_trained_on(model, exponent):
    covariance = torch.tensor([[1.0, 0.5, -0.2], [0.5, 2.0, 0.1], [-0.2, 0.1, 0.5]])
    mean = [0.7, 0.3, 0.5]
    remember(model, smooth_images(covariance, mean, exponent))
    found = color_decorrelation.of_training_data(model)
    assert found.mean == pytest.approx(mean, abs=0.03)
    spread = covariance.diag().sqrt()
    assert torch.allclose(correlation(found.mixing), covariance / spread / spread[:, None], atol=0.1)
    fractions = (found.mixing @ found.mixing.T).diag()
    assert torch.allclose(fractions / fractions[1], covariance.diag() / 2, atol=0.15)
    # Uncorrelated coordinates, the strongest first, none longer than 1
    product = found.mixing.T @ found.mixing
    assert torch.allclose(product, product.diag().diag(), atol=1e-5)
    assert product[0, 0] == pytest.approx(1) and product.diag().tolist() == sorted(product.diag(), reverse=True)


def test_the_embedded_network_was_trained_on_photographs():
    found = color_decorrelation.of_training_data(registry.load("cifarnet"))
    assert found.mean == pytest.approx([0.49, 0.48, 0.44], abs=0.03)  # of CIFAR-10, measured
    near = torch.tensor([[1.0, 0.92, 0.81], [0.92, 1.0, 0.91], [0.81, 0.91, 1.0]])
    assert torch.allclose(correlation(found.mixing), near, atol=0.12)
    assert (found.mixing[:, 0] > 0).all()


def test_a_network_that_cannot_tell_gets_the_colors_of_imagenet(model):
    imagenet = torch.tensor(color_decorrelation.IMAGENET)
    imagenet = imagenet / imagenet.norm(dim=0).max()
    no_norm = registry.create("alexnet", ["a", "b"], 64)
    for each in (model, no_norm, registry.load("resnet18", untrained=True)):
        found = color_decorrelation.of_training_data(each)
        assert torch.equal(found.mixing, imagenet) and found.mean.tolist() == [0.5] * 3


def test_gray_images_have_one_color():
    model = registry.create("cifarnet", ["a", "b"], 32, channels=1)
    remember(model, smooth_images(torch.ones(1, 1), [0.2], 1.4))
    found = color_decorrelation.of_training_data(model)
    assert found.mixing.tolist() == [[1]] and found.mean == pytest.approx([0.2], abs=0.03)


def test_images_and_coordinates():
    colors = Colors(torch.tensor([0.2, 0.5, 0.6]), torch.tensor([[1.0, 0.2, 0], [0.5, 0, 0.1], [0.3, -0.4, 0.2]]))
    assert torch.allclose(colors.images(torch.zeros(1, 3, 1, 1))[0, :, 0, 0], colors.mean)
    x = torch.randn(2, 3, 4, 5)
    assert torch.allclose(colors.coordinates(colors.images(x)), x, atol=1e-4)
    extremes = torch.tensor([0.0, 1.0, 0.5])[None, :, None, None]
    assert torch.allclose(colors.images(colors.coordinates(extremes)), extremes, atol=0.0021)
