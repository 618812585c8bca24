"""Domain-adversarial training of neural networks, DANN (Ganin et al. 2016).

One network learns from both domains at once: a feature extractor G_f, a label predictor G_y, which is the last linear
layer, and a domain classifier G_d of the features. It seeks the saddle point of
    E(f, y, d) = E[L_y(G_y(G_f(x_s)), y_s)] - lambda (E[L_d(G_d(G_f(x_s)), 1)] + E[L_d(G_d(G_f(x_t)), 0)])      (eq. 9)
where L_y is cross-entropy and L_d the logistic loss: f and y minimize it, d maximizes it (eq. 10 and 11). Between G_f
and G_d lies the gradient reversal layer R, R(x) = x, dR/dx = -lambda I (eq. 16 and 17), so that one backward pass of
L_y + L_d gives every network its gradient (eq. 18); d itself is updated without the factor lambda (section 5.2.2).
With the progress p of the training, from 0 to 1,
    lambda_p = 2 / (1 + exp(-10 p)) - 1,    mu_p = mu_0 / (1 + 10 p)^0.75,
and mu_p is the learning rate of SGD with a momentum of 0.9 (section 5.2.2). A batch holds as many images of either
domain; they pass the network together, so that batch norm has the statistics of both.

Deviations: the network starts from the source model, the paper's from random weights. d has two hidden layers, as for
the larger images of the paper, leaky ReLUs and one output. Images are moved at random, and source images recolored, as
for the source model. What is pretrained keeps the statistics of its batch norms. The result is chosen among
checkpoints, without labels.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.adda import discriminator
from mlcli.methods.adaptation.context import REMEDY, AdaptationContext, AdaptationResult, TargetTraining, frozen
from mlcli.methods.adaptation.encoder import head_and_body, keep_statistics, last_linear, penultimate
from mlcli.methods.adaptation.registry import Dann
from mlcli.methods.generation import translation
from mlcli.methods.generation.gan_losses import LOSSES
from mlcli.models.model import Model
from mlcli.runtime.random_streams import seed_global
from mlcli.training.optimizers import SGD
from mlcli.training.run_folder import Run


def adapt(context: AdaptationContext[Dann]) -> AdaptationResult:
    """Stages: source, unless a source model is given; adapted."""
    f, run, config = supervised_stage.source_model(context), context.stage("adapted"), context.config
    method = DANN(context, f, run)
    context.fit(run, method, context.plan(len(context.target), config.steps, config.batch_size))
    context.choose(run, method, method.candidates)
    return AdaptationResult(f, frozen(method.model), context.stages("adapted"), method.candidates)


class DANN(TargetTraining):
    """Training of G_f, G_y and G_d; training.loop drives it."""

    def __init__(self, context: AdaptationContext[Dann], f: Model, run: Run) -> None:
        super().__init__(context, context.copy(f), run)
        self.model.network.requires_grad_(True)
        seed_global(context.seed, "dann/discriminator")
        self.d = context.prepared(discriminator(last_linear(self.model.network).in_features, self.config.hidden))
        head, body = head_and_body(self.model.network)
        backbone = self.config.backbone if self.config.pretrained else 1.0
        self.factors = (backbone, 1.0, 1.0)  # of the learning rates of body, head and d
        groups = [{"params": weights} for weights in (body, head, list(self.d.parameters()))]
        self.sgd = SGD(groups, lr=self.config.lr, momentum=self.config.momentum)
        self.monitor = translation.GanMonitor(REMEDY)
        self.state: dict[str, Any] = {
            "network": self.model.network,
            "discriminator": self.d,
            "sgd": self.sgd,
            "candidates": self.candidates,
        }

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(images (2 B, C, S, S) uint8 of source and target in turns, labels (B,) of those of the source).

        In turns, so that each process has its part of the batch that one process would have.
        """
        source, target = self.context.source, self.context.target
        assert source.labels is not None
        chosen = self.context.of_source(len(indices), "dann/source", step)
        known = source.images[chosen]
        if self.config.recolor:
            known = supervised_stage.recolored(self.context, known, step)
        images = torch.stack([known, target.images[indices]], 1).flatten(0, 1)
        return supervised_stage.moved(self.context, images, "dann/moves", step), source.labels[chosen]

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        images, labels = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        progress = step / self.config.steps
        for group, factor in zip(self.sgd.param_groups, self.factors, strict=True):
            group["lr"] = factor * learning_rate(self.config.lr, progress)
        self.model.network.train()
        if self.config.pretrained:
            keep_statistics(self.model.network)
        with penultimate(self.model.network) as features, self.runtime.autocast():
            logits = self.model(images)
        loss_y = F.cross_entropy(logits[::2].float(), labels)
        domains = self.d(reversed_gradient(features[0].float(), strength(progress)))
        loss_d = LOSSES["non-saturating"].discriminator(domains[::2], domains[1::2])
        self.sgd.zero_grad()
        (loss_y + loss_d).backward()
        self.processes.average_gradients([*self.model.network.parameters(), *self.d.parameters()])
        self.sgd.step()
        self.steps_done = step + 1
        return {
            "loss_y": loss_y,
            "loss_d": loss_d,
            "accuracy": (logits[::2].detach().argmax(1) == labels).float().mean(),
            "d_accuracy": translation.discriminator_accuracy(domains[::2], domains[1::2]),
        }

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.context.source.names(
            self.context.of_source(len(indices), "dann/source", step)
        ) + self.context.target.names(indices)

    def warning(self, values: Mapping[str, float]) -> str:
        return self.monitor.warning(values)


class _ReversedGradient(Function):
    """R of eq. 16 and 17."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """x, whose gradient is multiplied by -strength (eq. 16 and 17)."""
    return _ReversedGradient.apply(x, strength)


def strength(progress: float) -> float:
    """lambda_p at a progress from 0 to 1: from 0, where the features mean nothing to d yet, to almost 1."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def learning_rate(initial: float, progress: float) -> float:
    """mu_p at a progress from 0 to 1."""
    return initial / (1 + 10 * progress) ** 0.75
