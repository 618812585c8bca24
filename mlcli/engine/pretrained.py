"""Training that begins from the weights of a model instead of from random ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlcli.engine import models
from mlcli.engine.models import Model
from mlcli.errors import UsageError

WITHOUT_WEIGHTS = (*models.SMALL, models.SEGMENTER, models.SOBEL)


def known(name: str, weights: str | Path | None = None) -> Model:
    """The model of this name with its weights. Raises UsageError where it has none, WeightsError where they fail."""
    if name in WITHOUT_WEIGHTS:
        raise UsageError(
            f"--pretrained: {name} comes without weights; leave the option out to train it from scratch, or take "
            "another --model, such as efficientnet_lite0 or the folder of a run"
        )
    return models.load(name, weights)


def learner(model: Model, classes: Sequence[str], size: int) -> Model:
    """A model with the weights of another, but a new last layer for these classes, for images of (size, size).

    Images are normalized as the other model wants them. Raises UsageError where the network takes no such size.
    """
    result = models.with_classes(model, classes)
    models.check_size(result.network, model.name, size, model.preprocessing.channels)
    return replace(result, preprocessing=replace(model.preprocessing, resize=None, crop=size, squash=False))
