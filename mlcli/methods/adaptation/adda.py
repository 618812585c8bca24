"""Adversarial discriminative domain adaptation, ADDA (Tzeng, Hoffman, Saenko and Darrell 2017).

1. The encoder f_1 and the classifier f_2 are trained on the labeled source, with cross-entropy.
2. A second encoder f'_1 starts from f_1, which is fixed from here on. A discriminator d learns to tell their features
   apart,
       min_d   -E[log s(d(f_1(X_s)))] - E[log(1 - s(d(f'_1(X_t))))]                             (eq. 9, first line)
   and f'_1 learns to be taken for f_1, by the inverted label,
       min_f'  -E[log s(d(f'_1(X_t)))]                                                          (eq. 9, second line)
3. f_2(f'_1(X_t)) classifies the target.

f_2 is the last linear layer of the network, and f_1 is all that lies below it. d has one output, and s is the sigmoid,
in place of two outputs and their softmax. Since f_1 is fixed, its features of the source are computed once. With
`discriminator_input` "logits" d sees the logits of f_2, as in the public code; the paper says features. Dropout is off,
since d could tell the two encoders apart by it; batch norm takes the statistics of the target.

Deviations: target images are shifted at random by up to `shift` pixels, as source images are where f_1 is trained (d
sees those unshifted). d has leaky ReLUs, the paper plain ones. The paper adapts for 10,000 steps, here it is half as
many, and the result is chosen among checkpoints, without labels. `accuracy_threshold` belongs to CyCADA, see there; it
is 0 here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.data.domains import Domain
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import (
    REMEDY,
    AdaptationContext,
    AdaptationResult,
    TargetTraining,
    frozen,
    inference_batch,
)
from mlcli.methods.adaptation.encoder import head_and_body, penultimate, still_dropout
from mlcli.methods.adaptation.model_selection import Candidates
from mlcli.methods.adaptation.registry import Adda
from mlcli.methods.generation import translation
from mlcli.methods.generation.gan_losses import LOSSES
from mlcli.models.model import Model
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run


def adapt(context: AdaptationContext[Adda]) -> AdaptationResult:
    """Stages: source, adapted."""
    f = supervised_stage.source_model(context)
    model, candidates = adversarial_stage(context, "adapted", f, context.source)
    return AdaptationResult(f, model, context.stages("adapted"), candidates, source_encoder=f)


def adversarial_stage(context: AdaptationContext[Any], name: str, f: Model, domain: Domain) -> tuple[Model, Candidates]:
    """Step 2 by itself: f, which was trained on `domain`, with its encoder replaced by one of the target."""
    run = context.stage(name)
    method, config = ADDA(context, f, domain, run), context.config
    context.fit(run, method, context.plan(len(context.target), config.steps, config.batch_size))
    context.choose(run, method, method.candidates)
    return frozen(method.model), method.candidates


class ADDA(TargetTraining):
    """Training of f'_1 against d; training.loop drives it."""

    def __init__(self, context: AdaptationContext[Any], f: Model, domain: Domain, run: Run) -> None:
        super().__init__(context, context.copy(f), run)
        self.source = domain
        self.source_features = torch.cat(
            [self.features(f, part).cpu() for part in domain.images.split(inference_batch(domain.images))]
        )
        seed_global(context.seed, "adda/discriminator")
        self.d = context.prepared(discriminator(self.source_features.shape[1], self.config.hidden))
        _, self.encoder = head_and_body(self.model.network)
        for p in self.encoder:
            p.requires_grad_(True)
        betas = (self.config.beta1, self.config.beta2)
        encoder_lr = self.config.lr * (self.config.backbone if self.config.pretrained else 1)
        self.encoder_adam = FusedAdam(self.encoder, encoder_lr, betas)
        self.d_adam = FusedAdam(list(self.d.parameters()), self.config.lr, betas)
        self.monitor = translation.GanMonitor(REMEDY)
        self.state: dict[str, Any] = {
            "network": self.model.network,
            "discriminator": self.d,
            "candidates": self.candidates,
            "encoder_adam": self.encoder_adam,
            "discriminator_adam": self.d_adam,
        }

    def features(self, model: Model, images: Tensor) -> Tensor:
        """The input of d: (N, C, S, S) uint8 -> features (N, F) or logits (N, K), float32."""
        with penultimate(model.network) as features, self.runtime.autocast():
            logits = model(images.to(self.runtime.device, non_blocking=True))
        return (features[0] if self.config.discriminator_input == "features" else logits).float()

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(features of random source images (B, F), target images (B, C, S, S) uint8)."""
        random = rng(self.context.seed, "adda/partners", step)
        partners = torch.randint(len(self.source_features), (len(indices) * self.processes.count,), generator=random)
        images = supervised_stage.moved(self.context, self.context.target.images[indices], "adda/shifts", step)
        return self.source_features[self.processes.shard(partners)], images

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        loss = LOSSES["non-saturating"]
        source_features = batch[0].to(self.runtime.device, non_blocking=True)
        self.model.network.train()
        still_dropout(self.model.network)
        target_features = self.features(self.model, batch[1])  # (B, F)

        logits = self.d(source_features), self.d(target_features.detach())
        loss_d = loss.discriminator(*logits)
        loss_d.backward()
        translation.update(self.d_adam, self.processes)
        accuracy = self.processes.mean(translation.discriminator_accuracy(*logits))

        loss_f = loss.generator(self.d(target_features))
        if accuracy >= self.config.accuracy_threshold:
            loss_f.backward()
            self.d_adam.zero_grad()
            translation.update(self.encoder_adam, self.processes)
        self.steps_done = step + 1
        return {"loss_d": loss_d, "loss_f": loss_f, "d_accuracy": accuracy}

    def warning(self, values: Mapping[str, float]) -> str:
        return self.monitor.warning(values)


def discriminator(inputs: int, hidden: int) -> nn.Module:
    """500-500-1 (section 5.1): (N, inputs) -> logits (N, 1)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1),
    )
