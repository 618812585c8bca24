"""SimGAN: its steps against a plain reckoning, the buffer that is really used."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mlcli.data.domains import Domain
from mlcli.methods.adaptation import simgan
from mlcli.methods.adaptation import supervised_stage as source
from mlcli.methods.adaptation.registry import SimGan
from mlcli.methods.adaptation.simgan import SimGAN
from mlcli.methods.synthesis import digits
from tests import shapes

SMALL = SimGan(
    batch_size=10, filters=4, blocks=1, history=15, refiner_first=2, discriminator_first=1, steps=8, refiner_steps=1
)


def new(tmp_path, **changes) -> SimGAN:
    return SimGAN(shapes.context(tmp_path, replace(SMALL, **changes)))


def test_the_classifier_learns_from_the_refiner_at_several_moments(tmp_path, monkeypatch):
    """Of eight steps two refiners are kept, of the sixth and of the last, which is R in the end."""
    context = shapes.context(tmp_path, replace(SMALL, steps=5, checkpoints=2, source_steps=2, lr=0.05))
    learned_from = []
    train = source.train_and_select
    monkeypatch.setattr(
        source,
        "train_and_select",
        lambda context, name, domain: (learned_from.append(domain), train(context, name, domain))[1],
    )
    adapted = simgan.adapt(context)
    (refined,), own = learned_from, context.source
    images = refined.images.split(len(own))
    assert len(images) == 2 and torch.equal(refined.labels, own.labels.repeat(2))
    assert list(refined.paths) == own.paths * 2
    assert torch.equal(images[-1], adapted.to_target(own.images)), "the last is the translator of the run"
    assert not torch.equal(images[0], images[-1]) and not torch.equal(images[-1], own.images)


@pytest.mark.parametrize(
    "steps, kept", [(8, {7, 8, 9, 10, 11}), (1, {4}), (57, {36, 42, 48, 54, 60})], ids=["few", "one", "many"]
)
def test_refiners_are_kept_from_the_second_half_of_the_game(steps, kept, tmp_path):
    """Three steps are of one player alone: before these end R has learned nothing of the target."""
    assert new(tmp_path, steps=steps).checkpoint_steps == kept


def test_the_discriminator_judges_parts_of_a_image(tmp_path):
    """A pixel in the corner changes some patches of many."""
    method = new(tmp_path)
    images = torch.zeros(2, 1, 28, 28)
    images[1, 0, 0, 0] = 1
    judged = method.discriminator(images)
    changed = (judged[0] != judged[1]).float().mean().item()
    assert judged[0].numel() == 12 * 12 and 0 < changed < 0.4


def test_a_step_of_the_game_is_the_published_one(tmp_path):
    method = new(tmp_path, regularization=0.5)
    batch = method.load(torch.arange(10), 5)
    x, y = (each.float() / 127.5 - 1 for each in batch)
    refiner, d = copy.deepcopy(method.network), copy.deepcopy(method.discriminator)
    adams = [torch.optim.Adam(each.parameters(), 1e-3, betas=(0.5, 0.999)) for each in (refiner, d)]
    refined = refiner(x)
    patches = d(refined)[0].numel()  # sums over patches and pixels, as published, for each patch
    sums = -torch.sigmoid(d(refined)).log().sum() + 0.5 * (refined - x).abs().sum()
    loss_r = sums / (10 * patches)
    loss_r.backward()
    adams[0].step()
    adams[1].zero_grad()
    refined = refiner(x).detach()
    loss_d = -torch.sigmoid(d(y)).log().mean() - (1 - torch.sigmoid(d(refined))).log().mean()
    loss_d.backward()
    adams[1].step()
    losses = method.step(batch, 5)
    assert (losses["loss_refiner"] + losses["loss_regularization"]).item() == pytest.approx(loss_r.item(), rel=1e-4)
    assert losses["loss_discriminator"].item() == pytest.approx(loss_d.item(), rel=1e-4)
    for ours, plain in ((method.network, refiner), (method.discriminator, d)):
        for name, weights in plain.state_dict().items():
            assert torch.allclose(ours.state_dict()[name], weights, atol=2e-4), name


def test_the_refiner_learns_to_keep_bright_strokes_on_black(tmp_path):
    """Alone it comes to the image itself, and does not stay with one that is all black, which is near most."""
    drawn = torch.stack([digits.digit(number, 0, 16)[0] for number in range(64)])[:, None]
    source = Domain(drawn, [Path(str(number)) for number in range(64)], torch.arange(64) % 10)
    method = SimGAN(shapes.context(tmp_path, SimGan(), source))
    for step in range(60):
        losses = method.step(method.load(torch.arange(64), step), step)
    black = method.config.regularization * method.values_per_patch * drawn.float().mean().item() / 127.5
    assert losses["loss_regularization"].item() < 0.5 * black


def test_each_player_learns_alone_first(tmp_path):
    method = new(tmp_path)
    changed = []
    for step in range(4):
        before = copy.deepcopy([method.network, method.discriminator])
        method.step(method.load(torch.arange(10), step), step)
        now = [method.network, method.discriminator]
        changed.append(
            [
                any(not torch.equal(p, q) for p, q in zip(old.parameters(), new.parameters(), strict=True))
                for old, new in zip(before, now, strict=True)
            ]
        )
    assert changed == [[True, False], [True, False], [False, True], [True, True]]


@pytest.mark.parametrize("history", [0, 15])
def test_half_of_what_the_discriminator_sees_is_history(history, tmp_path):
    method, shown, fresh, old = new(tmp_path, history=history), [], [], []
    judge = method.discriminator.forward
    method.discriminator.forward = lambda images: (shown.append(images.detach()), judge(images))[1]
    exchange = method.buffer.exchange
    method.buffer.exchange = lambda new, random: (fresh.append(new.clone()), exchange(new, random))[1]
    for step in range(3, 43):
        shown.clear()
        method.step(method.load(torch.arange(10) + step % 8 * 10, step), step)
        old += [not any(torch.equal(each, new) for new in fresh[-1]) for each in shown[-1][10:]]
    fraction = sum(old[20:]) / len(old[20:])  # the buffer is full after two batches
    assert len(method.buffer.images) == history and (fraction == 0 if not history else 0.35 < fraction < 0.65)


def test_images_of_the_buffer_survive_a_resume(tmp_path):
    method, other = new(tmp_path), new(tmp_path)
    for step in range(3, 8):
        method.step(method.load(torch.arange(10), step), step)
    for name, part in method.state.items():
        other.state[name].load_state_dict(copy.deepcopy(part.state_dict()))
    losses = [each.step(each.load(torch.arange(10), 8), 8) for each in (method, other)]
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    assert isinstance(method.network, nn.Module) and torch.equal(method.buffer.images, other.buffer.images)
