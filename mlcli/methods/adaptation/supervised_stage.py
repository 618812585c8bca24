"""Supervised training on one domain: of the source model, of the upper bound on the target, on translated images.

Cross-entropy, minimized by Adam with a cosine schedule. The papers use Adam with a constant learning rate of 1e-3;
random shifts by a few pixels, rotations and colors are ours, in the figures beside each method too.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from mlcli.data.domains import Domain
from mlcli.methods.adaptation.context import CRITERION_IMAGES, AdaptationContext, frozen, probabilities
from mlcli.methods.adaptation.encoder import head_and_body, keep_statistics
from mlcli.methods.adaptation.model_selection import Candidates
from mlcli.methods.learning.supervised import reflect
from mlcli.models import artifacts
from mlcli.models.model import Model
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import FusedAdam
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES


class SupervisedStage:
    """Training of a model on a labeled domain; training.loop drives it.

    candidates: where given, keeps checkpoints of the model, each with the criterion of its predictions for the target.
    """

    def __init__(
        self, context: AdaptationContext[Any], model: Model, domain: Domain, candidates: Candidates | None = None
    ) -> None:
        self.context, self.config, self.domain, self.candidates = context, context.config, domain, candidates
        self.runtime, self.processes, self.model = context.runtime, context.processes, model
        network = model.network.to(self.runtime.device).to(memory_format=self.runtime.memory_format)
        self.network = model.network = self.processes.prepare(network)
        head, body = head_and_body(self.network)
        groups = {"adam": (body, self.config.backbone), "adam_of_head": (head, 1.0)}
        if not self.config.pretrained:
            groups = {"adam": (list(self.network.parameters()), 1.0)}
        self.learning_rates = {name: factor * self.config.source_lr for name, (_, factor) in groups.items()}
        self.optimizers = {
            name: FusedAdam(weights, self.learning_rates[name], (0.9, 0.999)) for name, (weights, _) in groups.items()
        }
        self.state: dict[str, Any] = {"network": self.network, **self.optimizers}
        if candidates:
            candidates.network = self.network
            self.state["candidates"] = candidates
        self.steps_done = 0

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(images (B, C, S, S) uint8, labels (B,) or (B, S, S)), each image moved together with its mask."""
        assert self.domain.labels is not None
        images, labels = self.domain.images[indices], self.domain.labels[indices]
        moves = draw_moves(self.context, len(indices), "adaptation/shifts", step)
        images = rotated(shifted(images, moves.shifts), moves.angles)
        if self.config.recolor:
            images = recolored(self.context, images, step)
        if labels.ndim > 1:
            masks = shifted(labels[:, None], moves.shifts)
            labels = rotated(masks, moves.angles, mode="nearest")[:, 0]
        return images, labels

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        images, labels = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rates[name] * SCHEDULES["cosine"](step, self.config.source_steps)
        self.network.train()
        if self.config.pretrained:
            keep_statistics(self.network)
        with self.runtime.autocast():
            logits = self.model(images)  # (B, K) or (B, K, S, S)
        # Each pixel of a mask is an example of its own: torch sums losses of maps in no fixed order on a GPU.
        logits = logits.float()
        loss = F.cross_entropy(
            logits.movedim(1, -1).reshape(-1, logits.shape[1]),
            labels.reshape(-1),
            label_smoothing=self.config.smoothing,
        )
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients(self.network.parameters())
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.steps_done = step + 1
        return {"loss": loss, "accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.domain.names(indices)

    def evaluate(self) -> dict[str, float]:
        if not self.candidates:
            return {}
        target = self.context.target.images[:CRITERION_IMAGES]
        return self.candidates.add(self.steps_done, probabilities(self.model, target, self.runtime))

    def warning(self, values: Mapping[str, float]) -> str:
        return ""

    def samples(self) -> dict[str, Tensor | Image]:
        return {}

    def save_model(self, run: Run) -> None:
        artifacts.save(run.model_file, self.network.state_dict(), self.model.describe())


class Moves(NamedTuple):
    """Random moves of the images of a batch: shifts (2, N) in pixels down and to the right, angles (N,) in degrees."""

    shifts: Tensor
    angles: Tensor


def draw_moves(context: AdaptationContext[Any], n: int, purpose: str, step: int) -> Moves:
    """The moves of the `n` images of this process in a step, at most the config's `shift` and `rotate`."""
    most, turn, processes = context.config.shift, context.config.rotate, context.processes
    random, count = rng(context.seed, purpose, step), n * processes.count
    shifts = torch.randint(-most, most + 1, (2, count), generator=random)
    angles = turn * (2 * torch.rand(count, generator=random) - 1)
    return Moves(processes.shard(shifts, 1), processes.shard(angles))


def moved(context: AdaptationContext[Any], images: Tensor, purpose: str, step: int) -> Tensor:
    """The images of a batch (N, C, S, S) uint8, each moved at random."""
    moves = draw_moves(context, len(images), purpose, step)
    return rotated(shifted(images, moves.shifts), moves.angles)


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """(N, C, S, S), each shifted by shifts (2, N) pixels down and to the right; the border is reflected."""
    if not shifts.any():
        return images
    size, position = images.shape[-1], torch.arange(images.shape[-1])
    rows, columns = (reflect(position - shift[:, None], size) for shift in shifts)  # (N, S)
    number = torch.arange(len(images))[:, None, None]
    return images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def rotated(images: Tensor, angles: Tensor, mode: str = "bilinear") -> Tensor:
    """(N, C, S, S) of integers, each rotated by its angle (N,) in degrees about its center; the border is reflected."""
    if not angles.any():
        return images
    radians = torch.deg2rad(angles)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    affine = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)  # (N, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    values = F.grid_sample(images.float(), grid, mode=mode, padding_mode="reflection", align_corners=False)
    return values.round().to(images.dtype)


def recolored(context: AdaptationContext[Any], images: Tensor, step: int) -> Tensor:
    """(N, C, S, S) uint8: in each channel of each image black and white become two random values.

    These are at least 0.3 of the range apart, so that what is drawn remains, bright on dark or dark on bright.
    """
    processes, random = context.processes, rng(context.seed, "adaptation/colors", step)
    drawn = torch.rand(len(images) * processes.count, images.shape[1], 1, 1, 2, generator=random)
    black, apart = processes.shard(drawn).unbind(-1)
    white = (black + 0.3 + 0.4 * apart) % 1
    return (255 * black + (white - black) * images).round().to(torch.uint8)


def source_model(context: AdaptationContext[Any]) -> Model:
    """The model of the source: the one that is given, or a new one trained on the source, in the stage of that name."""
    return context.source_model or train(context, "source", context.source)


def plan(context: AdaptationContext[Any], domain: Domain) -> Plan:
    """The steps of a supervised training on a domain, by the config."""
    config = context.config
    return context.plan(len(domain), config.source_steps, config.source_batch_size, "--source-batch-size")


def train(context: AdaptationContext[Any], name: str, domain: Domain) -> Model:
    """A new model trained on a labeled domain, in the stage of this name."""
    model, run = context.new_model(), context.stage(name)
    context.fit(run, SupervisedStage(context, model, domain), plan(context, domain))
    return frozen(model)


def train_and_select(context: AdaptationContext[Any], name: str, domain: Domain) -> tuple[Model, Candidates]:
    """As `train`, with the result chosen among checkpoints by its predictions for the unlabeled target."""
    model, run = context.new_model(), context.stage(name)
    candidates = context.candidates(run, model.network)
    method = SupervisedStage(context, model, domain, candidates)
    context.fit(run, method, plan(context, domain))
    context.choose(run, method, candidates)
    return frozen(model), candidates
