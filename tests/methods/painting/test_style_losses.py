import numpy as np
import pytest
import torch
from torch import Tensor

from mlcli.errors import UsageError
from mlcli.methods.painting import style_losses
from mlcli.methods.painting.style_losses import Moments, Objective, Perception, Style, gaussian_loss, gram_loss, moments
from mlcli.methods.painting.tiles import tiles
from mlcli.models import registry
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime

CPU = Runtime(torch.device("cpu"), "fp32")


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_moments_against_float64():
    maps, weights = random(5, 7, 9) - 0.3, random(7, 9, seed=1)
    values, w = maps.double().flatten(1).numpy(), weights.double().flatten().numpy()
    plain, weighted = moments(maps), moments(maps, weights)
    np.testing.assert_allclose(plain.mean, values.mean(1), rtol=1e-5)
    np.testing.assert_allclose(plain.gram, values @ values.T / 63, rtol=1e-5)
    np.testing.assert_allclose(plain.covariance, np.cov(values, bias=True), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(weighted.mean, values @ w / w.sum(), rtol=1e-5)
    np.testing.assert_allclose(weighted.gram, (values * w) @ values.T / w.sum(), rtol=1e-5)
    halves = moments(maps[:, :3], weights[:3]).plus(moments(maps[:, 3:], weights[3:]))
    for part, whole in zip(halves, weighted, strict=True):
        torch.testing.assert_close(part, whole)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_the_products_is_that_of_autograd(weighted):
    slope = random(4, 4, seed=2)
    weights = random(3, 5, seed=1) if weighted else None
    gradients = []
    for by_hand in (True, False):
        maps = random(4, 3, 5).requires_grad_()
        flat = maps.flatten(1)
        second = (
            moments(maps, weights).second
            if by_hand
            else (flat if weights is None else flat * weights.flatten()) @ flat.T
        )
        (slope * second).sum().backward()
        gradients.append(maps.grad)
    torch.testing.assert_close(*gradients)


def of_normal(mean: Tensor, covariance: Tensor) -> Moments:
    return Moments(torch.tensor(1.0), mean, covariance + torch.outer(mean, mean))


def test_gram_loss_by_hand():
    target = Moments(torch.tensor(2.0), torch.zeros(2), torch.tensor([[2.0, 0.0], [0.0, 4.0]]))  # A = diag(1, 2)
    found = Moments(torch.tensor(1.0), torch.zeros(2), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    assert gram_loss(target)(found).item() == pytest.approx((1 + 1 + 1 + 0) / 5)
    assert gram_loss(target)(target).item() == 0


def test_gaussian_loss_of_diagonal_covariances():
    # Where the covariances commute it is |m - n|^2 + |C^1/2 - D^1/2|^2
    target = of_normal(torch.tensor([1.0, 2.0]), torch.diag(torch.tensor([4.0, 9.0])))
    found = of_normal(torch.tensor([2.0, 0.0]), torch.diag(torch.tensor([1.0, 16.0])))
    assert gaussian_loss(target)(found).item() == pytest.approx((1 + 4 + 1 + 1) / (5 + 13), rel=1e-3)
    assert gaussian_loss(target)(target).item() == pytest.approx(0, abs=1e-6)


def test_gaussian_loss_of_any_covariances_against_scipy_free_float64():
    a, b = random(4, 4, seed=1), random(4, 4, seed=2)
    c, d = (a @ a.T).double().numpy(), (b @ b.T).double().numpy()

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

    wanted = np.trace(c + d - 2 * root(root(d) @ c @ root(d))) / np.trace(d)
    loss = gaussian_loss(of_normal(torch.zeros(4), torch.tensor(d).float()))
    assert loss(of_normal(torch.zeros(4), torch.tensor(c).float())).item() == pytest.approx(wanted, rel=1e-2)


def test_the_gradient_of_the_gaussian_loss_is_finite_where_nothing_varies():
    target = moments(random(6, 8, 8))
    flat = torch.full((6, 2, 2), 0.5, requires_grad=True)
    gaussian_loss(target)(moments(flat)).backward()
    assert flat.grad.isfinite().all() and flat.grad.abs().max() < 10


def test_variation_by_hand():
    image = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).expand(3, 2, 2)
    (tile,) = tiles(2, 2, [], 64)
    assert style_losses.variation(image, tile).item() == pytest.approx(3 * (1 + 0 + 0.25 + 0.25))


# -- the objective -------------------------------------------------------------------------------------------


def objective(content, styles, tile=512, style_loss="gram", name="cifarnet", **more):
    """With a network of the precision of the content."""
    torch.manual_seed(0)
    model = registry.load(name, untrained=True).to(CPU)
    model.network.to(content.dtype)
    layers = {name: features.resolve(model, name) for name in ("conv1", "conv2", "conv3")}
    settings = {"alpha": 0.3, "tv": 2.0, "style_layers": {"conv1": 1, "conv3": 3}} | more
    return Objective(
        Perception(model, layers, CPU, tile),
        content,
        styles,
        content_layers={"conv2": 5},
        style_loss=style_loss,
        **settings,
    )


def test_the_objective_against_plain_autograd():
    content, mask = random(3, 40, 32), torch.ones(40, 32)
    mask[:, 16:] = 0
    styles = [Style(random(3, 24, 48, seed=1), 1.0), Style(random(3, 24, 24, seed=2), 3.0, mask)]
    image = random(3, 40, 32, seed=3)
    losses, gradient = objective(content, styles)(image)

    model = registry.load("cifarnet")
    see = features.Activations(model, ["conv1", "conv2", "conv3"])
    leaf = image.clone().requires_grad_()
    found = see(leaf[None])
    with torch.no_grad():
        wanted, texture, other = see(content[None]), see(styles[0].image[None]), see(styles[1].image[None])

    def gram(maps):
        return torch.einsum("nchw,ndhw->cd", maps, maps) / maps.shape[2] / maps.shape[3]

    def distance(a, b):
        return (a - b).square().sum() / b.square().sum()

    own_style = 0.0
    for name, fraction in (("conv1", 0.25), ("conv3", 0.75)):
        left = found[name][..., : found[name].shape[3] // 2]  # what the mask leaves
        own_style += fraction * 0.25 * distance(gram(found[name]), gram(texture[name]))
        own_style += fraction * 0.75 * distance(gram(left), gram(other[name]))
    own_content = distance(found["conv2"], wanted["conv2"])
    variation = (leaf.diff(dim=1).square().sum() + leaf.diff(dim=2).square().sum()) / leaf.numel()
    total = 0.3 * own_content + 0.7 * own_style + 2.0 * variation
    total.backward()
    assert losses == pytest.approx([v.item() for v in (total, own_content, own_style, variation)], rel=1e-4)
    assert (gradient - leaf.grad).norm() < 1e-4 * leaf.grad.norm()


@pytest.mark.parametrize("style_loss", style_losses.STYLE_LOSSES)
@pytest.mark.parametrize("name", ["cifarnet", "resnet18"])
def test_the_tiled_gradient_is_the_untiled_one(style_loss, name):
    # In float64 where the network is: of float32 the sums of another order alone would be a part in 8,000 of a pixel
    mask = random(30, 20, seed=5).double()
    content, image = random(3, 100, 150).double(), random(3, 100, 150, seed=3).double()
    styles = [Style(random(3, 90, 80, seed=1).double()), Style(random(3, 70, 80, seed=2).double(), 2.0, mask)]
    (whole, gradient), (tiled, other) = (
        objective(content, styles, tile, style_loss, name)(image) for tile in (512, 48)
    )
    assert tiled == pytest.approx(whole, rel=1e-4)
    assert (gradient - other).norm() < 1e-4 * gradient.norm()
    assert (gradient - other).abs().max() < 1e-4 * gradient.abs().max()


def test_the_content_itself_has_no_content_loss_and_the_style_no_style_loss():
    image = random(3, 48, 48)
    losses, _ = objective(image, [Style(image)])(image)
    assert losses.content == 0 and losses.style == pytest.approx(0, abs=1e-8)


def test_black_masks_and_images_too_small():
    content = random(3, 40, 32)
    with pytest.raises(UsageError, match="black everywhere"):
        objective(content, [Style(content, 1.0, torch.zeros(9, 9))])
    with pytest.raises(UsageError, match="too small"):
        objective(content[:, :1], [Style(content)])


def test_a_network_of_images_of_some_sizes_says_so():
    torch.manual_seed(0)
    model = registry.create("timm/test_vit", ["a", "b"], 160)
    (layer,) = [each for each in features.layers(model) if each.address == "patch_embed.proj"]
    perception, image = Perception(model, {layer.address: layer}, CPU, 256), torch.zeros(3, 150, 150)
    (tile,) = perception.tiles(image)
    with pytest.raises(UsageError, match="does not take an image, or a tile, of 150 x 150 pixels"):
        perception.maps(image, tile)
