"""pix2pix: its losses and updates against a plain reckoning, its options, a tiny run that learns."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mlcli.methods.generation.configs import Pix2Pix as Config
from mlcli.methods.generation.pix2pix import Pix2Pix
from mlcli.models import translators
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.training.run_folder import Run
from tests import drawn

CPU = torch.device("cpu")
SMALL = Config(size=(16, 16), filters=4, discriminator_filters=4, layers=1, batch_size=2, dropout=0.0, flip=False)


def new(data, steps: int = 10, validation=None, precision: str = "fp32", **changes) -> Pix2Pix:
    torch.manual_seed(0)
    config = replace(SMALL, **changes)
    return Pix2Pix(data, config, steps, Runtime(CPU, precision), Processes(CPU), validation)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn.pairs(tmp_path_factory.mktemp("pairs"), 8)


def plain_step(method: Pix2Pix, batch) -> tuple:
    """(losses of the first step, G and D after it), as the paper says it, term by term."""
    x, y = (each.float() / 127.5 - 1 for each in batch)
    generator, discriminator = copy.deepcopy(method.generator), copy.deepcopy(method.discriminator)
    adams = [torch.optim.Adam(n.parameters(), 2e-4, betas=(0.5, 0.999)) for n in (generator, discriminator)]
    entropy = F.binary_cross_entropy_with_logits
    fake = generator(x)
    real_says = discriminator(torch.cat([x, y], 1))
    fake_says = discriminator(torch.cat([x, fake.detach()], 1))
    loss_d = (entropy(real_says, torch.ones_like(real_says)) + entropy(fake_says, torch.zeros_like(fake_says))) / 2
    loss_d.backward()
    adams[1].step()
    says = discriminator(torch.cat([x, fake], 1))  # D as it is after its update
    loss_gan, loss_l1 = entropy(says, torch.ones_like(says)), 100 * (fake - y).abs().mean()
    adams[0].zero_grad()
    (loss_gan + loss_l1).backward()
    adams[0].step()
    return {"loss_d": loss_d, "loss_gan": loss_gan, "loss_l1": loss_l1}, generator, discriminator


@pytest.mark.parametrize("changes", [{}, {"batch_size": 1}, {"norm": "instance"}, {"generator": "resnet-6"}])
def test_a_step_is_the_published_one(data, changes):
    """D before G, D's loss halved, G against the updated D; weights after it too."""
    method = new(data, **changes)
    batch = method.load(torch.arange(changes.get("batch_size", 2)), 0)
    expected, generator, discriminator = plain_step(method, batch)
    losses = method.step(batch, 0)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
    for ours, theirs in ((method.generator, generator), (method.discriminator, discriminator)):
        for name, weights in theirs.state_dict().items():
            # Adam's first step is lr * sign(gradient): an all but zero gradient may take either sign
            near = (ours.state_dict()[name].float() - weights.float()).abs() < 1e-5
            # and a bias before an instance norm has no other kind
            assert near.float().mean() > 0.97 or (name.endswith("bias") and weights.abs().max() < 3e-4), name


def test_l1_alone_trains_no_discriminator(data):
    method = new(data, gan=0.0)
    before, batch = copy.deepcopy(method.discriminator.state_dict()), method.load(torch.arange(2), 0)
    x, y = (each.float() / 127.5 - 1 for each in batch)
    expected = 100 * (copy.deepcopy(method.generator)(x) - y).abs().mean()
    losses = method.step(batch, 0)
    assert losses.keys() == {"loss_l1"} and losses["loss_l1"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert all(torch.equal(before[name], weights) for name, weights in method.discriminator.state_dict().items())
    assert method.warning({"loss_l1": 1.0}) == ""


def test_the_target_has_the_frame_of_its_source(data):
    method = new(data)
    x, y = method.load(torch.arange(8), 3)
    inside = (y[:, 0] > 150).float()  # red
    outline = (x[:, 0] > 100).float()
    grown = F.max_pool2d(inside[:, None], 3, 1, 1)[:, 0]
    assert (outline * (1 - grown)).sum() <= 0.02 * outline.sum()
    assert all(torch.equal(a, b) for a, b in zip((x, y), method.load(torch.arange(8), 3), strict=True))
    assert not torch.equal(x, method.load(torch.arange(8), 4)[0])


def test_direction(data):
    there, back = new(data), new(data, direction="BtoA")
    x, y = there.load(torch.arange(2), 0)
    assert all(torch.equal(a, b) for a, b in zip(back.load(torch.arange(2), 0), (y, x), strict=True))


def test_accumulated_parts_make_the_step_of_the_whole(data):
    whole, parted = new(data, batch_size=4, norm="instance"), new(data, batch_size=4, norm="instance", accumulate=2)
    batch = whole.load(torch.arange(4), 0)
    one, two = whole.step(batch, 0), parted.step(batch, 0)
    for name in one:
        assert one[name].item() == pytest.approx(two[name].item(), rel=1e-4), name
    for ours, theirs in zip(whole.generator.parameters(), parted.generator.parameters(), strict=True):
        # biases before instance norms have no gradient but rounding
        assert ours.ndim < 4 or ((ours - theirs).abs() < 1e-5).float().mean() > 0.97


def test_options_run_and_their_terms_are_there(data):
    for changes, terms in (
        ({"feature_matching": 10.0, "scales": 2, "loss": "least-squares"}, {"loss_features"}),
        ({"loss": "wasserstein", "discriminator": "pixel"}, set()),
        ({"loss": "hinge", "upsampling": "resize", "ema": 0.9, "dropout": 0.5}, set()),
    ):
        method = new(data, **changes)
        losses = method.step(method.load(torch.arange(2), 0), 0)
        assert terms <= losses.keys() and all(value.isfinite() for value in losses.values())


def test_the_discriminator_gets_no_gradient_from_the_generators_step(data):
    method = new(data)
    method.step(method.load(torch.arange(2), 0), 0)
    assert all(p.grad is None for p in (*method.discriminator.parameters(), *method.generator.parameters()))


def test_the_rate_falls_in_the_second_half(data):
    method = new(data, steps=8)
    for step, rate in ((0, 2e-4), (4, 2e-4), (6, 1e-4)):
        method.step(method.load(torch.arange(2), step), step)
        assert method.generator_adam.param_groups[0]["lr"] == pytest.approx(rate)


def test_learns_to_fill_outlines(tmp_path):
    """After 80 steps its translations of unseen outlines are four times as near to the wanted as at the start."""
    validation = drawn.pairs(tmp_path / "val", 4, seed=1)
    method = new(drawn.pairs(tmp_path / "train", 16), 80, validation, filters=8, batch_size=4, lr=2e-3)
    before = method.evaluate()["val_l1"]
    for step in range(80):
        method.step(method.load(torch.arange(4) + 4 * (step % 4), step), step)
    after = method.evaluate()["val_l1"]
    assert after < before / 4, (before, after)
    sheet = method.samples()["translations"]
    assert sheet.width == 3 * 96 + 4 * 4 and sheet.height > 4 * 96, "four pairs in three columns"


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_saved_generator_opens_and_translates_alike(data, tmp_path, ema):
    method = new(data, ema=ema, batch_size=1)
    for step in range(2):
        method.step(method.load(torch.arange(1), step), step)
    run = Run(tmp_path)
    method.save_model(run)
    opened = translators.load(tmp_path)
    x, _ = data.batch(torch.arange(2))
    kept = method.ema.network if ema else method.generator.eval()
    with torch.no_grad():
        expected = (kept(x.float() / 127.5 - 1) * 0.5 + 0.5).clamp(0, 1)
        assert torch.allclose(opened(x), expected, atol=1e-6)
