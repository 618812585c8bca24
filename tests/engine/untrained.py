"""Networks that have learned nothing, for the tests of their layers."""

import torch

from mlcli.engine import models, translators
from mlcli.engine.pairs import Kind
from mlcli.methods.adapt.seuda import behind


def untrained(name: str) -> models.Model:
    """A torchvision classifier at its own input size, its weights of no account."""
    if name == "cifarnet":
        model = models.create(name, [str(n) for n in range(10)], 32)
    elif name.startswith("regnet"):  # copies its weights while it is built
        model = models._of_source(name, name)
    else:
        with torch.device("meta"):
            model = models._of_source(name, name)
    model.network.eval()
    return model


def translated(generator: str, side: int = 16) -> models.Model:
    """CifarNet behind a generator by name, with instance norms, as `mlcli adapt --method seuda` writes it."""
    torch.manual_seed(0)
    translator = translators.create(generator, Kind(3), Kind(3), (side, side), filters=4, norm="instance")
    model = behind(translator, models.create("cifarnet", ("a", "b", "c"), side))
    model.network.eval().requires_grad_(False)
    return model
