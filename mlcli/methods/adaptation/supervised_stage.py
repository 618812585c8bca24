"""Supervised training on one domain: of the source model, of the upper bound on the target, on translated images.

Cross-entropy, minimized by Adam with a cosine schedule. The papers use Adam with a constant learning rate of 1e-3;
random shifts by a few pixels are ours, in the figures beside each method too.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from mlcli.data.domains import Domain
from mlcli.methods.adaptation.context import AdaptationContext, frozen, probabilities
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

CRITERION_IMAGES = 2000  # target images that a criterion sees


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
        """(images (B, C, S, S) uint8, labels (B,) or (B, S, S)), each image shifted together with its mask."""
        assert self.domain.labels is not None
        images, labels = self.domain.images[indices], self.domain.labels[indices]
        shifts = draw_shifts(self.context, len(indices), "adaptation/shifts", step)
        if labels.ndim == 1:
            return shifted(images, shifts), labels
        return shifted(images, shifts), shifted(labels[:, None], shifts)[:, 0]

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
        loss = F.cross_entropy(logits.float().movedim(1, -1).reshape(-1, logits.shape[1]), labels.reshape(-1))
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


def draw_shifts(context: AdaptationContext[Any], n: int, purpose: str, step: int) -> Tensor:
    """(2, n): random shifts of the images of a batch, in pixels down and to the right, at most the config's `shift`."""
    random, most, processes = rng(context.seed, purpose, step), context.config.shift, context.processes
    return processes.shard(torch.randint(-most, most + 1, (2, n * processes.count), generator=random), 1)


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """(N, C, S, S), each shifted by shifts (2, N) pixels down and to the right; the border is reflected."""
    if not shifts.any():
        return images
    size, position = images.shape[-1], torch.arange(images.shape[-1])
    rows, columns = (reflect(position - shift[:, None], size) for shift in shifts)  # (N, S)
    number = torch.arange(len(images))[:, None, None]
    return images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


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
