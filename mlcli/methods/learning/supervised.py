"""Supervised training of a classifier from scratch, with augmentation that teaches the invariances of the task.

The loss is the cross-entropy with label smoothing, the learning rate follows a one-cycle schedule. Images are flipped
and shifted, and a square is cut out (Cutout), all at random: in most tasks this does not change the class,
f(t(X)) = f(X). CutMix (Yun et al. 2019) pastes a piece of another image, with a part of its label, so that the network
cannot rely on a single part of an object.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.learning import configs
from mlcli.models import artifacts
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import SGD, ConvolutionMuon
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES


def draw(n: int, size: int, config: configs.Supervised, random: torch.Generator) -> Tensor:
    """Draw the augmentation of n images: (4, n) integers, the shift in y and x and the center (y, x) of the cutout."""
    limit = min(config.shift, size - 1)
    shifts = torch.randint(-limit, limit + 1, (2, n), generator=random)
    return torch.cat([shifts, torch.randint(0, size, (2, n), generator=random)])


def augment(images: Tensor, flips: Tensor, drawn: Tensor, cutout: int = 0) -> Tensor:
    """Flip and shift each image of a batch, and cut out a square.

    images: (N, C, S, S), of any dtype; the result has the same shape and dtype. flips: (N,) bool. drawn: (4, N), as
    `draw` returns it. cutout: side of the square in pixels. Shifted images are reflected at the border. The square is
    filled with the mean color of its image.
    """
    n, _, size, _ = images.shape
    dy, dx, y, x = drawn[:, :, None]  # (N, 1) each
    index = torch.arange(size)
    rows = reflect(dy + index, size)  # (N, S)
    columns = reflect(dx + index, size)
    columns = torch.where(flips[:, None], size - 1 - columns, columns)
    pixels = images.permute(0, 2, 3, 1)  # (N, S, S, C): one gather for all channels, flips included
    images = pixels[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if cutout:
        hidden_rows, hidden_columns = ((index + 0.5 - center).abs() < cutout / 2 for center in (y, x))
        mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
        images = torch.where((hidden_rows[:, :, None] & hidden_columns[:, None, :])[:, None], mean, images)
    return images


def draw_boxes(n: int, size: int, fraction: float, random: torch.Generator) -> Tensor:
    """Draw the boxes of CutMix: (4, n) integers, the top, bottom, left and right of the box in each of n images.

    As in Yun et al. 2019, but with a box for each image instead of one for the batch. The side is S sqrt(1 - lambda)
    with lambda uniform in [0, 1]. The center is uniform in the image, and the box is clipped at the border.
    fraction: fraction of the images with a box; in the others it is empty.
    """
    lam, chance = torch.rand(2, n, generator=random)
    half = (size * (1 - lam).sqrt() / 2 * (chance < fraction)).round()  # (n,)
    center = torch.randint(0, size + 1, (2, n), generator=random)
    top, left = (center - half).clamp(0, size)
    bottom, right = (center + half).clamp(0, size)
    return torch.stack([top, bottom, left, right]).long()


def mix(images: Tensor, others: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Paste the boxes of other images (CutMix).

    images, others: (N, C, S, S). boxes: (4, N), as `draw_boxes` returns them. Returns the mixed images and the fraction
    of each image that is left, lambda of the paper, (N,) in [0, 1].
    """
    top, bottom, left, right = boxes[:, :, None]  # (N, 1) each
    index = torch.arange(images.shape[-1])
    rows, columns = (index >= top) & (index < bottom), (index >= left) & (index < right)  # (N, S)
    inside = rows[:, :, None] & columns[:, None, :]
    return torch.where(inside[:, None], others, images), 1 - inside.float().mean((1, 2))


def reflect(index: Tensor, size: int) -> Tensor:
    """Indices outside [0, size) reflected at the border pixels, as in reflection padding."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


class Whitening(nn.Module):
    """Parametrization of the kernels of the first convolution: W = M A, with A the ZCA whitening of image patches.

    Neighboring pixels are correlated, so a step in W mostly changes the response to the mean brightness of a patch. A
    step in M is a step in decorrelated pixels, so edges and fine colors are learned in the first epochs instead of the
    last. The saved network holds W.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor):
        """matrix: the whitening matrix (C k k, C k k)."""
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, kernel: Tensor) -> Tensor:
        """The weight W of a parameter M (K, C, k, k)."""
        return (kernel.flatten(1) @ self.matrix).view_as(kernel)


def whitening(images: Tensor, size: int, epsilon: float = 0.1) -> Tensor:
    """The ZCA whitening matrix (C k k, C k k) of k x k patches of normalized images (N, C, H, W). size: k.

    With C = U diag(v) U^T the covariance of the patches, the matrix is U diag(sqrt(v) / (v + epsilon)) U^T. It whitens
    directions with v > epsilon and suppresses those with v << epsilon (in units of the variance of a normalized pixel).
    So kernels hold no noise in directions in which images do not vary, such as those removed by JPEG compression.
    """
    patches = F.unfold(images, size, stride=3).transpose(1, 2).flatten(0, 1)  # (patches, C k k)
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T.double() @ patches.double() / len(patches))
    values = values.clamp_min(0)
    return (vectors * (values.sqrt() / (values + epsilon)) @ vectors.T).float()


class Batch(NamedTuple):
    """The batch of one step. An image has the class `labels` with weight `left` and `others` with weight 1 - `left`."""

    images: Tensor  # (B, C, S, S) uint8
    labels: Tensor  # (B,)
    others: Tensor  # (B,)
    left: Tensor  # (B,) in [0, 1]


class Supervised:
    """Training of one classifier, run by `training.loop`."""

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
        """steps: number of steps of the whole training. evaluate: figures of the model to log."""
        self.model, self.images, self.config, self.steps = model, images, config, steps
        self.runtime, self.processes, self._evaluate = runtime, processes, evaluate
        if config.optimizer == "muon":
            self.whiten()
        network = model.network.to(runtime.device).to(memory_format=runtime.memory_format)
        self.network = model.network = processes.prepare(network)
        self.optimizers = self.make_optimizers()
        self.learning_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        numbered = {f"optimizer{number}": optimizer for number, optimizer in enumerate(self.optimizers)}
        self.state: dict[str, Any] = {"network": self.network, **numbered}
        self.class_weights = class_weights(images.class_labels, len(model.classes)) if config.balanced else None
        # Flips alternate from epoch to epoch instead of being random (airbench, Jordan 2024): of two consecutive
        # epochs, one has the image as it is and the other its flip.
        self.first_flip = torch.rand(len(images), generator=rng(config.seed, "supervised/augmentation")) < 0.5

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of the network."""
        return optimizers(self.network, self.config)

    def train_mode(self) -> None:
        """Put the network in training mode."""
        self.network.train()

    def whiten(self) -> None:
        """Parametrize the first convolution by the whitening of the training images' patches."""
        kernel = next(module for module in self.model.network.modules() if isinstance(module, nn.Conv2d))
        chosen = torch.randperm(len(self.images), generator=rng(self.config.seed, "supervised/whitening"))[:2000]
        images = self.model.preprocessing.normalize(self.images.batch(chosen))
        matrix = whitening(images, kernel.kernel_size[0])
        parametrize.register_parametrization(kernel, "weight", Whitening(matrix), unsafe=True)
        nn.init.normal_(kernel.get_parameter("parametrizations.weight.original"), std=len(matrix) ** -0.5)

    def load(self, indices: Tensor, step: int) -> Batch:
        """The augmented batch of a step, of the images of these indices."""
        config, shard = self.config, self.processes.shard
        images = self.view(indices, step, rng(config.seed, "supervised/augmentation", step))
        labels = self.images.class_labels[indices]
        if not config.cutmix:
            return Batch(images, labels, labels, torch.ones(len(indices)))
        # Drawn for the whole batch and then sharded, so that several processes see the same images as one.
        total, random = len(indices) * self.processes.count, rng(config.seed, "supervised/mixing", step)
        others = shard(torch.randint(0, len(self.images), (total,), generator=random))
        boxes = shard(draw_boxes(total, self.images.size, config.cutmix, random), dim=1)
        images, left = mix(images, self.view(others, step, random), boxes)
        return Batch(images, labels, self.images.class_labels[others], left)

    def view(self, indices: Tensor, step: int, random: torch.Generator) -> Tensor:
        """The images of these indices with the augmentation of this step, (B, C, S, S) uint8."""
        total = len(indices) * self.processes.count
        drawn = self.processes.shard(draw(total, self.images.size, self.config, random), dim=1)
        epoch = step // (len(self.images) // total)
        flips = self.first_flip[indices] ^ bool(epoch % 2)
        return augment(self.images.batch(indices), flips & self.config.flip, drawn, self.config.cutout)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Take one step. Returns the loss and the accuracy of the batch."""
        images, labels, others, left = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        factor = SCHEDULES[self.config.schedule](step, self.steps)
        for optimizer, learning_rates in zip(self.optimizers, self.learning_rates, strict=True):
            for group, learning_rate in zip(optimizer.param_groups, learning_rates, strict=True):
                group["lr"] = learning_rate * factor

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
        """The files of a batch, for messages."""
        return [str(self.images.paths[index]) for index in indices.tolist()]

    def warning(self, values: Mapping[str, float]) -> str:
        """A warning about the logged values; none here."""
        return ""

    def evaluate(self) -> dict[str, float]:
        """Figures of the current model."""
        return self._evaluate(self.model)

    def samples(self) -> dict[str, Tensor | Image]:
        """Images of the progress; none here."""
        return {}

    def save_model(self, run: Run) -> None:
        """Write the trained model, without the whitening, into the run."""
        for module in list(self.network.modules()):
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        artifacts.save(
            run.model_file, self.network.state_dict(), self.model.describe() | {"config": asdict(self.config)}
        )


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weight of each class, N / (C n_c), (classes,): all classes weigh the same, and an image weighs 1 on average."""
    counts = labels.bincount(minlength=classes).clamp_min(1)
    return len(labels) / (classes * counts.float())


def optimizers(network: nn.Module, config: configs.Supervised) -> list[torch.optim.Optimizer]:
    """SGD for the whole network, or Muon for the convolutions and SGD for the rest.

    Weights decay; biases and the scales of norms do not.
    """
    kernels = [p for p in network.parameters() if p.ndim == 4] if config.optimizer == "muon" else []
    matrices = [p for p in network.parameters() if p.ndim > 1 and not any(p is kernel for kernel in kernels)]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    rest: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return [SGD(rest, config.lr, config.momentum, nesterov=config.momentum > 0)]
    rest[1]["lr"] = config.lr / 2
    sgd = SGD(rest, config.lr, config.momentum, nesterov=config.momentum > 0)
    return [ConvolutionMuon(kernels, config.lr), sgd]
