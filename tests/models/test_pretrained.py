"""Networks that begin from the weights of a model: a new last layer, the model's own normalization, any size."""

import pytest
import torch

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.models import pretrained, registry

OF_ITS_OWN = Preprocessing(40, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", squash=True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = registry.create("cifarnet", ("a", "b", "c"), 32)
    made.preprocessing = OF_ITS_OWN
    return made


@pytest.mark.parametrize("classes", [("x", "y"), ("x", "y", "z")])
def test_all_but_the_last_layer_is_known(model, classes):
    """Also where there are as many classes, so that the shapes of the last layers are the same."""
    made = pretrained.learner(model, classes, 24)
    known, state = model.network.state_dict(), made.network.state_dict()
    new = {name for name in state if state[name].shape != known[name].shape or not state[name].equal(known[name])}
    assert new == {name for name in state if name.startswith("classifier")} and made.classes == classes


def test_images_are_normalized_as_the_model_learned_and_brought_to_the_size(model):
    made = pretrained.learner(model, ("x", "y"), 24).preprocessing
    assert (made.mean, made.std) == (OF_ITS_OWN.mean, OF_ITS_OWN.std)
    assert made.prepare(torch.rand(3, 50, 70)).shape == (3, 24, 24) and made.resize is None and not made.squash


@pytest.mark.parametrize("name", ["timm/test_efficientnet", "squeezenet1_1"])
def test_the_new_layer_begins_without_an_opinion(name):
    """timm would draw weights of up to 1 / sqrt(classes), whose logits are of the order of 20."""
    head = list(pretrained.learner(registry.create(name, ("a", "b"), 64), ("x", "y", "z"), 64).network.parameters())[-2]
    assert len(head) == 3 and head.abs().max() <= head[0].numel() ** -0.5


def test_a_size_that_does_not_suit_is_refused():
    fixed = registry.create("timm/vit_tiny_patch16_224", ("a", "b"), 32)
    with pytest.raises(UsageError, match="--size 48: does not suit timm/vit_tiny_patch16_224"):
        pretrained.learner(fixed, ("x", "y"), 48)


@pytest.mark.parametrize("name", ["lenet", "digits", "smallnet", "unet", "sobel"])
def test_a_network_without_weights_is_refused(name):
    with pytest.raises(UsageError, match=f"--pretrained: {name} comes without weights; leave the option out"):
        pretrained.known(name)
