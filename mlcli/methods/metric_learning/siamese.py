"""Training of a Siamese network (Bromley et al. 1993; Taigman et al. 2014; Koch et al. 2015) on images by identity.

Both images of a pair go through one encoder f, and only a distance of the two outputs is used: the network is
symmetric by construction. A batch holds K images of each of P identities (Hermans et al. 2017), so that the pairs of
one identity are as frequent for a rare identity as for any other, and hard pairs of different ones are found among all
that the batch holds. See metric_learning for the losses and spaces.

Two ways to have more than the data: every image is distorted anew each time, and turned images are identities of
their own, since a character on its side is another one (Santoro et al. 2016).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcli.data.distortions import Distortion
from mlcli.data.image_dataset import ImageDataset
from mlcli.io.image_io import to_unit
from mlcli.methods.metric_learning import configs
from mlcli.methods.metric_learning import embedder as embedding
from mlcli.methods.metric_learning.calibration import Calibrated
from mlcli.methods.metric_learning.losses import LOSSES
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import Average
from mlcli.training.optimizers import ConvolutionMuon
from mlcli.training.schedules import SCHEDULES


class Batch(NamedTuple):
    """What this process learns from in a step."""

    images: Tensor  # (B, C, S, S) in [0, 1]
    identities: Tensor  # (B,)


class Embedder(nn.Module):
    """images as the encoder takes them -> points."""

    def __init__(self, network: nn.Module, space: nn.Module):
        super().__init__()
        self.network, self.space = network, space

    def forward(self, images: Tensor) -> Tensor:
        return self.space(self.network(images).float())


class Siamese(Calibrated):
    """Training of one network; training.loop drives it. Its items are identities, not images.

    validation: images of other identities, by whose pairs the result is measured and the threshold calibrated.
    asked: the false accept rate that the threshold is for; None for that of equal error.
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
    ):
        self.model, self.images, self.validation, self.config = model, images, validation, config
        self.asked, self.runtime, self.processes = asked, runtime, processes
        self.members = members(images.labels)
        self.items = len(self.members) * config.orientations
        space, loss = LOSSES[config.loss]
        margin = configs.MARGINS[config.loss] if config.margin is None else config.margin
        dimension = len(model.classes)
        network = model.network.to(runtime.device, memory_format=runtime.memory_format)
        self.embedder = processes.prepare(Embedder(network, space(dimension).to(runtime.device)))
        self.loss = processes.prepare(loss(dimension, self.items, margin, config.softmax_scale).to(runtime.device))
        self.average = Average(self.embedder, config.ema)
        self.distortion = Distortion(
            config.rotation, config.scale, config.shear, config.shift, config.warp, config.contrast
        )
        self.optimizers = optimizers(self.embedder, self.loss, config)
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.state = {"embedder": self.embedder, "loss": self.loss, "average": self.average.network}
        self.state |= {f"optimizer{number}": optimizer for number, optimizer in enumerate(self.optimizers)}

    def chosen(self, identities: Tensor, step: int) -> Tensor:
        """(P, K) the images that a step takes of each identity, none twice unless it has fewer."""
        rows = []
        for identity in identities.tolist():
            own = self.members[identity % len(self.members)]
            random = rng(self.config.seed, "siamese/images", step, identity)
            rounds = -(-self.config.images // len(own))
            order = torch.cat([torch.randperm(len(own), generator=random) for _ in range(rounds)])
            rows.append(own[order[: self.config.images]])
        return torch.stack(rows)

    def load(self, indices: Tensor, step: int) -> Batch:
        chosen = self.chosen(indices, step).flatten()  # (P K,)
        images = to_unit(self.images.batch(chosen))
        each = indices.repeat_interleave(self.config.images)
        images = oriented(images, each // len(self.members))
        # Drawn for the whole batch and shared out, so that several processes see what one would.
        random = rng(self.config.seed, "siamese/distortions", step)
        total = len(images) * self.processes.count
        drawn, mirror = self.distortion.draw(total, random), torch.rand(total, generator=random) < 0.5
        images = self.distortion.apply(images, self.processes.shard(drawn))
        if self.config.flip:
            images = torch.where(self.processes.shard(mirror)[:, None, None, None], images.flip(-1), images)
        return Batch(images, each)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images, identities = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        factor = SCHEDULES[self.config.schedule](step, self.config.steps)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        self.embedder.train()
        with self.runtime.autocast():
            points = self.embedder(self.model.normalized(images))  # (B, D)
        loss = self.loss(*self.gathered(points, identities))
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients([*self.embedder.parameters(), *self.loss.parameters()])
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.embedder, step)
        return {"loss": loss}

    def gathered(self, points: Tensor, identities: Tensor) -> tuple[Tensor, Tensor]:
        """The points and identities of the whole batch, of which this process's share has gradients.

        Every process then computes the loss of all pairs. The gradient of an encoder is the sum of what the processes
        find for their shares; they are averaged, hence the factor.
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
    def result(self) -> embedding.Siamese:
        """The averaged network, in fp32: distances are compared with those of other calls and machines."""
        average = self.average.network
        model = replace(self.model, network=average.network)
        seeing = self.config.views, self.config.flip, self.config.content
        return embedding.Siamese(model, average.space, *seeing, Runtime(self.runtime.device, "fp32"))


def members(labels: Tensor) -> list[Tensor]:
    """The numbers of the images of each identity that has any."""
    return [(labels == label).nonzero()[:, 0] for label in labels.unique()]


def oriented(images: Tensor, orientations: Tensor) -> Tensor:
    """(N, C, S, S), each turned by (N,) quarters, and mirrored from 4 on."""
    result = images.clone()
    for orientation in orientations.unique().tolist():
        these = orientations == orientation
        turned = torch.rot90(images[these], orientation % 4, (-2, -1))
        result[these] = turned.flip(-1) if orientation >= 4 else turned
    return result


def optimizers(embedder: Embedder, loss: nn.Module, config: configs.Siamese) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the convolutions and AdamW for the rest; what the loss has learns five times as fast.

    Matrices and kernels decay; vectors, and what the loss has, do not.
    """
    muon = config.optimizer == "muon"
    kernels = [p for p in embedder.parameters() if p.ndim == 4]
    matrices = [p for p in embedder.parameters() if p.ndim > 1 and not (muon and p.ndim == 4)]
    rate = configs.RATE if muon else config.lr
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": [p for p in embedder.parameters() if p.ndim <= 1]},
        {"params": list(loss.parameters()), "lr": 5 * rate},
    ]
    adam = torch.optim.AdamW([group for group in groups if group["params"]], rate, weight_decay=0.0)
    return [ConvolutionMuon(kernels, config.lr), adam] if muon else [adam]
