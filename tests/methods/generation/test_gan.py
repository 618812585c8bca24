"""The game: whose weights a step moves and by which loss, that it learns, and that it follows from seed and step."""

import copy

import pytest
import torch

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.generation import configs
from mlcli.methods.generation.gan import GRID, Gan
from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import generator
from tests.in_memory import dataset

CPU = torch.device("cpu")
PLAIN = Runtime(CPU, "fp32")
TINY = configs.Gan(batch_size=8, latent=4, filters=2, spectral_norm=True)


def noisy(count=24, size=8, channels=1) -> ImageDataset:
    pixels = torch.randint(0, 256, (count, channels, size, size), generator=generator(0), dtype=torch.uint8)
    return dataset(pixels, torch.arange(count) % 3)


def game(images=None, classes=("a", "b", "c"), features=None, **config) -> Gan:
    torch.manual_seed(0)
    config = configs.Gan(**{"batch_size": 8, "latent": 4, "filters": 2, "spectral_norm": True} | config)
    return Gan(images or noisy(), classes, config, PLAIN, Processes(CPU), features)


def weights(network) -> dict:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("loss", LOSSES)
def test_each_player_moves_by_its_own_loss(loss):
    """A step of plain gradient descent, done once more by hand."""
    method = game(loss=loss, spectral_norm=False, lr=0.1, lr_discriminator=0.1)
    method.optimizers = {
        name: torch.optim.SGD(getattr(method, name).parameters(), lr=0.1) for name in ("generator", "discriminator")
    }
    g, d = copy.deepcopy(method.generator), copy.deepcopy(method.discriminator)
    (batch,) = method.load(torch.arange(8), 5)
    losses = method.step([batch], 5)

    def descend(network, loss):
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient

    real, labels = batch.images / 127.5 - 1, batch.labels
    fake = g(batch.latent, labels)
    of_discriminator = LOSSES[loss].discriminator(d(real, labels), d(fake.detach(), labels))
    penalty = gradient_penalty(lambda x: d(x, labels), real, fake, batch.epsilon) if loss == "wasserstein" else 0
    descend(d, of_discriminator + 10 * penalty)
    of_generator = LOSSES[loss].generator(d(fake, labels))  # the updated discriminator
    descend(g, of_generator)

    assert losses["discriminator"].item() == pytest.approx(of_discriminator.item(), rel=1e-4)
    assert losses["generator"].item() == pytest.approx(of_generator.item(), rel=1e-4)
    for ours, theirs in ((method.generator, g), (method.discriminator, d)):
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=1e-3, atol=1e-6)


def test_the_discriminator_is_updated_as_often_as_asked_and_the_generator_once():
    method, calls = game(discriminator_steps=3, batch_size=4), []
    for name, optimizer in method.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: calls.append(name))
    batches = method.load(torch.arange(12), 0)
    method.step(batches, 0)
    assert calls == ["discriminator"] * 3 + ["generator"]
    assert torch.equal(torch.cat([batch.images for batch in batches]), method.images.pixels[:12])
    assert not torch.equal(batches[0].latent, batches[1].latent)


def test_rates_follow_the_schedule():
    method = game(lr=0.2, lr_discriminator=0.4, steps=10)
    for step, factor in ((4, 1), (8, 0.4)):  # linear: constant for half of the steps, then to 0
        method.step(method.load(torch.arange(8), step), step)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in method.optimizers.values()]
        assert rates == pytest.approx([0.2 * factor, 0.4 * factor])


def test_a_discriminator_that_has_won_is_said():
    method = game(classes=())
    answers = torch.tensor([0.9, 0.4, 0.7, 0.6, 0.2, 0.6, 0.4, 0.1], requires_grad=True)
    method.discriminator.forward = lambda images, labels: answers * 1
    figures = method.update_discriminator(*torch.zeros(2, 4, 1, 8, 8), torch.zeros(4), torch.zeros(4))
    assert figures["d_accuracy"].item() == 0.75
    said = [
        method.warning({"discriminator": 0.0, "generator": 5.0, "d_accuracy": 1.0})
        for _ in range(method.monitor.PATIENCE)
    ]
    assert not any(said[:-1]) and "correct on every image" in said[-1]


def test_the_average_follows_the_generator():
    method = game(ema=0.5)
    before = weights(method.ema.network)
    for step in range(20, 22):
        method.step(method.load(torch.arange(8), step), step)
        after = weights(method.generator)
        before = {name: (before[name] + after[name]) / 2 for name in before}
    for name, parameter in method.ema.network.named_parameters():
        torch.testing.assert_close(parameter, before[name])


def test_flipped_images_are_half_and_only_on_demand():
    images = noisy(count=200)
    (plain,), (flipped,) = (game(images, flip=flip).load(torch.arange(200), 0) for flip in (False, True))
    assert torch.equal(plain.images, images.pixels)
    same = (flipped.images == images.pixels).flatten(1).all(1)
    assert 70 < same.sum() < 130
    assert torch.equal(flipped.images[~same], images.pixels[~same].flip(3))


def test_a_step_follows_from_seed_and_step():
    (one,), (same,) = (game().load(torch.arange(8), 3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    (other,), (later,) = game(seed=1).load(torch.arange(8), 3), game().load(torch.arange(8), 4)
    assert not torch.equal(one.latent, other.latent) and not torch.equal(one.latent, later.latent)


def test_distances_are_of_the_average_to_images_of_the_same_classes():
    seen = []

    def features(images):
        seen.append(images)
        return images.flatten(1).float()

    method = game(features=features, compared=10)
    first, second = method.evaluate(), method.evaluate()
    assert len(seen) == 3, "those of the data once"
    assert first == second and first["frechet"] > 0
    real = seen[0].flatten(1)
    index = (real[:, None] == method.images.pixels.flatten(1)).all(2).int().argmax(1)
    assert len(index.unique()) == 10
    method.sampler.network.forward = lambda latent, labels: labels.view(-1, 1, 1, 1) / 127.5 - 1 + torch.zeros(1, 8, 8)
    method.evaluate()
    assert torch.equal(seen[-1][:, 0, 0, 0].long(), method.images.labels[index])


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
def test_the_grid_shows_the_same_noise_each_time(classes):
    method, given = game(classes=classes), []
    method.sampler.grid = lambda *drawn: given.append(drawn)
    method.samples()
    method.step(method.load(torch.arange(8), 0), 0)
    method.samples()
    (one, labels, columns), (two, _, _) = given
    assert torch.equal(one, two) and columns == GRID
    assert labels.tolist() == ([0] * GRID + [1] * GRID + [2] * GRID if classes else sorted(list(range(GRID)) * GRID))


def colored_squares(count: int = 240, size: int = 8) -> ImageDataset:
    """A bright square in a dark image: red on the left, of class 0, or blue on the right, of class 1."""
    random = generator(0)
    labels = torch.arange(count) % 2
    pixels = torch.zeros(count, 3, size, size)
    rows = torch.randint(0, size // 2 + 1, (count,), generator=random)
    for image, label, row in zip(pixels, labels, rows, strict=True):
        left = 0 if label == 0 else size // 2
        image[0 if label == 0 else 2, row : row + size // 2, left : left + size // 2] = 1
    pixels = pixels * 200 + 20 * torch.rand(pixels.shape, generator=random)
    return dataset(pixels.to(torch.uint8), labels)


@pytest.mark.parametrize("loss", LOSSES)
def test_learns_classes(loss):
    """Almost all images are of the class asked for: its color on its side, and dark elsewhere."""
    images = colored_squares()
    rates = {"lr": 2e-3, "lr_discriminator": 4e-3, "beta1": 0.0, "beta2": 0.9, "ema": 0.9, "steps": 150}
    method = game(
        images, ("red", "blue"), loss=loss, spectral_norm=loss != "wasserstein", filters=8, batch_size=24, **rates
    )
    for step in range(150):
        indices = torch.randint(0, len(images), (24,), generator=generator(step))
        method.step(method.load(indices, step), step)
    labels = torch.arange(100) % 2
    made = method.sampler(torch.randn(100, 4, generator=generator(1)), labels).float()
    halves = made.unflatten(3, (2, 4)).mean((2, 4))  # (N, color, half)
    whose = torch.stack([halves[:, 0, 0], halves[:, 2, 1]], 1)  # red on the left, blue on the right
    right = whose.argmax(1) == labels
    other = halves.sum((1, 2)) - whose.gather(1, labels[:, None])[:, 0]
    assert right.float().mean() >= 0.95
    assert 70 < whose.gather(1, labels[:, None]).mean() < 140  # 110 in the data
    assert other.mean() < 125  # five other halves of colors, 10 each in the data
