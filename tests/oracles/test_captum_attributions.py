"""Explanations beside captum's of the same settings, on the embedded network.

Ours fold batch norms, compute many images together, and of occlusion only what a square changes.
"""

import copy
from pathlib import Path

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, GuidedGradCam, IntegratedGradients, LayerGradCam, Occlusion

from mlcli.imaging import image_io
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.layer_maps import last_layer
from mlcli.methods.explanation.registry import METHODS
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Targets
from mlcli.models import registry
from mlcli.runtime.device import Runtime

PHOTOS = Path("samples/photos")
CLASS = 3


@pytest.fixture(scope="module")
def model():
    return registry.load("cifarnet")


@pytest.fixture(scope="module")
def images(model):
    photos = [image_io.read(PHOTOS / name) for name in ("cat.jpg", "astronaut.jpg")]
    return model.normalized(torch.stack([model.preprocessing.prepare(photo) for photo in photos]))


@pytest.fixture(scope="module")
def network(model):
    """As captum wants it: ReLUs that are modules and work in no tensor's place."""
    network = copy.deepcopy(model.network).eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return network


def ours(model, images, method, **options):
    targets = Targets(model, [str(CLASS)])
    scorer = Scorer(model, targets.objectives, Runtime(torch.device("cpu"), "fp32"), last_layer(model))
    found = METHODS[method].compute(scorer, images, targets.of(None) * len(images), Explaining(**options))
    return torch.stack([each.values for each in found])


def assert_equal(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_integrated_gradients(network, images):
    """In double precision: in single, rounding decides about one ReLU or other of the path, in captum's as in ours."""
    model = registry.load("cifarnet")
    model.network.double()
    black = model.normalized(torch.zeros(1, 3, 32, 32)).double()
    oracle = IntegratedGradients(copy.deepcopy(network).double())
    expected = oracle.attribute(images.double(), baselines=black, target=CLASS, n_steps=3)
    assert_equal(ours(model, images.double(), "integrated-gradients", path_steps=3).double(), expected)


@pytest.mark.parametrize("side, stride", [(16, 8), (9, 7), (32, 1)])
def test_occlusion(model, images, network, side, stride):
    """Squares that end at the border, that reach over it, and one that hides all."""
    expected = Occlusion(network).attribute(
        images,
        sliding_window_shapes=(3, side, side),
        strides=(3, stride, stride),
        target=CLASS,
        perturbations_per_eval=8,
    )
    assert_equal(ours(model, images, "occlusion", window=side, stride=stride), expected)


@pytest.mark.parametrize("method, oracle", [("deconvnet", Deconvolution), ("guided-backprop", GuidedBackprop)])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of captum, about hooks and gradients
def test_rules_of_relus(model, images, network, method, oracle):
    assert_equal(ours(model, images, method), oracle(network).attribute(images.clone(), target=CLASS))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of captum, about hooks and gradients
def test_class_activation_maps(model, images, network):
    layer = network.get_submodule(last_layer(model).address)
    expected = LayerGradCam(network, layer).attribute(images, target=CLASS, relu_attributions=True)
    assert_equal(ours(model, images, "grad-cam"), expected[:, 0])
    expected = GuidedGradCam(network, layer).attribute(images.clone(), target=CLASS)
    assert_equal(ours(model, images, "guided-grad-cam"), expected)
