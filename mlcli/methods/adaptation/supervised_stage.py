"""Supervised training on one domain: f_1 and f_2 on the source, the bound on the target, a classifier of translations.

Cross-entropy under Adam with a cosine schedule. The papers take Adam at a constant 1e-3; shifts by a few pixels are
ours, in the figure beside each method too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.domains import Domain
from mlcli.methods.adaptation.context import AdaptationContext, answers, frozen
from mlcli.methods.adaptation.encoder import head_and_body, keep_statistics
from mlcli.methods.adaptation.model_selection import Candidates
from mlcli.methods.learning.supervised import reflect
from mlcli.models.registry import Model
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import FusedAdam
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES

JUDGED = 2000  # target images that a criterion looks at


class Labeled:
    """Training of a model on a labeled domain; training.loop drives it.

    candidates: where given, the model at several moments, with the criterion of its answers for the target.
    """

    def __init__(self, setting: AdaptationContext, model: Model, domain: Domain, candidates: Candidates | None = None):
        self.setting, self.config, self.domain, self.candidates = setting, setting.config, domain, candidates
        self.runtime, self.processes, self.model = setting.runtime, setting.processes, model
        network = model.network.to(self.runtime.device, memory_format=self.runtime.memory_format)
        self.network = model.network = self.processes.prepare(network)
        head, body = head_and_body(self.network)
        parts = {"adam": (body, self.config.backbone), "adam_of_head": (head, 1.0)}
        if not self.config.pretrained:
            parts = {"adam": (list(self.network.parameters()), 1.0)}
        self.rates = {name: factor * self.config.source_lr for name, (_, factor) in parts.items()}
        self.optimizers = {
            name: FusedAdam(weights, self.rates[name], (0.9, 0.999)) for name, (weights, _) in parts.items()
        }
        self.state = {"network": self.network, **self.optimizers}
        if candidates:
            candidates.network = self.network
            self.state["candidates"] = candidates
        self.done = 0

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(images (B, C, S, S) uint8, labels (B,) or (B, S, S)), moved by the same few pixels."""
        images, labels = self.domain.images[indices], self.domain.labels[indices]
        moves = draw_moves(self.setting, len(indices), "adaptation/shifts", step)
        masks = labels[:, None] if labels.ndim == 3 else None
        return shifted(images, moves), labels if masks is None else shifted(masks, moves)[:, 0]

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        images, labels = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.rates[name] * SCHEDULES["cosine"](step, self.config.source_steps)
        self.network.train()
        if self.config.pretrained:
            keep_statistics(self.network)
        with self.runtime.autocast():
            logits = self.model(images)  # (B, K) or (B, K, S, S)
        # Of masks every pixel is an example: torch sums the losses of maps in another order in each run on a GPU.
        loss = F.cross_entropy(logits.float().movedim(1, -1).reshape(-1, logits.shape[1]), labels.reshape(-1))
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients(self.network.parameters())
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.done = step + 1
        return {"loss": loss, "accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.domain.names(indices)

    def evaluate(self) -> dict[str, float]:
        if not self.candidates:
            return {}
        return self.candidates.add(self.done, answers(self.model, self.setting.target.images[:JUDGED], self.runtime))

    def warning(self, values: dict[str, float]) -> str:
        return ""

    def samples(self) -> dict[str, Tensor]:
        return {}

    def save_model(self, run: Run) -> None:
        run.save_model(self.network.state_dict(), self.model.describe())


def draw_moves(setting: AdaptationContext, n: int, purpose: str, step: int) -> Tensor:
    """(2, n): by how many pixels down and right each image of a batch is moved, at most the config's `shift`."""
    random, reach, processes = rng(setting.seed, purpose, step), setting.config.shift, setting.processes
    return processes.shard(torch.randint(-reach, reach + 1, (2, n * processes.count), generator=random), 1)


def shifted(images: Tensor, moves: Tensor) -> Tensor:
    """(N, C, S, S) each moved by moves (2, N) pixels down and right; what comes in mirrors the border."""
    if not moves.any():
        return images
    size, place = images.shape[-1], torch.arange(images.shape[-1])
    down, right = (reflect(place - move[:, None], size) for move in moves)  # (N, S)
    number = torch.arange(len(images))[:, None, None]
    return images.permute(0, 2, 3, 1)[number, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


def plan(setting: AdaptationContext, domain: Domain) -> Plan:
    return setting.plan(
        len(domain), setting.config.source_steps, setting.config.source_batch_size, "--source-batch-size"
    )


def train(setting: AdaptationContext, name: str, domain: Domain) -> Model:
    """A new model trained on a labeled domain, in the stage of this name."""
    model, run = setting.new_model(), setting.stage(name)
    setting.fit(run, Labeled(setting, model, domain), plan(setting, domain))
    return frozen(model)


def train_and_select(setting: AdaptationContext, name: str, domain: Domain) -> tuple[Model, Candidates]:
    """The same with a result chosen among several moments by its answers for the unlabeled target."""
    model, run = setting.new_model(), setting.stage(name)
    candidates = setting.candidates(run, model.network)
    method = Labeled(setting, model, domain, candidates)
    setting.fit(run, method, plan(setting, domain))
    setting.choose(run, method)
    return frozen(model), candidates
