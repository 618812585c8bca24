"""A metric for few identities: Fisher's discriminant on the maps of a network that has learned other things.

Some dozens of people are too few to teach a network what a face is: it remembers each of them, and knows no others.
Here the network is left as it is, and of its maps f (see embedding.places) a metric is solved for, as in Fisherfaces
(Belhumeur et al. 1997) and within-class covariance normalization (Hatch et al. 2006):

    d(a, b) = |u(a) - u(b)|,  u = A (f - m) / |A (f - m)|,  A' A = (S_w + beta S_b + lambda tr(S_w) / D I)^-1

S_w is the scatter of the images of an identity, in all their views, around its mean; S_b that of the means around
their mean m. What changes between two images of one person counts little, what does not counts much.

Deviations: all D directions are kept, not one less than there are identities, since it is others that will be told
apart; and beta > 0, so that the directions in which the few known ones happen to differ do not outweigh all others.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mlcli.data.identities import folds
from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import DataError, UsageError
from mlcli.methods.metric_learning import configs, embedder
from mlcli.methods.metric_learning.calibration import Calibrated
from mlcli.methods.metric_learning.losses import Whitened
from mlcli.methods.metric_learning.verification import Pairs, all_pairs, different_pairs
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes

MOST = 4096  # dimensions: 134 megabytes of scatter for each fold


class Scatter:
    """Sums over images, from which the scatter of any part of the identities follows.

    means: (N, D) of the views of each image. seconds: (F, D, D) sums of f f' over the views of the images of each
    fold. Float64, since the scatter is a small difference of large sums.
    """

    def __init__(self, images: int, folds: int, dimension: int, views: int):
        self.views = views
        self.means = torch.zeros(images, dimension, dtype=torch.float64)
        self.seconds = torch.zeros(folds, dimension, dimension, dtype=torch.float64)

    def add(self, seen: Tensor, images: Tensor, folds: Tensor) -> None:
        """seen: (V, B, D) the views of so many images, (B,) their numbers and folds."""
        seen = seen.cpu().double()
        self.means[images] = seen.mean(0)
        for fold in folds.unique().tolist():
            f = seen[:, folds == fold].flatten(0, 1)
            self.seconds[fold] += f.T @ f

    def solved(self, identities: Tensor, fold_of: Tensor, left_out: int | None, config: configs.Fisher) -> Whitened:
        """The metric of all images (N,) but those of a fold."""
        rest = fold_of != (-1 if left_out is None else left_out)
        second = sum(part for number, part in enumerate(self.seconds) if number != left_out)
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

    def state_dict(self) -> dict:
        return {"means": self.means, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping) -> None:
        self.means, self.seconds = state["means"], state["seconds"]


class Fisher(Calibrated):
    """One pass over the images, each seen once; training.loop drives it.

    validation: images of other identities. Without them every identity is left out once, with those of its fold, and
    compared by the metric of the others: the threshold is calibrated on all, and the result is of all.
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
    ):
        self.images, self.config, self.asked, self.processes = images, config, asked, processes
        self.validates = validation is not None
        self.validation = validation if self.validates else images
        fp32 = Runtime(runtime.device, "fp32")
        seeing = config.views, config.flip, config.content
        self.encoder = embedder.Siamese(model.to(fp32), Whitened(1), *seeing, fp32, layer=config.layer)
        self.fold_of = torch.zeros_like(images.labels)
        if not self.validates:
            self.fold_of = folds(images.labels, config.folds, config.seed)
        seen = self.encoder.seen(images.batch(torch.zeros(1, dtype=torch.int64)))
        if seen.shape[-1] > MOST:
            raise UsageError(
                f"--layer {config.layer}: makes {seen.shape[-1]:,} numbers of an image, {MOST:,} are the most that a "
                "metric is solved for; take an earlier layer, with fewer maps"
            )
        self.scatter = Scatter(len(images), int(self.fold_of.max()) + 1, seen.shape[-1], len(seen))
        self.state = {"scatter": self.scatter}
        self.found: Pairs | None = None  # what `compared` said since the last step

    def items(self, batch_size: int) -> int:
        """The images, filled up to whole batches by numbers of none."""
        return -(-len(self.images) // batch_size) * batch_size

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """((B,) the numbers of the images, those of none among them, (B, C, S, S) their pixels)."""
        return indices, self.images.batch(indices.clamp_max(len(self.images) - 1))

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        indices, pixels = batch
        seen = self.encoder.seen(pixels)  # (V, B, D)
        seen = self.processes.all_gather(seen.transpose(0, 1)).transpose(0, 1)
        indices = self.processes.all_gather(indices.to(seen.device)).cpu()
        self.found = None
        there = indices < len(self.images)
        seen, indices = seen[:, there.to(seen.device)], indices[there]
        self.scatter.add(seen, indices, self.fold_of[indices])
        # how far the views of one image are from their mean, squared
        return {"views": (seen - seen.mean(0)).square().sum(2).mean()}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return [str(self.images.paths[index]) for index in indices.tolist() if index < len(self.images)]

    def warning(self, values: Mapping[str, float]) -> str:
        return ""

    def with_space(self, left_out: int | None = None) -> embedder.Siamese:
        """The network with the metric of all identities but those of a fold."""
        space = self.scatter.solved(self.images.labels, self.fold_of, left_out, self.config)
        return replace(self.encoder, space=space.to(self.encoder.runtime.device))

    @property
    def result(self) -> embedder.Siamese:
        return self.with_space()

    @property
    def different(self) -> int:
        if self.validates:
            return super().different
        return sum(different_pairs(self.images.labels[self.fold_of == fold]) for fold in self.fold_of.unique())

    def compared(self) -> Pairs:
        """All pairs of the validation set or, without one, of each fold by the metric of the others."""
        if self.found is None:
            self.found = super().compared() if self.validates else self.left_out_in_turn()
        return self.found

    def left_out_in_turn(self) -> Pairs:
        """The pairs of each fold by the metric of the others."""
        found = []
        for fold in range(len(self.scatter.seconds)):
            own = (self.fold_of == fold).nonzero()[:, 0]
            result = self.with_space(fold)
            points = result.space(self.scatter.means[own].float().to(result.runtime.device)).cpu()
            pairs = all_pairs(result, points, self.images.labels[own], self.config.seed)
            found.append((own[pairs.first], own[pairs.second], pairs.distances, pairs.same))
        return Pairs(*map(torch.cat, zip(*found, strict=True)))
