"""Supervised training of a classifier from scratch, with the invariances of the task taught by augmentation.

Cross-entropy with label smoothing under a one-cycle rate. Images are flipped, translated and cut out at random: in
most tasks the class does not change under these, f(t(X)) = f(X). CutMix (Yun et al. 2019) pastes a piece of another
image, and of its label, so that a network cannot rest on one part of a thing.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.learning import configs
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import ConvolutionMuon
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES


def draw(n: int, size: int, config: configs.Supervised, random: torch.Generator) -> Tensor:
    """(4, n) integers: for each image its shift in y and x, and the center in y and x of what is cut out."""
    reach = min(config.shift, size - 1)
    shifts = torch.randint(-reach, reach + 1, (2, n), generator=random)
    return torch.cat([shifts, torch.randint(0, size, (2, n), generator=random)])


def augment(images: Tensor, flips: Tensor, drawn: Tensor, cutout: int = 0) -> Tensor:
    """Flip, translate and cut out each image of a batch by what was drawn for it.

    images: (N, C, S, S), any dtype; the same shape and dtype comes back.  flips: (N,) bool.  drawn: (4, N), of `draw`.
    Translation reflects the border. The cut-out square of side `cutout` is filled with the mean color of its image.
    """
    n, _, size, _ = images.shape
    dy, dx, y, x = drawn[:, :, None]  # (N, 1) each
    place = torch.arange(size)
    rows = reflect(dy + place, size)  # (N, S)
    columns = reflect(dx + place, size)
    columns = torch.where(flips[:, None], size - 1 - columns, columns)
    pixels = images.permute(0, 2, 3, 1)  # (N, S, S, C): one gather for all channels, flips included
    images = pixels[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if cutout:
        hidden_rows, hidden_columns = ((place + 0.5 - center).abs() < cutout / 2 for center in (y, x))
        mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
        images = torch.where((hidden_rows[:, :, None] & hidden_columns[:, None, :])[:, None], mean, images)
    return images


def draw_boxes(n: int, size: int, share: float, random: torch.Generator) -> Tensor:
    """(4, n) integers: for each image the top, bottom, left and right of the box that another image fills.

    Of Yun et al. 2019, with a box for each image in place of one for the batch: side S sqrt(1 - lambda), lambda
    uniform, its center anywhere, cut at the border; empty in 1 - `share` of the images.
    """
    lam, chance = torch.rand(2, n, generator=random)
    half = (size * (1 - lam).sqrt() / 2 * (chance < share)).round()  # (n,)
    center = torch.randint(0, size + 1, (2, n), generator=random)
    top, left = (center - half).clamp(0, size)
    bottom, right = (center + half).clamp(0, size)
    return torch.stack([top, bottom, left, right]).long()


def mix(images: Tensor, others: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(images with the boxes of the others pasted, share of each that is left of it).

    images, others: (N, C, S, S).  boxes: (4, N), of `draw_boxes`.  The share is lambda of the paper, (N,) in [0, 1].
    """
    top, bottom, left, right = boxes[:, :, None]  # (N, 1) each
    place = torch.arange(images.shape[-1])
    rows, columns = (place >= top) & (place < bottom), (place >= left) & (place < right)  # (N, S)
    inside = rows[:, :, None] & columns[:, None, :]
    return torch.where(inside[:, None], others, images), 1 - inside.float().mean((1, 2))


def reflect(index: Tensor, size: int) -> Tensor:
    """Indices outside [0, size) mirrored at the border pixels, as in reflection padding."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


class Whitening(nn.Module):
    """Parametrizes a kernel that sees the image: W = M A, with A the ZCA whitening of the data's patches.

    Neighboring pixels are alike, so a plain step mostly changes how a kernel sees the mean brightness of a patch. A
    step in M is a step for decorrelated pixels; edges and fine color are learned in the first epochs instead of the
    last. W is stored in the end: the network itself is as without.
    """

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, kernel: Tensor) -> Tensor:
        return (kernel.flatten(1) @ self.matrix).view_as(kernel)


def whitening(images: Tensor, size: int, epsilon: float = 0.1) -> Tensor:
    """A matrix (C k k, C k k) that whitens k x k patches of normalized images (N, C, H, W), in ZCA form.

    With C = U diag(v) U^T the covariance of the patches it is U diag(sqrt(v) / (v + epsilon)) U^T: whitening for
    v > epsilon, and nothing for v << epsilon (in units of the variance of a normalized pixel), so that kernels hold
    no noise in directions where images have nothing to show, such as what JPEG compression took away.
    """
    patches = F.unfold(images, size, stride=3).transpose(1, 2).flatten(0, 1)  # (patches, C k k)
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T.double() @ patches.double() / len(patches))
    values = values.clamp_min(0)
    return (vectors * (values.sqrt() / (values + epsilon)) @ vectors.T).float()


class Batch(NamedTuple):
    """What one step learns from: an image is of class `labels` by the share `left`, of class `others` by the rest."""

    images: Tensor  # (B, C, S, S) uint8
    labels: Tensor  # (B,)
    others: Tensor  # (B,)
    left: Tensor  # (B,) in [0, 1]


class Supervised:
    """Training of one classifier; training.loop drives it."""

    def __init__(
        self,
        model: Model,
        images: ImageDataset,
        config: configs.Supervised,
        steps: int,
        runtime: Runtime,
        processes: Processes,
        evaluate: Callable[[Model], dict[str, float]] = lambda model: {},
    ):
        self.model, self.images, self.config, self.steps = model, images, config, steps
        self.runtime, self.processes, self._evaluate = runtime, processes, evaluate
        if config.optimizer == "muon":
            self.whiten()
        network = model.network.to(runtime.device, memory_format=runtime.memory_format)
        self.network = model.network = processes.prepare(network)
        self.optimizers = self.updating()
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.state = {"network": self.network}
        self.state |= {f"optimizer{number}": optimizer for number, optimizer in enumerate(self.optimizers)}
        self.class_weights = class_weights(images.labels, len(model.classes)) if config.balanced else None
        # Mirrored images alternate from epoch to epoch instead of being drawn anew (airbench, Jordan 2024): of two
        # epochs in a row, one shows each image as it is and one its mirror.
        self.first_flip = torch.rand(len(images), generator=rng(config.seed, "supervised/augmentation")) < 0.5

    def updating(self) -> list[torch.optim.Optimizer]:
        """What updates the network."""
        return optimizers(self.network, self.config)

    def train_mode(self) -> None:
        self.network.train()

    def whiten(self) -> None:
        """Parametrize the first convolution by the whitening of the training images' patches."""
        kernel = next(module for module in self.model.network.modules() if isinstance(module, nn.Conv2d))
        chosen = torch.randperm(len(self.images), generator=rng(self.config.seed, "supervised/whitening"))[:2000]
        images = self.model.preprocessing.normalize(self.images.batch(chosen))
        matrix = whitening(images, kernel.kernel_size[0])
        parametrize.register_parametrization(kernel, "weight", Whitening(matrix), unsafe=True)
        nn.init.normal_(kernel.parametrizations.weight.original, std=len(matrix) ** -0.5)

    def load(self, indices: Tensor, step: int) -> Batch:
        config, shard = self.config, self.processes.shard
        images = self.view(indices, step, rng(config.seed, "supervised/augmentation", step))
        labels = self.images.labels[indices]
        if not config.cutmix:
            return Batch(images, labels, labels, torch.ones(len(indices)))
        # Drawn for the whole batch, so that several processes see what one would.
        total, random = len(indices) * self.processes.count, rng(config.seed, "supervised/mixing", step)
        others = shard(torch.randint(0, len(self.images), (total,), generator=random))
        boxes = shard(draw_boxes(total, self.images.size, config.cutmix, random), dim=1)
        images, left = mix(images, self.view(others, step, random), boxes)
        return Batch(images, labels, self.images.labels[others], left)

    def view(self, indices: Tensor, step: int, random: torch.Generator) -> Tensor:
        """The images of these indices as this step shows them: flipped, translated, cut out; (B, C, S, S) uint8."""
        total = len(indices) * self.processes.count
        drawn = self.processes.shard(draw(total, self.images.size, self.config, random), dim=1)
        epoch = step // (len(self.images) // total)
        flips = self.first_flip[indices] ^ bool(epoch % 2)
        return augment(self.images.batch(indices), flips & self.config.flip, drawn, self.config.cutout)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images, labels, others, left = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        factor = SCHEDULES[self.config.schedule](step, self.steps)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

        self.train_mode()
        with self.runtime.autocast():
            logits = self.model(images)  # (B, classes)
        smoothing = self.config.label_smoothing
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        entropy = partial(F.cross_entropy, logits.float(), weight=weights, label_smoothing=smoothing, reduction="none")
        loss = (left * entropy(labels) + (1 - left) * entropy(others)).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients(self.network.parameters())
        for optimizer in self.optimizers:
            optimizer.step()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": loss, "accuracy": accuracy}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return [str(self.images.paths[index]) for index in indices.tolist()]

    def warning(self, values: Mapping[str, float]) -> str:
        return ""

    def evaluate(self) -> dict[str, float]:
        return self._evaluate(self.model)

    def samples(self) -> dict[str, Tensor]:
        return {}

    def save_model(self, run: Run) -> None:
        for module in list(self.network.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        run.save_model(self.network.state_dict(), self.model.describe() | {"config": asdict(self.config)})


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,) N / (C n_c): each class weighs as much as any other, and an image 1 on average."""
    counts = labels.bincount(minlength=classes).clamp_min(1)
    return len(labels) / (classes * counts.float())


def optimizers(network: nn.Module, config: configs.Supervised) -> list[torch.optim.Optimizer]:
    """What updates the network: SGD for all of it, or Muon for the convolutions and SGD for the rest.

    Weights decay; biases and the scales of norms do not.
    """
    kernels = [p for p in network.parameters() if p.ndim == 4] if config.optimizer == "muon" else []
    matrices = [p for p in network.parameters() if p.ndim > 1 and not any(p is kernel for kernel in kernels)]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    rest = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return [torch.optim.SGD(rest, config.lr, config.momentum, nesterov=config.momentum > 0)]
    rest[1]["lr"] = config.lr / 2
    sgd = torch.optim.SGD(rest, config.lr, config.momentum, nesterov=config.momentum > 0)
    return [ConvolutionMuon(kernels, config.lr), sgd]
