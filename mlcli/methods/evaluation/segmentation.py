"""A trained segmenter applied to images of any size, and how well its masks agree with others."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.pairs import ImageSpec
from mlcli.errors import ImageError
from mlcli.io import image_io
from mlcli.methods.evaluation import evidence
from mlcli.methods.evaluation.classification import predict
from mlcli.models import registry
from mlcli.models.registry import Model
from mlcli.models.weight_files import model_file
from mlcli.runtime.device import Runtime


def load(run: str | Path) -> Model:
    """The segmenter of a run of `mlcli adapt --task segment`, or of one of its stages, in evaluation mode.

    Raises WeightsError where there is none.
    """
    model = registry.from_file(model_file(run, "adapt --task segment"), str(run), registry.SEGMENTATION)
    model.network.eval().requires_grad_(False)
    return model


def segment(model: Model, images: Tensor, runtime: Runtime) -> list[Tensor]:
    """(N, C, H, W) as `ImageSpec(C)` reads them -> the class of each pixel, (H, W) uint8 of each image.

    An image is brought whole to the size that the model was trained at, as the training images were; its
    probabilities are brought back to the size of the image before the likeliest class is taken.
    """
    side, kind = model.preprocessing.crop, ImageSpec(model.preprocessing.channels)
    p = predict(model, torch.stack([kind.resize(each, (side, side)) for each in images]), runtime)
    return [_resized(each, images.shape[2:]).argmax(0).to(torch.uint8) for each in p]


def _resized(p: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, h, w) at another size (H, W)."""
    if p.shape[1:] == size:
        return p
    return F.interpolate(p[None], size, mode="bilinear", antialias=True)[0]


def read_pair(mask: Path, true: Path, classes: int) -> tuple[Tensor, Tensor]:
    """A mask and the true one, both (H, W). Raises ImageError where they cannot be compared."""
    called, truth = (image_io.read_labels(path)[0] for path in (mask, true))
    if truth.max() >= classes:
        raise ImageError(f"{true}: holds class {int(truth.max())}, the model knows 0 to {classes - 1}")
    if called.shape != truth.shape:
        sizes = (f"{each.shape[1]} x {each.shape[0]}" for each in (truth, called))
        raise ImageError(f"{true}: {' pixels, its image '.join(sizes)}")
    return called, truth


def evaluate(classes: Sequence[str], masks: Iterable[tuple[Tensor, Tensor]]) -> dict:
    """Dice coefficients of (mask, true mask) pairs, both (H, W): count, mean over images with interval, each class.

    An image counts by the mean over the classes that are in it or its mask, but for the background; where there are
    none it is right. The interval is the bootstrap's, at 95 %.
    """
    rows = [evidence.dice(called[None], true[None], len(classes)) for called, true in masks]
    each = torch.cat(rows)  # (N, K - 1), NaN where a class is in neither
    figure = evidence.figure([evidence.mean_dice(each)], "segment")
    there = (~each.isnan()).sum(0).tolist()
    means = each.nanmean(0).tolist()
    per_class = {
        name: {"dice": mean if count else None, "count": count}
        for name, mean, count in zip(classes[1:], means, there, strict=True)
    }
    return {"count": len(rows), "dice": figure["mean"], "interval": figure["interval"], "per_class": per_class}
