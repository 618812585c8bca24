"""Networks that have learned nothing, for the tests of their layers."""

import torch

from mlcli.data.pairs import ImageSpec
from mlcli.methods.adaptation.seuda import behind
from mlcli.models import registry, translators
from mlcli.models.model import Model


def untrained(name: str) -> Model:
    """A torchvision classifier at its own input size, its weights of no account."""
    if name == "cifarnet":
        model = registry.create(name, [str(n) for n in range(10)], 32)
    elif name.startswith("regnet"):  # copies its weights while it is built
        model = registry.as_pretrained(name, name)
    else:
        with torch.device("meta"):
            model = registry.as_pretrained(name, name)
    model.network.eval()
    return model


def translated(generator: str, side: int = 16) -> Model:
    """CifarNet behind a generator by name, with instance norms, as `mlcli adapt --method seuda` writes it."""
    torch.manual_seed(0)
    translator = translators.create(generator, ImageSpec(3), ImageSpec(3), (side, side), filters=4, norm="instance")
    model = behind(translator, registry.create("cifarnet", ("a", "b", "c"), side))
    model.network.eval().requires_grad_(False)
    return model
