"""CycleGAN: its losses and updates against a plain reckoning, the pools, a tiny run that learns."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.generation import cyclegan
from mlcli.methods.generation.configs import CycleGAN as Config
from mlcli.methods.generation.cyclegan import CycleGAN
from mlcli.models import translators
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.training.run_folder import Run
from tests import drawn

CPU = torch.device("cpu")
SMALL = Config(generator="resnet-6", size=(16, 16), filters=4, discriminator_filters=4, layers=1, flip=False, pool=2)


def new(data, steps: int = 10, validation=None, classifiers=None, **changes) -> CycleGAN:
    torch.manual_seed(0)
    config = replace(SMALL, **changes)
    return CycleGAN(data, config, steps, Runtime(CPU, "fp32"), Processes(CPU), validation, classifiers)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn.sets(tmp_path_factory.mktemp("sets"), 8)


def plain_step(method: CycleGAN, batch) -> tuple[dict[str, float], dict]:
    """(losses of the first step, networks after it), as the paper says it, term by term."""
    a, b = (each.float() / 127.5 - 1 for each in batch)
    networks = {
        name: copy.deepcopy(network)
        for name, network in {
            "G": method.generators["AtoB"],
            "F": method.generators["BtoA"],
            "D_B": method.discriminators["AtoB"],
            "D_A": method.discriminators["BtoA"],
        }.items()
    }
    there, back, judge_b, judge_a = networks.values()
    weights = [[*there.parameters(), *back.parameters()], [*judge_b.parameters(), *judge_a.parameters()]]
    adams = [torch.optim.Adam(each, 2e-4, betas=(0.5, 0.999)) for each in weights]
    fake_b, fake_a = there(a), back(b)
    terms = {
        "loss_gan_AtoB": (judge_b(fake_b) - 1).square().mean(),
        "loss_gan_BtoA": (judge_a(fake_a) - 1).square().mean(),
        "loss_cycle_A": 10 * (back(fake_b) - a).abs().mean(),
        "loss_cycle_B": 10 * (there(fake_a) - b).abs().mean(),
        "loss_identity_B": 5 * (there(b) - b).abs().mean(),
        "loss_identity_A": 5 * (back(a) - a).abs().mean(),
    }
    sum(terms.values()).backward()
    adams[0].step()
    adams[1].zero_grad()
    # the pools are empty yet, so what was just made is shown
    terms["loss_d_AtoB"] = 0.5 * ((judge_b(b) - 1).square().mean() + judge_b(fake_b.detach()).square().mean())
    terms["loss_d_BtoA"] = 0.5 * ((judge_a(a) - 1).square().mean() + judge_a(fake_a.detach()).square().mean())
    (terms["loss_d_AtoB"] + terms["loss_d_BtoA"]).backward()
    adams[1].step()
    return {name: value.item() for name, value in terms.items()}, networks


@pytest.mark.parametrize("changes", [{}, {"generator": "unet"}, {"upsampling": "resize"}])
def test_a_step_is_the_published_one(data, changes):
    method = new(data, **changes)
    batch = method.load(torch.arange(1), 0)
    expected, networks = plain_step(method, batch)
    losses = method.step(batch, 0)
    assert expected.keys() == {name for name in losses if name.startswith("loss")}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-3), name
    ours = [*method.generators.values(), *method.discriminators.values()]
    for network, plain in zip(ours, networks.values(), strict=True):
        for name, weights in plain.state_dict().items():
            near = (network.state_dict()[name] - weights).abs() < 2e-5
            # biases before a norm have no gradient but rounding, of either sign
            assert near.float().mean() > 0.97 or (name.endswith("bias") and weights.abs().max() < 3e-4), name


def test_generators_move_before_discriminators_judge_and_by_frozen_ones(data):
    order = []
    method = new(data)
    for name in ("generators_adam", "discriminators_adam"):
        adam = getattr(method, name)
        step = adam.step

        def noted(name=name, step=step):
            order.append((name, [p.requires_grad for p in method.discriminators["AtoB"].parameters()][0]))
            step()

        adam.step = noted
    method.step(method.load(torch.arange(1), 0), 0)
    assert order == [("generators_adam", False), ("discriminators_adam", True)]


def test_discriminators_see_old_translations_once_the_pool_is_full(data):
    method, shown = new(data, pool=3), []
    discriminate = method.discriminate

    def noted(way, real, fake, step):
        if way == "AtoB":
            shown.append(fake.clone())
        return discriminate(way, real, fake, step)

    method.discriminate = noted
    made = []
    generate = method.generate

    def kept(a, b):
        terms, fakes = generate(a, b)
        made.append(fakes["AtoB"].detach().clone())
        return terms, fakes

    method.generate = kept
    for step in range(30):
        method.step(method.load(torch.tensor([step % 8]), step), step)
    new_ones = [torch.equal(a, b) for a, b in zip(made, shown, strict=True)]
    assert all(new_ones[:3]) and 6 <= sum(new_ones[3:]) <= 21
    for image, fresh in zip(shown, new_ones, strict=True):
        assert fresh or any(torch.equal(image, old) for old in made)


def test_no_identity_no_term_and_kinds_may_differ(data, tmp_path):
    from mlcli.data.pairs import ImageSpec, UnpairedSets

    drawn.write(tmp_path, 4)
    paths = [sorted((tmp_path / side).iterdir()) for side in "AB"]
    mixed = UnpairedSets.load(*paths, (ImageSpec(1), ImageSpec(3)), drawn.framing())
    with pytest.raises(UsageError, match="--identity"):
        new(mixed)
    method = new(mixed, identity=0.0)
    losses = method.step(method.load(torch.arange(1), 0), 0)
    assert not any("identity" in name for name in losses)
    assert method.samples()["translations-and-back"].width >= 6 * 96


def test_options_run(data):
    for changes in ({"loss": "wasserstein", "scales": 2}, {"batch_size": 2, "norm": "batch", "ema": 0.9}):
        method = new(data, **changes)
        losses = method.step(method.load(torch.arange(2), 0), 0)
        assert all(value.isfinite() for value in losses.values())


def test_accumulated_parts_make_the_step_of_the_whole(data):
    whole, parted = (new(data, batch_size=4, accumulate=count, pool=0) for count in (1, 2))
    batch = whole.load(torch.arange(4), 0)
    one, two = whole.step(batch, 0), parted.step(batch, 0)
    for name in one:
        assert one[name].item() == pytest.approx(two[name].item(), rel=1e-3, abs=2e-2 * ("accuracy" in name)), name


def test_files_of_a_batch_are_those_that_were_shown(data):
    method = new(data)
    names = method.name_batch(torch.tensor([3]), 5)
    a, b = method.load(torch.tensor([3]), 5)
    indices = [int(name[-6:-4]) for name in names]
    assert indices[0] == 3 and names[0].endswith("A/03.png")
    window = method.drawn(1, 5)
    assert torch.equal(b, data.resize_crop.cut([data.datasets[1].get([indices[1]])[0][0]], window[3:6]))


def test_learns_to_swap_colors(tmp_path):
    """Dark images and blue ones: after 40 steps translations have the colors of the other set."""
    data = drawn.sets(tmp_path, 8)
    method = new(data, 40, generator="unet", filters=8, lr=4e-3, cycle=2.0, identity=0.0, init_gain=0.1)
    for step in range(40):
        losses = method.step(method.load(torch.tensor([step % 8]), step), step)
    a, b = (each.float() / 127.5 - 1 for each in data.batch(torch.arange(8)))
    there, back = method.results().values()
    with torch.no_grad():
        made_b, made_a = there.eval()(a), back.eval()(b)
    for made, wanted, given in ((made_b, b, a), (made_a, a, b)):
        mean = made.mean((0, 2, 3))
        assert (mean - wanted.mean((0, 2, 3))).norm() < 0.4 * (given.mean((0, 2, 3)) - wanted.mean((0, 2, 3))).norm()
    assert losses["loss_cycle_A"] + losses["loss_cycle_B"] < 2


def test_both_saved_generators_open(data, tmp_path):
    method = new(data)
    method.step(method.load(torch.arange(1), 0), 0)
    method.save_model(Run(tmp_path))
    with pytest.raises(UsageError, match="--direction AtoB or BtoA"):
        translators.load(tmp_path)
    x, _ = data.batch(torch.arange(2))
    for way, network in method.generators.items():
        with torch.no_grad():
            expected = (network(x.float() / 127.5 - 1) * 0.5 + 0.5).clamp(0, 1)
            assert torch.allclose(translators.load(tmp_path, way)(x), expected, atol=1e-5)


def test_label_flips_are_counted(data, monkeypatch):
    """With a stand-in for classifiers, which calls an image by its brighter half, and networks that turn images."""

    class Turn(torch.nn.Module):
        def forward(self, image):
            return image.flip(2)

    def predicted_classes(model, images, runtime):
        upper, lower = images.float().mean(1).chunk(2, 1)
        upper, lower = upper.mean((1, 2)), lower.mean((1, 2))
        return (upper > lower).long()

    classifier = SimpleNamespace(classes=("lower", "upper"))
    monkeypatch.setattr(cyclegan, "predicted_classes", predicted_classes)
    method = new(data, validation=data, classifiers=(classifier, classifier))
    monkeypatch.setattr(method, "results", lambda: {"AtoB": torch.nn.Identity(), "BtoA": Turn()})
    b = data.batch(torch.arange(8))[1].float().mean(1)
    unequal = (b[:, :8].mean((1, 2)) != b[:, 8:].mean((1, 2))).float().mean().item()
    assert unequal > 0.5
    assert method.flips(data) == {"val_flips_AtoB": 0.0, "val_flips_BtoA": unequal}
    assert method.evaluate().keys() == {"val_cycle_A", "val_cycle_B", "val_flips_AtoB", "val_flips_BtoA"}
    with pytest.raises(UsageError, match="different classes"):
        new(data, classifiers=(classifier, SimpleNamespace(classes=("a", "b"))))
