"""Supervised training of a classifier from scratch, with the invariances of the task taught by augmentation.

Cross-entropy with label smoothing, SGD with Nesterov momentum under a one-cycle rate. Pictures are flipped,
translated and cut out at random: to most tasks the class does not change under these (the slides' t(X) with
f(t(X)) = f(X)).
"""

from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.engine.folders import PictureSet
from mlcli.engine.models import Model
from mlcli.engine.processes import Processes
from mlcli.engine.runs import Run
from mlcli.engine.runtime import Runtime, generator
from mlcli.engine.training import SCHEDULES
from mlcli.methods import recipes

AUGMENTATION = 3  # purpose of the random stream


def draw(n: int, size: int, recipe: recipes.Supervised, random: torch.Generator) -> Tensor:
    """(4, n) integers: for each picture its shift in y and x, and the centre in y and x of what is cut out."""
    reach = min(recipe.translate, size - 1)
    shifts = torch.randint(-reach, reach + 1, (2, n), generator=random)
    return torch.cat([shifts, torch.randint(0, size, (2, n), generator=random)])


def augment(images: Tensor, flips: Tensor, drawn: Tensor, cutout: int = 0) -> Tensor:
    """Flip, translate and cut out each picture of a batch by what was drawn for it.

    images: (N, C, S, S), any dtype; the same shape and dtype comes back.  flips: (N,) bool.  drawn: (4, N), of `draw`.
    Translation reflects the border. The cut-out square of side `cutout` is filled with the mean colour of its picture.
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
        hidden_rows, hidden_columns = ((place + 0.5 - centre).abs() < cutout / 2 for centre in (y, x))
        mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
        images = torch.where((hidden_rows[:, :, None] & hidden_columns[:, None, :])[:, None], mean, images)
    return images


def reflect(index: Tensor, size: int) -> Tensor:
    """Indices outside [0, size) mirrored at the border pixels, as in reflection padding."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


class Supervised:
    """Training of one classifier; the engine's loop drives it."""

    def __init__(
        self,
        model: Model,
        pictures: PictureSet,
        recipe: recipes.Supervised,
        steps: int,
        runtime: Runtime,
        processes: Processes,
        evaluate: Callable[[Model], dict[str, float]] = lambda model: {},
    ):
        self.model, self.pictures, self.recipe, self.steps = model, pictures, recipe, steps
        self.runtime, self.processes, self._evaluate = runtime, processes, evaluate
        network = model.network.to(runtime.device, memory_format=runtime.memory_format)
        self.network = model.network = processes.prepare(network)
        self.optimizer = torch.optim.SGD(
            parameter_groups(self.network, recipe.weight_decay),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=True,
        )
        self.state = {"network": self.network, "optimizer": self.optimizer}
        # Mirrored pictures alternate from epoch to epoch instead of being drawn anew (airbench, Jordan 2024): of two
        # epochs in a row, one shows each picture as it is and one its mirror.
        self.first_flip = torch.rand(len(pictures), generator=generator(recipe.seed, AUGMENTATION)) < 0.5

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        recipe, total = self.recipe, len(indices) * self.processes.count
        random = generator(recipe.seed, AUGMENTATION, step)
        # Drawn for the whole batch and shared out, so that several processes see what one would.
        drawn = self.processes.share(draw(total, self.pictures.size, recipe, random), dim=1)
        epoch = step // (len(self.pictures) // total)
        flips = (
            self.first_flip[indices] ^ bool(epoch % 2) if recipe.flip else torch.zeros(len(indices), dtype=torch.bool)
        )
        images = augment(self.pictures.batch(indices), flips, drawn, recipe.cutout)
        return images, self.pictures.labels[indices]

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        images, labels = (part.to(self.runtime.device, non_blocking=True) for part in batch)  # (B, C, S, S) uint8, (B,)
        rate = self.recipe.lr * SCHEDULES[self.recipe.schedule](step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        self.network.train()
        with self.runtime.autocast():
            logits = self.model(images)  # (B, classes)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients(self.network.parameters())
        self.optimizer.step()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": loss, "accuracy": accuracy}

    def name_batch(self, indices: Tensor) -> list[str]:
        return [str(self.pictures.paths[index]) for index in indices.tolist()]

    def evaluate(self) -> dict[str, float]:
        return self._evaluate(self.model)

    def samples(self) -> dict[str, Tensor]:
        return {}

    def save_model(self, run: Run) -> None:
        run.save_model(self.network.state_dict(), self.model.describe() | {"recipe": asdict(self.recipe)})


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Weights decay; biases and the scales of norms do not."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
