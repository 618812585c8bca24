"""Segmentation of images of any size by a trained model, and evaluation of masks."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.pairs import ImageSpec
from mlcli.errors import ImageError
from mlcli.imaging import image_io
from mlcli.methods.evaluation import significance
from mlcli.methods.evaluation.classification import predict
from mlcli.models import artifacts, model_files
from mlcli.models.artifacts import SEGMENTER
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime


def load(run: str | Path) -> Model:
    """Load the segmenter of a run of `mlcli adapt --task segment`, or of one of its stages, in evaluation mode.

    Raises WeightsError if the run has none.
    """
    model = model_files.described(artifacts.read_run(run, SEGMENTER), str(run), SEGMENTER)
    model.network.eval().requires_grad_(False)
    return model


def segment(model: Model, images: Tensor, runtime: Runtime) -> list[Tensor]:
    """The class of each pixel, (H, W) uint8 for each of the images (N, C, H, W), as `ImageSpec(C)` reads them.

    The whole image is resized to the size of the training images. The probabilities are resized to the size of the
    image before the most probable class is taken.
    """
    side, spec = model.preprocessing.crop, ImageSpec(model.preprocessing.channels)
    p = predict(model, torch.stack([spec.resize(each, (side, side)) for each in images]), runtime)
    size = images.shape[2], images.shape[3]
    return [_resized(each, size).argmax(0).to(torch.uint8) for each in p]


def _resized(p: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities (K, h, w) at another size (H, W)."""
    if p.shape[1:] == size:
        return p
    return F.interpolate(p[None], size, mode="bilinear", antialias=True)[0]


def read_pair(mask: Path, true: Path, classes: int) -> tuple[Tensor, Tensor]:
    """Read a predicted mask and the true mask, both (H, W). Raises ImageError if they cannot be compared."""
    predicted, truth = (image_io.read_labels(path)[0] for path in (mask, true))
    if truth.max() >= classes:
        raise ImageError(f"{true}: holds class {int(truth.max())}, the model knows 0 to {classes - 1}")
    if predicted.shape != truth.shape:
        sizes = (f"{each.shape[1]} x {each.shape[0]}" for each in (truth, predicted))
        raise ImageError(f"{true}: {' pixels, its image '.join(sizes)}")
    return predicted, truth


def evaluate(classes: Sequence[str], masks: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Dice coefficients of pairs (predicted mask, true mask), both (H, W): their number, mean, interval and classes.

    The score of an image is the mean over the classes in either of its masks, without the background; 1 without
    classes. The interval is the 95 % bootstrap interval of the mean over images.
    """
    rows = [significance.dice(predicted[None], true[None], len(classes)) for predicted, true in masks]
    coefficients = torch.cat(rows)  # (N, K - 1), NaN where neither mask has the class
    figure = significance.figure([significance.mean_dice(coefficients)], "segment")
    counts = (~coefficients.isnan()).sum(0).tolist()
    means = coefficients.nanmean(0).tolist()
    per_class = {
        name: {"dice": mean if count else None, "count": count}
        for name, mean, count in zip(classes[1:], means, counts, strict=True)
    }
    return {"count": len(rows), "dice": figure["mean"], "interval": figure["interval"], "per_class": per_class}
