"""What each method gives, on the embedded network and on one whose answer is known; captum's values: tests/oracles."""

import pytest
import torch
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.methods.explanation import incremental_inference
from mlcli.methods.explanation.attribution import CONTRIBUTION, importance
from mlcli.methods.explanation.configs import NAMES, TOLERANCE, Explaining
from mlcli.methods.explanation.integrated_gradients import integrated_gradients
from mlcli.methods.explanation.layer_maps import grid, last_layer, require_later, resolve
from mlcli.methods.explanation.occlusion import occlusion, square
from mlcli.methods.explanation.registry import METHODS
from mlcli.methods.explanation.rise import masks
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.smoothgrad import smoothgrad
from mlcli.methods.explanation.targets import Targets
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure import features
from tests.methods.explanation.conftest import CPU

QUICK = {"samples": 2, "masks": 8, "window": 8, "stride": 8, "path_steps": 4}


class Corner(nn.Module):
    """Two classes: how bright the upper left quarter is, and the lower right one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)
        self.conv.weight.data[0, 0, 1, 1] = 1.0
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(8)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4, 2, bias=False)
        self.classifier.weight.data = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])

    def forward(self, x):
        return self.classifier(self.flatten(self.pool(self.relu(self.conv(x)))))


@pytest.fixture(scope="module")
def corner():
    preprocessing = Preprocessing(crop=16, mean=(0.0,), std=(1.0,), channels=1)
    return Model("corner", Corner().eval(), ("first", "second"), preprocessing, "corner")


def test_the_registry_has_what_the_help_names():
    assert tuple(METHODS) == NAMES


@pytest.mark.parametrize("method", [name for name in NAMES if name != "grad-cam"])
def test_each_method_finds_what_the_answer_depends_on(corner, scored, method):
    """The quarter of the class. Grad-CAM cannot: it weights whole maps, of which this network has one."""
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    for text, quarter in (("first", (slice(0, 8), slice(0, 8))), ("second", (slice(8, 16), slice(8, 16)))):
        scorer, targets = scored(corner, text)
        scorer.layer = features.resolve(corner, "relu")
        (found,) = METHODS[method].compute(scorer, image, targets, Explaining(**{**QUICK, "masks": 512}))
        map = importance(found.values, METHODS[method].meaning, (16, 16)).clamp_min(0)
        inside = map[quarter].sum() / map.sum()
        assert inside > (0.5 if method == "rise" else 0.99), (method, text, inside)


@pytest.mark.parametrize("method", NAMES)
def test_maps_are_of_one_image_each_and_repeat(cifarnet, images, scored, method):
    scorer, targets = scored(cifarnet, "cat")
    compute = METHODS[method].compute
    both = compute(scorer, images, targets * 2, Explaining(**QUICK))
    alone = compute(scorer, images[1:], targets, Explaining(**QUICK))
    assert torch.allclose(both[1].values, alone[0].values, rtol=1e-4, atol=1e-6)
    assert both[0].values.dtype == torch.float32 and both[0].values.isfinite().all()
    assert not torch.allclose(both[0].values, both[1].values)
    shape = both[0].values.shape
    assert shape == {"grad-cam": (4, 4), "layer-cam": (4, 4), "rise": (32, 32)}.get(method, (3, 32, 32))


def test_each_image_has_a_target_of_its_own(cifarnet, images):
    targets = Targets(cifarnet, ["cat", "dog"])
    scorer = Scorer(cifarnet, targets.objectives, CPU)
    values = scorer.values(images, targets.of(None))
    logits = cifarnet.network(images)
    assert torch.allclose(values, torch.stack([logits[0, 3], logits[1, 5]]), rtol=1e-4)


@pytest.mark.parametrize("baseline", ["black", "blurred", "mean"])
def test_integrated_gradients_are_complete(cifarnet, images, scored, baseline):
    scorer, targets = scored(cifarnet, "cat")
    (found,) = integrated_gradients(scorer, images[:1], targets, Explaining(baseline=baseline))
    told = found.more["completeness"]
    assert told["error"] <= TOLERANCE and 9 <= told["points"] < 200
    assert found.values.sum().item() == pytest.approx(told["sum"], rel=1e-4)
    assert told["sum"] == pytest.approx(told["difference"], rel=TOLERANCE)
    if baseline == "mean":
        end, start = scorer.values(torch.stack([images[0], torch.zeros_like(images[0])]), targets * 2).tolist()
        assert end - start == pytest.approx(told["difference"], rel=1e-3)


def test_the_refined_path_is_the_path_of_many_points(cifarnet, images, scored):
    scorer, targets = scored(cifarnet, "cat")
    (few,) = integrated_gradients(scorer, images[:1], targets, Explaining())
    (many,) = integrated_gradients(scorer, images[:1], targets, Explaining(path_steps=64))
    both = torch.stack([few.values.flatten(), many.values.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95


def test_nothing_is_attributed_where_the_image_is_the_baseline(cifarnet, scored):
    scorer, targets = scored(cifarnet, "cat")
    black = cifarnet.normalized(torch.zeros(1, 3, 32, 32))
    (found,) = integrated_gradients(scorer, black, targets, Explaining())
    assert not found.values.any() and found.more["completeness"]["error"] is None
    other = torch.zeros(3, 32, 32)
    (found,) = integrated_gradients(scorer, black, targets, Explaining(), given=other)
    assert found.values.any()


def test_smoothgrad_without_noise_is_the_gradient(cifarnet, images, scored):
    scorer, targets = scored(cifarnet, "cat")
    (found,) = smoothgrad(scorer, images[:1], targets, Explaining(samples=2, noise=0))
    _, gradient = scorer.gradients(images[:1], targets)
    assert torch.allclose(found.values, gradient[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size, stride", [(6, 6), (16, 8)])
def test_incremental_inference_gives_the_values_of_the_whole_network(
    cifarnet, images, scored, monkeypatch, size, stride
):
    """The values of whole images; something of it is computed by crops, or the test would say nothing."""
    scorer, targets = scored(cifarnet, "cat")
    monkeypatch.setattr(incremental_inference, "WORTH", 1.0)
    (found,) = occlusion(scorer, images[:1], targets, Explaining(window=size, stride=stride))
    network = scorer._incremental
    assert all(network._exact.values()) and len(network.divisions) > 5
    network.divisions.clear()
    (whole,) = occlusion(scorer, images[:1], targets, Explaining(window=size, stride=stride))
    assert torch.allclose(found.values, whole.values, rtol=1e-3, atol=1e-5)


def test_a_division_that_is_not_exact_is_given_up(cifarnet, images, scored, monkeypatch):
    scorer, targets = scored(cifarnet, "cat")
    (expected,) = occlusion(scorer, images[:1], targets, Explaining(window=6, stride=6))
    wrong, _ = scored(cifarnet, "cat")
    network = wrong._incremental
    first = network.divisions[0]
    monkeypatch.setattr(type(first), "__call__", lambda self, maps: self.module.forward(maps)["after"] * 1.1 + 0.1)
    corners = [(0, 0), (6, 6), (12, 12)]
    plan = network._plan(images[:1], torch.zeros(1, 3, 1, 1).expand_as(images[:1]), corners, 6)
    assert plan == []
    monkeypatch.undo()
    (found,) = occlusion(wrong, images[:1], targets, Explaining(window=6, stride=6))
    assert torch.allclose(found.values, expected.values, rtol=1e-3, atol=1e-6)


def test_squares_that_do_not_fit(cifarnet):
    assert square(Explaining(), 224) == (32, 16) and square(Explaining(), 3) == (1, 1)
    with pytest.raises(UsageError, match="--window 40: the network is given images of 32 pixels"):
        square(Explaining(window=40), 32)
    with pytest.raises(UsageError, match="--stride 9: leaves pixels unhidden"):
        square(Explaining(window=8, stride=9), 32)


def test_masks_of_rise_hide_half_of_the_image_smoothly():
    found = masks(200, 30, 20, 0, 0)
    assert found.shape == (200, 30, 20) and 0 <= found.min() and found.max() <= 1.000001
    assert found.mean().item() == pytest.approx(0.5, abs=0.02)
    assert (found[:, 1:] - found[:, :-1]).abs().max() < 0.5
    assert not torch.equal(found, masks(200, 30, 20, 200, 0)) and torch.equal(found, masks(200, 30, 20, 0, 0))


def test_contributions_are_added_up_and_regions_enlarged():
    values = torch.tensor([[[1.0, -2.0]], [[0.5, 1.0]]])
    assert importance(values, CONTRIBUTION, (1, 2)).tolist() == [[1.5, -1.0]]
    assert importance(values, "gradient", (1, 2)).tolist() == [[1.0, 2.0]]
    assert importance(values[0], "region", (2, 4)).shape == (2, 4)


# -- layers with positions -------------------------------------------------------------------------------------


def test_the_last_maps_of_convolutions(cifarnet):
    assert last_layer(cifarnet).alias == "conv5"
    with pytest.raises(UsageError, match="--layer classifier: its values have no positions"):
        resolve(cifarnet, "classifier")
    assert resolve(cifarnet, "conv2").shape == (128, 16, 16)


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return registry.create("timm/test_vit", ("a", "b", "c"), 64)


def test_tokens_of_a_transformer(transformer, scored):
    """The last whose positions matter: after the last attention the class is read from its own token."""
    layer = last_layer(transformer)
    assert layer.address.startswith("blocks.5.norm1") and grid(layer) == (10, 10) or grid(layer) == (4, 4)
    scorer, targets = scored(transformer, "a")
    image = torch.randn(1, 3, 64, 64)
    for method in ("grad-cam", "layer-cam"):
        (found,) = METHODS[method].compute(scorer, image, targets, Explaining())
        assert found.values.shape == grid(layer)
    maps, gradients = scorer.layer_gradients(image, targets)
    assert maps.shape == (1, 64, 4, 4) and gradients.any()


def test_a_target_before_the_layer_is_named(cifarnet, images, scored):
    scorer, targets = scored(cifarnet, "conv1:3")
    with pytest.raises(UsageError, match="--layer conv5: conv1:3 does not depend on it"):
        require_later(cifarnet, last_layer(cifarnet), [targets[0].objective])
    require_later(cifarnet, resolve(cifarnet, "conv1"), [targets[0].objective])
    scorer, targets = scored(cifarnet, "conv4:3@9,9")
    with pytest.raises(UsageError, match="conv4:3@9,9: the map of conv4.relu has the columns 0 to 3"):
        scorer.values(images[:1], targets)
