from dataclasses import replace

import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.visualization.activation_maximization import maximize, predicted_classes
from mlcli.methods.visualization.configs import SMALL_IMAGES, Maximization
from mlcli.methods.visualization.objective_parser import parse
from mlcli.methods.visualization.objectives import Batch, interpolation
from mlcli.models import registry
from mlcli.models.structure.features import Activations
from mlcli.runtime.device import Runtime

RUNTIME = Runtime(torch.device("cpu"), "fp32")
QUICK = replace(SMALL_IMAGES, steps=30, lr=0.1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog"], 16)
    model.network.eval().requires_grad_(False)
    return model.to(RUNTIME)


def of(model, text, images):
    """The values of one objective for images (N, C, H, W) uint8, without maximization's own."""
    batch = Batch(parse(text, model) * len(images), [0] * len(images), RUNTIME.device)
    return batch(Activations(model, batch.addresses)(images), images / 255).tolist()


def test_each_unit_of_a_batch_gets_its_own_image(model):
    made = maximize(model, parse("conv3:3-6", model), QUICK, RUNTIME, snapshots=[0])
    assert made.images.shape == (4, 3, 16, 16) and made.images.dtype == torch.uint8
    answers = torch.tensor([of(model, f"conv3:{unit}", made.images) for unit in range(3, 7)])
    assert answers.diag().tolist() == pytest.approx(made.values, abs=1e-5)
    assert (answers.argmax(1) == torch.arange(4)).all()  # each is the best there is for its unit
    start = torch.tensor([of(model, f"conv3:{unit}", made.snapshots[0]) for unit in range(3, 7)]).diag()
    assert (answers.diag() > 1.5 * start).all()


def test_images_are_the_same_in_batches_of_any_size_and_seeds_differ(model):
    units = parse("conv2:3-6", model)
    config = replace(QUICK, steps=4)
    whole = maximize(model, units, config, RUNTIME, size=20).images
    done = []
    parts = maximize(
        model, units, config, RUNTIME, size=20, batch_size=3, on_step=lambda step, value: done.append(step)
    )
    assert whole.shape[2:] == (20, 20) and done == list(range(1, 9))
    assert (whole.int() - parts.images.int()).abs().max() <= 2
    other = maximize(model, units, replace(config, seed=1), RUNTIME, size=20).images
    assert (whole.int() - other.int()).abs().float().mean() > 2


def test_a_negative_objective_falls_below_nothing():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog"], 16)
    for module in model.network.conv3.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    model.network.eval().requires_grad_(False)
    made = maximize(model, parse("-conv3:3", model), QUICK, RUNTIME, snapshots=[0])
    signed = Activations(model, ["conv3@signed"])
    before, after = (signed(p)["conv3@signed"][0, 3].mean().item() for p in (made.snapshots[0], made.images))
    assert made.values == pytest.approx([-after], abs=1e-5) and after < min(0, before) - 0.2


def test_frames_go_from_one_objective_to_the_other(model):
    a, b = (parse(text, model)[0] for text in ("conv3:3", "conv3:9"))
    made = maximize(model, interpolation(a, b, 5), QUICK, RUNTIME, group=5, aligned=True)
    falling, rising = of(model, "conv3:3", made.images), of(model, "conv3:9", made.images)
    assert falling == sorted(falling, reverse=True) and falling[0] > 1.5 * falling[-1]
    assert rising == sorted(rising) and rising[-1] > 1.5 * rising[0]


def test_diverse_images_are_less_similar(model):
    found = {}
    for text in ("conv3:3", "conv3:3 - 3*diversity(conv3)"):
        made = maximize(model, parse(text, model) * 4, QUICK, RUNTIME, group=4)
        found[text] = sum(of(model, "diversity(conv3)", made.images)) / 4
    plain, diverse = found.values()
    assert diverse < plain - 0.1


def test_snapshots_and_a_start(model):
    start = torch.randint(0, 256, (3, 18, 24), dtype=torch.uint8)
    made = maximize(
        model, parse("conv3", model), replace(QUICK, steps=6), RUNTIME, size=(18, 24), start=start, snapshots=[0, 3]
    )
    assert list(made.snapshots) == [0, 3] and made.images.shape == (1, 3, 18, 24)
    assert (made.snapshots[0][0].int() - start.int()).abs().max() <= 1
    energy = [of(model, "conv3", p)[0] for p in (made.snapshots[0], made.snapshots[3], made.images)]
    assert energy == sorted(energy)


def test_a_gray_model():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog"], 16, channels=1)
    model.network.eval().requires_grad_(False)
    config = replace(QUICK, steps=8)
    made = maximize(model, parse("logit:cat - logit:dog", model), config, RUNTIME, start=torch.rand(3, 16, 16))
    assert made.images.shape == (1, 1, 16, 16)
    (name, probability), *_ = predicted_classes(model, made.images, RUNTIME)
    expected = model(made.images).softmax(1)[0, model.classes.index(name)].item()
    assert probability == pytest.approx(expected) and probability >= 0.5


def test_sizes_and_positions_that_do_not_suit(model):
    with pytest.raises(UsageError, match="--size 4: does not suit"):
        maximize(model, parse("conv5:1", model), QUICK, RUNTIME, size=4)
    with pytest.raises(UsageError, match="conv4:1@2,0: the map of conv4.* has the columns 0 to 1"):
        maximize(model, parse("conv4:1@2,0", model), QUICK, RUNTIME)


def test_a_network_of_one_size_alone_is_given_no_smaller_ones():
    model = registry.create("timm/vit_tiny_patch16_224", ["cat", "dog"], 224)
    model.network.eval().requires_grad_(False)
    made = maximize(model, parse("logit:cat", model), Maximization(steps=2), RUNTIME)
    assert made.images.shape == (1, 3, 224, 224)
    with pytest.raises(UsageError, match="does not suit"):
        maximize(model, parse("logit:cat", model), Maximization(steps=2, octaves=2), RUNTIME)
    with pytest.raises(UsageError, match="--size 128: does not suit"):
        maximize(model, parse("logit:cat", model), Maximization(steps=2), RUNTIME, size=128)
