"""What counts as the features of a network: what its last layer makes the answers of."""

import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.adaptation.encoder import last_linear, penultimate
from mlcli.models import registry


@pytest.mark.parametrize("name", ["lenet", "lenet-bn", "digits"])
def test_the_last_linear_layer_makes_the_logits_of_the_features(name):
    torch.manual_seed(0)
    network = registry.create(name, ("a", "b", "c"), 28, 1).network.eval()
    x = torch.randn(4, 1, 28, 28)
    with torch.no_grad(), penultimate(network) as caught:
        logits = network(x)
        assert caught[0].ndim == 2
    torch.testing.assert_close(last_linear(network)(caught[0]), logits)
    assert len(caught) == 1, "nothing is caught outside"


def test_a_segmenter_has_maps_for_features():
    torch.manual_seed(0)
    network = registry.create("unet", ("none", "lung", "heart"), 32, 1).network.eval()
    with torch.no_grad(), penultimate(network) as caught:
        masks = network(torch.randn(2, 1, 32, 32))
    assert caught[0].shape[0] == 2 and caught[0].ndim == 4
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.ConvTranspose2d)][-1]
    torch.testing.assert_close(last(caught[0]), masks)
    with pytest.raises(UsageError, match="no linear layer"):
        last_linear(network)
