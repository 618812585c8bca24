from dataclasses import replace

import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.visualization import unit_atlas
from mlcli.methods.visualization.configs import SMALL_IMAGES
from mlcli.methods.visualization.objectives import diversity
from mlcli.models import registry
from mlcli.models.structure import features
from mlcli.models.structure.features import SIGNED, Activations
from mlcli.runtime.device import Runtime

RUNTIME = Runtime(torch.device("cpu"), "fp32")
QUICK = replace(SMALL_IMAGES, steps=24, lr=0.1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog"], 16)
    for module in model.network.conv3.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)  # so that units have negative values too
    model.network.eval().requires_grad_(False)
    return model.to(RUNTIME)


def optimize(model, units, name="conv3", config=QUICK, **options):
    layer = features.resolve(model, name)
    return unit_atlas.optimize(model, layer, units, config, RUNTIME, name=name, size=16, **options)


@pytest.fixture(scope="module")
def made(model):
    return optimize(model, [3, 7])


def signed(model, images, unit, name="conv3"):
    """(N, H, W): the unit before its ReLU, of images (N, C, H, W) uint8."""
    return Activations(model, [name + SIGNED])(images)[name + SIGNED][:, unit]


@pytest.mark.parametrize(
    "side, batch_size, sizes", [(32, None, [16, 16, 8]), (224, None, [1] * 40), (32, 10, [2] * 20)]
)
def test_units_are_optimized_together(side, batch_size, sizes):
    batches = unit_atlas.batches(list(range(5, 45)), side, batch_size)
    assert [len(batch) for batch in batches] == sizes and sum(batches, []) == list(range(5, 45))


def test_each_image_maximizes_the_objective_of_its_kind(model, made):
    assert list(made) == [3, 7]
    for unit, kinds in made.items():
        assert {kind: len(images) for kind, images in kinds.items()} == {
            "neuron": 1, "positive": 1, "negative": 1, "diverse": 4
        }  # fmt: skip
        (neuron,), (positive,), (negative,) = (kinds[kind] for kind in ("neuron", "positive", "negative"))
        maps = signed(model, torch.stack([one.image for one in (neuron, positive, negative)]), unit)
        assert maps.shape == (3, 4, 4)
        assert [one.objective for one in (neuron, positive, negative)] == [
            f"conv3:{unit}@center", f"conv3:{unit}", f"negative(conv3:{unit})"
        ]  # fmt: skip
        assert neuron.value == pytest.approx(maps[0, 2, 2].item(), rel=1e-3)
        assert positive.value == pytest.approx(maps[1].relu().mean().item(), rel=1e-3)
        assert negative.value == pytest.approx((-maps[2]).relu().mean().item(), rel=1e-3)
        activations = [one.activation for one in (neuron, positive, negative)]
        expected = [maps[0].max().item(), maps[1].max().item(), maps[2].min().item()]
        assert activations == pytest.approx(expected, rel=1e-3)
        # each is the best of the three at its own objective
        assert maps[:, 2, 2].argmax() == 0 and maps.mean((1, 2)).argmax() == 1 and maps.mean((1, 2)).argmin() == 2
        own, other = (signed(model, made[u]["positive"][0].image[None], unit).relu().mean() for u in (unit, 10 - unit))
        assert own > 1.5 * other


def test_diversity_is_weighted_by_a_fraction_of_the_value(model, made, monkeypatch):
    for kinds in made.values():
        assert kinds["diverse"][0].objective.endswith(f" - {0.25 * kinds['positive'][0].value:.3g}*diversity(conv3)")

    def similarity(made):
        images = torch.stack([one.image for kinds in made.values() for one in kinds["diverse"]])
        maps = Activations(model, ["conv3"])(images)["conv3"].flatten(2)
        return diversity(maps, torch.arange(8) // 4).mean()

    monkeypatch.setattr(unit_atlas, "DIVERSITY", 0.0)
    assert similarity(made) < similarity(optimize(model, [3, 7])) - 0.05


def test_the_same_units_give_the_same_images_and_steps_are_counted(model):
    config, steps = replace(QUICK, steps=3), []
    first = optimize(model, [5, 3], config=config, on_step=lambda done, value: steps.append(done))
    assert steps == list(range(1, 3 * unit_atlas.CALLS + 1))
    again, other = optimize(model, [5, 3], config=config), optimize(model, [5, 3], config=replace(config, seed=1))
    for kind in ("neuron", "positive", "negative", "diverse"):
        images = [torch.stack([one.image for one in run[3][kind]]) for run in (first, again, other)]
        assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


def test_a_vector_has_no_neurons_and_differs_in_the_last_stage(model):
    (kinds,) = optimize(model, [1], "classifier", replace(QUICK, steps=8)).values()
    assert set(kinds) == {"positive", "negative", "diverse"}
    assert kinds["diverse"][0].objective.endswith("*diversity(conv5)")
    (positive,), (negative,) = kinds["positive"], kinds["negative"]
    assert positive.activation == pytest.approx(positive.value) and negative.activation == pytest.approx(
        -negative.value
    )
    assert positive.activation > negative.activation


def test_the_spectrum_rises():
    groups = {
        "strongly_positive": [9, 8, 7],
        "slightly_positive": [0.3, 0.2],
        "slightly_negative": [-0.2, -0.1],
        "strongly_negative": [-8, -7, -6],
    }
    rising = unit_atlas.spectrum(groups, 2)
    assert rising == [[-8, -7], [-0.2, -0.1], [0.2, 0.3], [8, 9]]


def test_a_size_that_does_not_suit(model):
    layer = features.resolve(model, "conv5")
    unit_atlas.check(model, layer, QUICK, RUNTIME, 16)
    with pytest.raises(UsageError, match="--size 4: does not suit"):
        unit_atlas.check(model, layer, QUICK, RUNTIME, 4)
