"""Training that begins from the weights of a model instead of from random ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from mlcli.errors import UsageError
from mlcli.models import building, catalog, registry, sizes
from mlcli.models.last_layer import last_layer, with_classes
from mlcli.models.model import Model

SMALLEST = 64  # pixels a side


def known(name: str, weights: str | Path | None = None) -> Model:
    """The model of this name with its weights. Raises UsageError where it has none, WeightsError where they fail."""
    architecture = catalog.resolved(name)
    entry = catalog.architecture(architecture) if architecture else None  # a run has none
    if entry and not (entry.pretrained and entry.trainable):
        raise UsageError(
            f"--pretrained: {name} comes without weights; leave the option out to train it from scratch, or take "
            "another --model, such as efficientnet_lite0 or the folder of a run"
        )
    return registry.load(name, weights)


def learner(model: Model, classes: Sequence[str], size: int | None) -> Model:
    """A model with the weights of another, but a new last layer for these classes, for images of (size, size).

    Images are normalized as the other model wants them; of size None they are also cut and resized as it wants them.
    Raises UsageError where the network takes no such size.
    """
    result = with_classes(model, classes)
    head = last_layer(result.network, nn.Linear, nn.Conv2d, outputs=len(classes))
    if isinstance(head, (nn.Linear, nn.Conv2d)):
        # Some of timm's begin with logits of 20, by which all that is known would be unlearned first
        head.reset_parameters()
    if size is None:
        return result
    building.check_size(result.network, model.name, size, model.preprocessing.channels)
    return replace(result, preprocessing=replace(model.preprocessing, resize=None, crop=size, squash=False))


def default_size(model: Model, paths: Sequence[Path]) -> int:
    """The side that training takes where none is asked for: the first image's, at most what the model has learned on.

    Of images that are much smaller than those it learned on a model knows little: they are enlarged to `SMALLEST`.
    """
    own = model.preprocessing.crop
    return sizes.first_side(paths, min(SMALLEST, own), own)
