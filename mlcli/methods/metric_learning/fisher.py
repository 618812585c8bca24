"""A metric for few identities: Fisher's discriminant on the maps of a network that was trained on other data.

Some dozens of people are too few to train a network to recognize faces: it memorizes them and fails on others. Here the
network stays fixed, and a metric on its maps f (see `embedder.regional`) is computed in closed form, as in Fisherfaces
(Belhumeur et al. 1997) and within-class covariance normalization (Hatch et al. 2006):

    d(a, b) = |u(a) - u(b)|,  u = A (f - m) / |A (f - m)|,  A' A = (S_w + beta S_b + lambda tr(S_w) / D I)^-1

S_w is the scatter of the images of an identity, in all their views, around its mean; S_b is the scatter of these means
around their mean m. Features that vary between images of one person get a small weight, features that do not a large
one.

Deviations: all D directions are kept, not one less than there are identities, since other identities will be compared;
and beta > 0, so that the directions in which the few training identities happen to differ do not outweigh all others.
"""

import functools
import operator
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.data.identities import folds
from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import DataError, UsageError
from mlcli.methods.metric_learning import configs, embedder
from mlcli.methods.metric_learning.calibration import Calibrated
from mlcli.methods.metric_learning.losses import Whitened
from mlcli.methods.metric_learning.verification import Pairs, all_pairs, different_pairs
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes

MAX_DIMENSION = 4096  # 134 megabytes of scatter for each fold


class Scatter:
    """Sums over images, from which the scatter of any part of the identities follows.

    means: (N, D), the mean over the views of each image. seconds: (F, D, D), the sum of f f' over the views of the
    images of each fold. Both are float64, since the scatter is a small difference of large sums.
    """

    def __init__(self, images: int, folds: int, dimension: int, views: int) -> None:
        self.views = views
        self.means = torch.zeros(images, dimension, dtype=torch.float64)
        self.seconds = torch.zeros(folds, dimension, dimension, dtype=torch.float64)

    def add(self, views: Tensor, images: Tensor, folds: Tensor) -> None:
        """Add the encoded views (V, B, D) of images with these indices (B,) and folds (B,)."""
        views = views.cpu().double()
        self.means[images] = views.mean(0)
        for fold in folds.unique().tolist():
            f = views[:, folds == fold].flatten(0, 1)
            self.seconds[fold] += f.T @ f

    def solved(self, identities: Tensor, fold_of: Tensor, left_out: int | None, config: configs.Fisher) -> Whitened:
        """The metric of all images (N,), or of all but one fold."""
        rest = fold_of != (-1 if left_out is None else left_out)
        second = functools.reduce(operator.add, (part for fold, part in enumerate(self.seconds) if fold != left_out))
        centers = torch.stack([self.means[rest & (identities == one)].mean(0) for one in identities[rest].unique()])
        counts = identities[rest].unique(return_counts=True)[1] * self.views
        within = (second - centers.T @ (counts[:, None] * centers)) / counts.sum()
        center = centers.mean(0)
        between = (centers - center).T @ (centers - center) / len(centers)
        dimension = len(center)
        metric = within + config.between * between
        metric += config.shrinkage * within.trace() / dimension * torch.eye(dimension, dtype=torch.float64)
        root, failed = torch.linalg.cholesky_ex(metric)
        if failed:
            raise DataError("the images of an identity do not differ from each other; there is nothing to solve for")
        factor = torch.linalg.solve_triangular(root, torch.eye(dimension, dtype=torch.float64), upper=False)
        space = Whitened(dimension)
        space.center.copy_(center)
        space.factor.copy_(factor)
        return space

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.means, self.seconds = state["means"], state["seconds"]


class Fisher(Calibrated):
    """One pass over all images; training.loop drives it.

    validation: images of other identities. Without them the metric is cross-validated over folds of identities: the
    threshold is calibrated on the pairs within each fold, by the metric of the other folds, and the result is the
    metric of all images.
    """

    def __init__(
        self,
        model: Model,
        images: ImageDataset,
        validation: ImageDataset | None,
        config: configs.Fisher,
        asked: float | None,
        runtime: Runtime,
        processes: Processes,
    ) -> None:
        self.images, self.config, self.asked, self.processes = images, config, asked, processes
        self.seed, self.hyperparameters, self.identities = config.seed, asdict(config), images.class_labels
        self.validates = validation is not None
        self.validation = images if validation is None else validation
        fp32 = Runtime(runtime.device, "fp32")
        views = config.views, config.flip, config.content
        self.encoder = embedder.Siamese(model.to(fp32), Whitened(1), *views, fp32, layer=config.layer)
        self.fold_of = torch.zeros_like(self.identities)
        if not self.validates:
            self.fold_of = folds(self.identities, config.folds, config.seed)
        first = self.encoder.encoded_views(images.batch(torch.zeros(1, dtype=torch.int64)))
        if first.shape[-1] > MAX_DIMENSION:
            raise UsageError(
                f"--layer {config.layer}: makes {counted(first.shape[-1], 'number')} of an image; {MAX_DIMENSION:,} "
                "are the most that a metric is computed for; take an earlier layer, with fewer maps"
            )
        self.scatter = Scatter(len(images), int(self.fold_of.max()) + 1, first.shape[-1], len(first))
        self.state: dict[str, Any] = {"scatter": self.scatter}
        self.found: Pairs | None = None  # cache of `compared` since the last step

    def items(self, batch_size: int) -> int:
        """The number of images, rounded up to whole batches."""
        return -(-len(self.images) // batch_size) * batch_size

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(indices (B,), some of which may be beyond the last image, images (B, C, S, S))."""
        return indices, self.images.batch(indices.clamp_max(len(self.images) - 1))

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        indices, pixels = batch
        views = self.encoder.encoded_views(pixels)  # (V, B, D)
        views = self.processes.all_gather(views.transpose(0, 1)).transpose(0, 1)
        indices = self.processes.all_gather(indices.to(views.device)).cpu()
        self.found = None
        exists = indices < len(self.images)
        views, indices = views[:, exists.to(views.device)], indices[exists]
        self.scatter.add(views, indices, self.fold_of[indices])
        # the mean squared distance of the views of an image from their mean
        return {"views": (views - views.mean(0)).square().sum(2).mean()}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return [str(self.images.paths[index]) for index in indices.tolist() if index < len(self.images)]

    def warning(self, values: Mapping[str, float]) -> str:
        return ""

    def with_space(self, left_out: int | None = None) -> embedder.Siamese:
        """The network with the metric of all identities, or of all but one fold."""
        space = self.scatter.solved(self.identities, self.fold_of, left_out, self.config)
        return replace(self.encoder, space=space.to(self.encoder.runtime.device))

    @property
    def result(self) -> embedder.Siamese:
        return self.with_space()

    @property
    def different(self) -> int:
        if self.validates:
            return super().different
        folds_present = self.fold_of.unique().tolist()
        return sum(different_pairs(self.identities[self.fold_of == fold]) for fold in folds_present)

    def compared(self) -> Pairs:
        """All pairs of the validation set or, without one, of each fold by the metric of the other folds."""
        if self.found is None:
            self.found = super().compared() if self.validates else self.cross_validated()
        return self.found

    def cross_validated(self) -> Pairs:
        """The pairs of each fold by the metric of the other folds."""
        found = []
        for fold in range(len(self.scatter.seconds)):
            own = (self.fold_of == fold).nonzero()[:, 0]
            result = self.with_space(fold)
            points = result.space(self.scatter.means[own].float().to(result.runtime.device)).cpu()
            pairs = all_pairs(result, points, self.identities[own], self.seed)
            found.append((own[pairs.first], own[pairs.second], pairs.distances, pairs.same))
        return Pairs(*map(torch.cat, zip(*found, strict=True)))
