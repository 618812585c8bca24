"""Adversarial discriminative domain adaptation, ADDA (Tzeng, Hoffman, Saenko and Darrell 2017).

1. The encoder f_1 and the classifier f_2 learn on the labeled source, by cross-entropy.
2. A second encoder f'_1 starts from f_1, which is fixed from here on. A discriminator d learns to tell their features,
       min_d   -E[log s(d(f_1(X_s)))] - E[log(1 - s(d(f'_1(X_t))))]                             (eq. 9, first line)
   and f'_1 to be taken for f_1, by the inverted label,
       min_f'  -E[log s(d(f'_1(X_t)))]                                                          (eq. 9, second line)
3. f_2(f'_1(X_t)) classifies the target.

f_1 is whatever lies below the last linear layer of the network, which is f_2. As d has one output in place of two,
its sigmoid stands for their softmax. Since f_1 is fixed, its features of the source are computed once. `judge`
"logits" has d look at the logits of f_2, as the public code does; the paper says features. Dropout is off, by which d
could tell the two encoders; batch norm takes the statistics of the target.

Different here: target images are moved by up to `shift` pixels, as those of the source are where f_1 learns (here d
sees those where they are). d has leaky ReLUs, the paper plain ones. The paper adapts for 10,000 steps, here it is half
as many, and the moment is chosen among candidates, without labels. `lead` is of CyCADA, see there; 0 here.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from mlcli.data.domains import Domain
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import REMEDY, AdaptationContext, AdaptationResult, answers, at_once, frozen
from mlcli.methods.adaptation.encoder import head_and_body, penultimate
from mlcli.methods.adaptation.model_selection import Candidates
from mlcli.methods.generation import translation
from mlcli.methods.generation.gan_losses import LOSSES
from mlcli.models.registry import Model
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run


def adapt(setting: AdaptationContext) -> AdaptationResult:
    """Stages: source, adapted."""
    f = supervised_stage.train(setting, "source", setting.source)
    model, candidates = confuse(setting, "adapted", f, setting.source)
    return AdaptationResult(f, model, candidates, [setting.stage("source"), setting.stage("adapted")], source_encoder=f)


def confuse(setting: AdaptationContext, name: str, f: Model, domain: Domain) -> tuple[Model, Candidates]:
    """The adversarial stage by itself: f, trained on `domain`, with an encoder of the target in place of its own."""
    run = setting.stage(name)
    method = ADDA(setting, f, domain, run)
    setting.fit(run, method, setting.plan(len(setting.target), setting.config.steps, setting.config.batch_size))
    setting.choose(run, method)
    return frozen(method.model), method.candidates


class ADDA:
    """Training of f'_1 against d; training.loop drives it."""

    def __init__(self, setting: AdaptationContext, f: Model, domain: Domain, run: Run):
        self.setting, self.config, self.runtime = setting, setting.config, setting.runtime
        self.processes, self.source = setting.processes, domain
        self.model = replace(f, network=self._prepared(copy.deepcopy(f.network)))
        self.fixed = torch.cat(
            [self.seen(f, part).cpu() for part in domain.images.split(at_once(domain.images))]
        )  # d's view of X_s
        seed_global(setting.seed, "adda/discriminator")
        self.d = self._prepared(discriminator(self.fixed.shape[1], self.config.hidden))
        _, self.encoder = head_and_body(self.model.network)
        for p in self.encoder:
            p.requires_grad_(True)
        betas = (self.config.beta1, self.config.beta2)
        rate = self.config.lr * (self.config.backbone if self.config.pretrained else 1)
        self.encoder_adam = FusedAdam(self.encoder, rate, betas)
        self.d_adam = FusedAdam(list(self.d.parameters()), self.config.lr, betas)
        self.candidates, self.balance = setting.candidates(run, self.model.network), translation.GanMonitor(REMEDY)
        self.state = {"network": self.model.network, "discriminator": self.d, "candidates": self.candidates}
        self.state |= {"encoder_adam": self.encoder_adam, "discriminator_adam": self.d_adam}
        self.done = 0

    def _prepared(self, network: nn.Module) -> nn.Module:
        return self.processes.prepare(network.to(self.runtime.device, memory_format=self.runtime.memory_format))

    def seen(self, model: Model, images: Tensor) -> Tensor:
        """What d looks at: (N, C, S, S) uint8 -> features (N, F) or logits (N, K), float32."""
        with penultimate(model.network) as features, self.runtime.autocast():
            logits = model(images.to(self.runtime.device, non_blocking=True))
        return (features[0] if self.config.judge == "features" else logits).float()

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(d's view of source images (B, F), target images (B, C, S, S) uint8)."""
        random = rng(self.setting.seed, "adda/partners", step)
        partners = torch.randint(len(self.fixed), (len(indices) * self.processes.count,), generator=random)
        moves = supervised_stage.draw_moves(self.setting, len(indices), "adda/shifts", step)
        return self.fixed[self.processes.shard(partners)], supervised_stage.shifted(
            self.setting.target.images[indices], moves
        )

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        loss = LOSSES["non-saturating"]
        of_source = batch[0].to(self.runtime.device, non_blocking=True)
        self.model.network.train()
        for module in self.model.network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        of_target = self.seen(self.model, batch[1])  # (B, F)

        judged = self.d(of_source), self.d(of_target.detach())
        loss_d = loss.discriminator(*judged)
        loss_d.backward()
        translation.update(self.d_adam, self.processes)
        right = self.processes.mean(translation.share_right(*judged))

        loss_f = loss.generator(self.d(of_target))
        if right >= self.config.lead:
            loss_f.backward()
            self.d_adam.zero_grad()
            translation.update(self.encoder_adam, self.processes)
        self.done = step + 1
        return {"loss_d": loss_d, "loss_f": loss_f, "right": right}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.setting.target.names(indices)

    def evaluate(self) -> dict[str, float]:
        target = self.setting.target.images[: supervised_stage.JUDGED]
        return self.candidates.add(self.done, answers(self.model, target, self.runtime))

    def warning(self, values: dict[str, float]) -> str:
        return self.balance.warning(values)

    def samples(self) -> dict[str, Tensor]:
        return {}

    def save_model(self, run: Run) -> None:
        run.save_model(self.model.network.state_dict(), self.model.describe())


def discriminator(inputs: int, hidden: int) -> nn.Module:
    """500-500-1 (section 5.1): (N, inputs) -> logits (N, 1)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1),
    )
