"""Training on a labeled domain: what is pretrained learns at a tenth of the learning rate, its statistics stay."""

import pytest
import torch

from mlcli.methods.adaptation import registry as methods
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.supervised_stage import SupervisedStage
from mlcli.models import registry
from mlcli.training import run_folder
from tests import shapes


@pytest.mark.parametrize("begins_from_weights", [True, False])
def test_what_is_pretrained_learns_more_slowly(begins_from_weights, tmp_path):
    """The first step of Adam changes every weight by the learning rate."""
    torch.manual_seed(0)
    known = registry.create("cifarnet", ("a", "b"), 16, channels=1)
    run_folder.save_tensors(tmp_path / "known/model.safetensors", known.network.state_dict(), known.describe())
    name = str(tmp_path / "known") if begins_from_weights else "cifarnet"
    config = methods.Adda(model=name, pretrained=begins_from_weights, source_lr=1e-3)
    context = shapes.context(tmp_path, config, shapes.domain(12))
    method = SupervisedStage(context, context.new_model(), context.source)
    before = {key: tensor.clone() for key, tensor in method.network.state_dict().items()}
    method.step(method.load(torch.arange(12), 0), 0)
    step = {key: (t - before[key]).abs().max().item() for key, t in method.network.state_dict().items()}
    factor = 0.1 if begins_from_weights else 1
    assert step["conv3.0.conv.weight"] == pytest.approx(factor * step["classifier.weight"], rel=1e-2)
    assert (step["conv1.norm.running_mean"] == 0) == begins_from_weights


def test_images_are_rotated_by_their_angles():
    torch.manual_seed(0)
    images = torch.randint(256, (3, 2, 8, 8), dtype=torch.uint8)
    turned = supervised_stage.rotated(images, torch.tensor([0.0, 90.0, 180.0]))
    assert torch.equal(turned[0], images[0])
    assert torch.equal(turned[1], images[1].rot90(-1, (1, 2))) or torch.equal(turned[1], images[1].rot90(1, (1, 2)))
    assert torch.equal(turned[2], images[2].rot90(2, (1, 2))) and turned.dtype == torch.uint8
    masks = torch.randint(3, (1, 1, 8, 8))
    assert set(supervised_stage.rotated(masks, torch.tensor([17.0]), mode="nearest").unique().tolist()) <= {0, 1, 2}


def test_moves_depend_on_the_step_and_stay_within_their_limits(tmp_path):
    context = shapes.context(tmp_path, methods.Shot(shift=2, rotate=10.0))
    one, again, other = (supervised_stage.draw_moves(context, 200, "shot/moves", step) for step in (3, 3, 4))
    assert torch.equal(one.angles, again.angles) and torch.equal(one.shifts, again.shifts)
    assert not torch.equal(one.angles, other.angles)
    assert 9 < one.angles.abs().max() <= 10 and one.angles.min() < 0 < one.angles.max()
    assert set(one.shifts.unique().tolist()) == {-2, -1, 0, 1, 2}


def test_colors_keep_what_is_drawn_apart_from_its_ground(tmp_path):
    context = shapes.context(tmp_path, methods.Shot())
    images = torch.zeros(64, 3, 2, 2, dtype=torch.uint8)
    images[..., 0, 0] = 255
    colored = supervised_stage.recolored(context, images, 5).float()
    apart = (colored[..., 0, 0] - colored[..., 1, 1]) / 255
    assert apart.abs().min() >= 0.29 and apart.abs().max() <= 0.71
    assert (apart > 0).any() and (apart < 0).any()
    assert torch.equal(supervised_stage.recolored(context, images, 5).float(), colored)
    assert not torch.equal(supervised_stage.recolored(context, images, 6).float(), colored)


def test_labels_are_smoothed(tmp_path):
    context = shapes.context(tmp_path, methods.Shot(model="lenet", rotate=0.0, shift=0))
    method = SupervisedStage(context, context.new_model(), context.source)
    images, labels = method.load(torch.arange(12), 0)
    with torch.no_grad():
        logs = method.network((images.float() / 255 - 0.5) / 0.25).log_softmax(1)
    plain = -logs[torch.arange(12), labels].mean()
    loss = method.step((images, labels), 0)["loss"]
    assert loss.item() == pytest.approx((0.9 * plain - 0.1 * logs.mean()).item(), rel=1e-5)
