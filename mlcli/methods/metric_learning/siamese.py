"""Training of a Siamese network (Bromley et al. 1993; Taigman et al. 2014; Koch et al. 2015) on images by identity.

Both images of a pair go through one encoder f, and only a distance of the two outputs is used: the network is
symmetric by construction. A batch holds K images of each of P identities (Hermans et al. 2017), so that positive pairs
are as frequent for a rare identity as for any other, and hard negative pairs are found among all images of the batch.
See `losses` for the losses and spaces.

Two augmentations: each image is distorted at random every time it is used, and rotated images count as identities of
their own, since a rotated character is another character (Santoro et al. 2016).
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlcli.data.distortions import Distortion
from mlcli.data.image_dataset import ImageDataset
from mlcli.imaging.image_io import to_unit
from mlcli.methods.metric_learning import configs, embedder
from mlcli.methods.metric_learning.calibration import Calibrated
from mlcli.methods.metric_learning.losses import LOSSES, Space
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import EMA
from mlcli.training.optimizers import AdamW, ConvolutionMuon
from mlcli.training.schedules import SCHEDULES


class Batch(NamedTuple):
    """The shard of this process of a training batch."""

    images: Tensor  # (B, C, S, S) in [0, 1]
    identities: Tensor  # (B,)


class Embedding(nn.Module):
    """The encoder and the space as one network: normalized images (N, C, S, S) -> points (N, D)."""

    def __init__(self, network: nn.Module, space: Space) -> None:
        super().__init__()
        self.network, self.space = network, space

    def forward(self, images: Tensor) -> Tensor:
        return self.space(self.network(images).float())


class Siamese(Calibrated):
    """Training of one network; training.loop drives it. Its items are identities, not images.

    validation: images of other identities, on whose pairs the result is measured and the threshold calibrated.
    asked: the false accept rate that the threshold is set for; None for the threshold of equal error.
    """

    def __init__(
        self,
        model: Model,
        images: ImageDataset,
        validation: ImageDataset,
        config: configs.Siamese,
        asked: float | None,
        runtime: Runtime,
        processes: Processes,
    ) -> None:
        self.model, self.images, self.validation, self.config = model, images, validation, config
        self.asked, self.runtime, self.processes = asked, runtime, processes
        self.seed, self.hyperparameters = config.seed, asdict(config)
        self.members = members(images.class_labels)
        self.items = len(self.members) * config.orientations
        space, loss = LOSSES[config.loss]
        margin = configs.MARGINS[config.loss] if config.margin is None else config.margin
        dimension = len(model.classes)
        network = model.network.to(runtime.device).to(memory_format=runtime.memory_format)
        self.embedding = processes.prepare(Embedding(network, space(dimension).to(runtime.device)))
        self.loss = processes.prepare(loss(dimension, self.items, margin, config.softmax_scale).to(runtime.device))
        self.ema = EMA(self.embedding, config.ema)
        self.distortion = Distortion(
            config.rotation, config.scale, config.shear, config.shift, config.warp, config.contrast
        )
        self.optimizers = optimizers(self.embedding, self.loss, config)
        self.learning_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.state: dict[str, Any] = {
            "embedder": self.embedding,
            "loss": self.loss,
            "average": self.ema.network,
        }
        self.state |= {f"optimizer{number}": optimizer for number, optimizer in enumerate(self.optimizers)}

    def chosen(self, identities: Tensor, step: int) -> Tensor:
        """(P, K) indices of the images of each identity for a step, none twice unless the identity has fewer than K."""
        rows = []
        for identity in identities.tolist():
            own = self.members[identity % len(self.members)]
            random = rng(self.config.seed, "siamese/images", step, identity)
            rounds = -(-self.config.images_per_identity // len(own))
            order = torch.cat([torch.randperm(len(own), generator=random) for _ in range(rounds)])
            rows.append(own[order[: self.config.images_per_identity]])
        return torch.stack(rows)

    def load(self, indices: Tensor, step: int) -> Batch:
        chosen = self.chosen(indices, step).flatten()  # (P K,)
        images = to_unit(self.images.batch(chosen))
        each = indices.repeat_interleave(self.config.images_per_identity)
        images = oriented(images, each // len(self.members))
        # Drawn for the whole batch and divided, so that several processes use the same numbers as one.
        random = rng(self.config.seed, "siamese/distortions", step)
        total = len(images) * self.processes.count
        drawn, flips = self.distortion.draw(total, random), torch.rand(total, generator=random) < 0.5
        images = self.distortion.apply(images, self.processes.shard(drawn))
        if self.config.flip:
            images = torch.where(self.processes.shard(flips)[:, None, None, None], images.flip(-1), images)
        return Batch(images, each)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images, identities = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        factor = SCHEDULES[self.config.schedule](step, self.config.steps)
        for optimizer, learning_rates in zip(self.optimizers, self.learning_rates, strict=True):
            for group, learning_rate in zip(optimizer.param_groups, learning_rates, strict=True):
                group["lr"] = learning_rate * factor
        self.embedding.train()
        with self.runtime.autocast():
            points = self.embedding(self.model.normalized(images))  # (B, D)
        loss = self.loss(*self.gathered(points, identities))
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients([*self.embedding.parameters(), *self.loss.parameters()])
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.update(self.embedding, step)
        return {"loss": loss}

    def gathered(self, points: Tensor, identities: Tensor) -> tuple[Tensor, Tensor]:
        """The points and identities of the whole batch; only this process's shard has gradients.

        Every process then computes the loss of all pairs. The gradient of the encoder is the sum of the gradients of
        all shards; `average_gradients` takes their mean, hence the factor.
        """
        if self.processes.count == 1:
            return points, identities
        points.register_hook(lambda gradient: gradient * self.processes.count)
        parts = list(self.processes.all_gather(points.detach()).chunk(self.processes.count))
        parts[self.processes.rank] = points
        return torch.cat(parts), self.processes.all_gather(identities)

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return [str(self.images.paths[index]) for index in self.chosen(indices, step).flatten().tolist()]

    def warning(self, values: Mapping[str, float]) -> str:
        return ""

    @property
    def result(self) -> embedder.Siamese:
        """The EMA of the network, in fp32, since its distances are compared with those of other calls and machines."""
        ema = self.ema.network
        model = replace(self.model, network=ema.network)
        views = self.config.views, self.config.flip, self.config.content
        return embedder.Siamese(model, ema.space, *views, Runtime(self.runtime.device, "fp32"))


def members(labels: Tensor) -> list[Tensor]:
    """The indices of the images of each identity that has any."""
    return [(labels == label).nonzero()[:, 0] for label in labels.unique()]


def oriented(images: Tensor, orientations: Tensor) -> Tensor:
    """(N, C, S, S), each rotated by orientations (N,) quarter turns, and flipped from 4 on."""
    result = images.clone()
    for orientation in orientations.unique().tolist():
        selected = orientations == orientation
        rotated = torch.rot90(images[selected], orientation % 4, (-2, -1))
        result[selected] = rotated.flip(-1) if orientation >= 4 else rotated
    return result


def optimizers(embedding: Embedding, loss: nn.Module, config: configs.Siamese) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the convolutions and AdamW for the rest.

    The weights of the loss have five times the learning rate. Matrices and kernels have weight decay; vectors, and the
    weights of the loss, have none.
    """
    muon = config.optimizer == "muon"
    kernels = [p for p in embedding.parameters() if p.ndim == 4]
    matrices = [p for p in embedding.parameters() if p.ndim > 1 and not (muon and p.ndim == 4)]
    learning_rate = configs.ADAMW_LR if muon else config.lr
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": [p for p in embedding.parameters() if p.ndim <= 1]},
        {"params": list(loss.parameters()), "lr": 5 * learning_rate},
    ]
    adam = AdamW([group for group in groups if group["params"]], learning_rate, weight_decay=0.0)
    return [ConvolutionMuon(kernels, config.lr), adam] if muon else [adam]
