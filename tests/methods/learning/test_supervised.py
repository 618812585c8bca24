"""Supervised training: the augmentation by hand, the whitening, the parameters of each optimizer."""

import pytest
import torch
from torch import nn

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.learning import configs
from mlcli.methods.learning.supervised import Supervised, augment, draw, draw_boxes, mix, optimizers, reflect, whitening
from mlcli.models import artifacts, registry
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import generator
from mlcli.training.run_folder import Run
from tests.in_memory import dataset

CPU = torch.device("cpu")


def drawn(dy=0, dx=0, y=0, x=0) -> torch.Tensor:
    return torch.tensor([[dy], [dx], [y], [x]])


def sample_image(size: int = 6) -> torch.Tensor:
    return torch.arange(3 * size * size, dtype=torch.uint8).view(1, 3, size, size)


def test_nothing_drawn_changes_nothing():
    assert torch.equal(augment(sample_image(), torch.tensor([False]), drawn()), sample_image())


def test_a_flip_exchanges_left_and_right():
    assert torch.equal(augment(sample_image(), torch.tensor([True]), drawn()), sample_image().flip(3))


@pytest.mark.parametrize("dy, dx", [(2, 0), (0, -3), (-2, 1), (5, 5)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_shift_is_a_crop_of_the_reflected_image(dy, dx, flip):
    image = sample_image()
    padded = nn.functional.pad(image.float(), (5, 5, 5, 5), mode="reflect")
    expected = padded[:, :, 5 + dy : 11 + dy, 5 + dx : 11 + dx]
    # the shift is of the flipped image, which here is the image itself
    result = augment(image.flip(3) if flip else image, torch.tensor([flip]), drawn(dy, dx))
    assert torch.equal(result.float(), expected)


def test_a_cut_out_square_takes_the_mean_of_its_image():
    result = augment(sample_image(), torch.tensor([False]), drawn(y=2, x=3), cutout=2)
    expected = sample_image().clone()
    expected[0, :, 1:3, 2:4] = expected.float().mean((2, 3)).to(torch.uint8)[0, :, None, None]
    assert torch.equal(result, expected)


def test_a_box_shows_the_other_image_and_counts_by_its_area():
    images, others = torch.zeros(3, 2, 8, 8), torch.ones(3, 2, 8, 8)
    boxes = torch.tensor([[1, 0, 3], [4, 8, 3], [2, 0, 5], [8, 8, 5]])  # top, bottom, left, right
    mixed, left = mix(images, others, boxes)
    expected = torch.zeros(8, 8)
    expected[1:4, 2:8] = 1
    assert torch.equal(mixed[0], expected.expand(2, -1, -1)) and mixed[1].all() and not mixed[2].any()
    assert left.tolist() == [1 - 18 / 64, 0, 1]


def test_boxes_fill_half_of_a_image_on_average_in_their_fraction_of_images():
    boxes = draw_boxes(20_000, 32, 0.5, generator(0))
    top, bottom, left, right = boxes
    area = ((bottom - top) * (right - left)).float() / 32**2
    assert boxes.min() == 0 and boxes.max() == 32 and (top <= bottom).all() and (left <= right).all()
    assert abs((area > 0).float().mean() - 0.5) < 0.03
    # A square of area u, uniform, its center uniform too and cut at the border: E[(s - s^2/4)^2] with s = sqrt(u)
    # is E[u - u^1.5/2 + u^2/16] = 1/2 - 1/5 + 1/48.
    assert abs(area[area > 0].mean() - (1 / 2 - 1 / 5 + 1 / 48)) < 0.02


def test_a_mixed_image_is_scored_by_both_labels():
    torch.manual_seed(0)
    images = oriented_gratings(40)
    model = registry.create("cifarnet", ("rows", "columns"), 32)
    config = configs.Supervised(batch_size=20, lr=0.0, optimizer="sgd", cutmix=1.0, label_smoothing=0.0)
    method = Supervised(model, images, config, 10, Runtime(CPU, "fp32"), Processes(CPU))
    batch = method.load(torch.arange(20), 3)
    assert torch.equal(batch.labels, images.labels[:20]) and 0.3 < batch.left.mean() < 0.95
    method.network.train()  # norms by the batch, as the step has them
    with torch.no_grad():
        log = model(batch.images).double().log_softmax(1)
    each = torch.arange(20)
    expected = -(batch.left * log[each, batch.labels] + (1 - batch.left) * log[each, batch.others]).mean()
    assert abs(method.step(batch, 3)["loss"].item() - expected.item()) < 1e-5
    assert all(torch.equal(a, b) for a, b in zip(batch, method.load(torch.arange(20), 3), strict=True))


def test_reflection_does_not_repeat_the_border():
    assert reflect(torch.arange(-3, 8), 5).tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]


def test_draws_reach_every_shift_and_no_more():
    shifts = draw(4000, 32, configs.Supervised(shift=4), generator(0))
    assert sorted(shifts[0].unique().tolist()) == list(range(-4, 5)) == sorted(shifts[1].unique().tolist())
    assert shifts[2:].min() == 0 and shifts[2:].max() == 31
    tiny = draw(100, 3, configs.Supervised(shift=4), generator(0))
    assert tiny[:2].abs().max() <= 2, "never more than reflection can fill"


def test_whitening_whitens_what_varies_and_drops_what_does_not():
    torch.manual_seed(0)
    smooth = nn.functional.interpolate(torch.randn(400, 3, 6, 6), size=24, mode="bicubic") * 3
    matrix = whitening(smooth, 5, epsilon=0.02)
    assert torch.allclose(matrix, matrix.T, atol=1e-5)
    patches = nn.functional.unfold(smooth, 5, stride=3).transpose(1, 2).flatten(0, 1)
    white = (patches - patches.mean(0)) @ matrix
    variance = torch.linalg.eigvalsh(white.T @ white / len(white))
    assert variance[-10:].min() > 0.9 and variance.max() <= 1.001, "strong directions come to unit variance"
    assert variance[:20].max() < 0.01, "directions without signal stay silent"


def test_each_parameter_has_one_optimizer():
    network = registry.create("cifarnet", ("a", "b"), 32).network.to(memory_format=torch.channels_last)
    muon, sgd = optimizers(network, configs.Supervised(optimizer="muon"))
    kernels = [p for p in network.parameters() if p.ndim == 4]
    assert [id(w) for w in muon.weights] == [id(p) for p in kernels]
    rest = {id(p) for group in sgd.param_groups for p in group["params"]}
    assert rest == {id(p) for p in network.parameters()} - {id(p) for p in kernels}
    assert [group["weight_decay"] for group in sgd.param_groups] == [5e-4, 0.0]
    (alone,) = optimizers(network, configs.Supervised(optimizer="sgd"))
    assert sum(len(group["params"]) for group in alone.param_groups) == len(list(network.parameters()))


def oriented_gratings(count: int = 120) -> ImageDataset:
    """Horizontal and vertical gratings of random phase: told apart by learned edges alone."""
    random = generator(0)
    position = torch.arange(32) * 0.9
    phase = torch.rand(count, 1, generator=random) * 6.28
    wave = (position + phase).sin()  # (N, 32)
    labels = torch.arange(count) % 2
    rows = wave[:, :, None].expand(-1, -1, 32)
    images = torch.where(labels[:, None, None] == 0, rows, rows.transpose(1, 2))
    noise = 0.5 * torch.randn(count, 32, 32, generator=random)
    pixels = ((images + noise) * 50 + 128).clamp(0, 255).to(torch.uint8)[:, None].expand(-1, 3, -1, -1)
    return dataset(pixels, labels)


def test_flips_alternate_from_epoch_to_epoch():
    """Over two epochs each image is shown once as it is and once flipped; which comes first differs by image."""
    images = oriented_gratings(40)
    model = registry.create("cifarnet", ("rows", "columns"), 32)
    config = configs.Supervised(batch_size=20, shift=0, cutout=0)
    method = Supervised(model, images, config, 8, Runtime(CPU, "fp32"), Processes(CPU))

    def flipped(step: int) -> list[bool]:
        """Whether each image of the batch of a step, which is a half of all images, is flipped."""
        indices = torch.arange(20) + 20 * (step % 2)
        shown, plain = method.load(indices, step).images, images.batch(indices)
        assert all(
            torch.equal(one, other) or torch.equal(one, other.flip(2)) for one, other in zip(shown, plain, strict=True)
        )
        return [not torch.equal(one, other) for one, other in zip(shown, plain, strict=True)]

    epochs = [flipped(2 * epoch) + flipped(2 * epoch + 1) for epoch in range(4)]
    assert 10 < sum(epochs[0]) < 30
    assert epochs[1] == [not flip for flip in epochs[0]]
    assert epochs[2] == epochs[0] and epochs[3] == epochs[1]


@pytest.mark.parametrize("optimizer, lr", [("muon", 0.1), ("sgd", 0.05)])
def test_learns_gratings(optimizer, lr):
    torch.manual_seed(0)
    images, steps = oriented_gratings(), 10
    config = configs.Supervised(optimizer=optimizer, lr=lr, batch_size=40, cutout=0)
    model = registry.create("cifarnet", ("rows", "columns"), 32)
    method = Supervised(model, images, config, steps, Runtime(CPU, "fp32"), Processes(CPU))
    for step in range(steps):
        indices = torch.arange(40) + 40 * (step % 3)
        losses = method.step(method.load(indices, step), step)
    assert losses["accuracy"] >= 0.95
    assert losses["loss"] < 0.45


def test_the_saved_network_is_plain_and_computes_the_same(tmp_path):
    torch.manual_seed(0)
    images = oriented_gratings(40)
    model = registry.create("cifarnet", ("rows", "columns"), 32)
    method = Supervised(model, images, configs.Supervised(batch_size=20), 2, Runtime(CPU, "fp32"), Processes(CPU))
    method.step(method.load(torch.arange(20), 0), 0)
    model.network.eval()
    with torch.no_grad():
        before = model(images.pixels[:4])
    run = Run(tmp_path)
    method.save_model(run)
    plain = registry.create("cifarnet", ("rows", "columns"), 32)
    plain.network.load_state_dict(artifacts.read(run.model_file).tensors)
    plain.network.eval()
    with torch.no_grad():
        assert torch.allclose(plain(images.pixels[:4]), before, atol=1e-5)
