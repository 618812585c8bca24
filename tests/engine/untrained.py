"""Networks that have learned nothing, for the tests of their layers."""

import torch

from mlcli.engine import models


def untrained(name: str) -> models.Model:
    """A torchvision classifier at its own input size, its weights of no account."""
    if name == "cifarnet":
        model = models.create(name, range(10), 32)
    elif name.startswith("regnet"):  # copies its weights while it is built
        model = models._torchvision(name)
    else:
        with torch.device("meta"):
            model = models._torchvision(name)
    model.network.eval()
    return model
