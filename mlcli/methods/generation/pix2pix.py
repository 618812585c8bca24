"""Translation learned from aligned pairs: a conditional GAN with an L1 term (Isola et al. 2017).

G* = arg min_G max_D  E[log D(x, y)] + E[log(1 - D(x, G(x)))] + lambda E[|y - G(x)|_1]      (eq. 1, 3 and 4)

x is the image given, y the one wanted; the noise z of the paper is the dropout in G. D judges patches of x and y
together. As published, D's loss is halved, D is updated before G, and G maximizes log D(x, G(x)). Deviations: dropout
is off when the finished generator is used; with images one at a time batch norm is by its own statistics, in training
and after, as in the paper's tests. Feature matching and several scales are of pix2pixHD (Wang et al. 2018).
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.folders import spread
from mlcli.data.pairs import PairSet
from mlcli.methods import configs
from mlcli.methods.generation import translation
from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty
from mlcli.models import translators
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import Average
from mlcli.training.run_folder import Run

SHOWN = 6


class Pix2Pix:
    """Training of one generator; training.loop drives it.

    data: pairs (A, B); validation: those whose translations are measured and shown, where there are any.
    """

    def __init__(
        self,
        data: PairSet,
        config: configs.Pix2Pix,
        steps: int,
        runtime: Runtime,
        processes: Processes,
        validation: PairSet | None = None,
    ):
        self.data, self.config, self.steps, self.validation = data, config, steps, validation
        self.runtime, self.processes = runtime, processes
        self.order = (0, 1) if config.direction == "AtoB" else (1, 0)
        self.kinds = tuple(data.kinds[side] for side in self.order)
        more = {"keep_luminance": True} if config.keep_luminance else {}
        self.translators = {config.direction: translation.generator(config, *self.kinds, **more)}
        discriminator = translation.discriminator(config, sum(kind.width for kind in self.kinds))
        self.generator, self.discriminator = (
            processes.prepare(network.to(runtime.device, memory_format=runtime.memory_format))
            for network in (self.translators[config.direction].network, discriminator)
        )
        self.generator_adam = translation.adam([self.generator], config)
        self.discriminator_adam = translation.adam([self.discriminator], config)
        self.loss, self.balance = LOSSES[config.loss], translation.GanMonitor()
        self.adversarial = bool(config.gan or config.feature_matching)  # else D has nothing to say, nor to learn
        self.state = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_adam": self.generator_adam,
            "discriminator_adam": self.discriminator_adam,
        }
        self.average = Average(self.generator, config.ema) if config.ema else None
        if self.average:
            self.state["average"] = self.average.network

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(x, y), each (B, C, H, W) as stored."""
        random = rng(self.config.seed, "translation/augmentation", step)
        drawn = self.data.draw(len(indices) * self.processes.count, random)
        return self._ordered(self.data.batch(indices, self.processes.shard(drawn, 1)))

    def _ordered(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[self.order[0]], pair[self.order[1]]

    def signals(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return translation.signals(self.kinds, pair, self.runtime)

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        translation.set_rate((self.generator_adam, self.discriminator_adam), self.config, step, self.steps)
        pairs = [self.signals(part) for part in translation.parts(batch, self.config.accumulate)]
        # A batch in several parts is there to save memory: of each part G's maps are then made anew for its own step.
        whole = len(pairs) == 1
        made, losses = [None] * len(pairs), [{} for _ in pairs]

        if self.adversarial:
            self.discriminator.requires_grad_(True)
            for number, (x, y) in enumerate(pairs):
                with torch.set_grad_enabled(whole), self.runtime.autocast():
                    fake = self.generator(x)
                made[number] = fake if whole else None
                losses[number] = self.discriminate(x, y, fake.detach(), step)
                (losses[number]["loss_d"] / len(pairs)).backward()
            translation.update(self.discriminator_adam, self.processes)

        self.discriminator.requires_grad_(False)
        for number, ((x, y), fake) in enumerate(zip(pairs, made, strict=True)):
            if fake is None:
                with self.runtime.autocast():
                    fake = self.generator(x)
            terms = self.generate(x, y, fake)
            (sum(terms.values()) / len(pairs)).backward()
            losses[number] |= terms
        translation.update(self.generator_adam, self.processes)
        if self.average:
            self.average.update(self.generator, step)
        return {name: torch.stack([each[name].detach() for each in losses]).mean() for name in losses[0]}

    def discriminate(self, x: Tensor, y: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """D's loss, half of what it has to say of real pairs and generated ones, and how often it is right."""
        real, fake = torch.cat([x, y], 1), torch.cat([x, fake.to(y.dtype)], 1)
        with self.runtime.autocast():
            judged = translation.discriminate(self.discriminator, real, fake)
        loss = 0.5 * self.loss.discriminator(*judged)
        if self.config.loss == "wasserstein":
            random = rng(self.config.seed, "translation/gradient-penalty", step)
            epsilon = self.processes.shard(torch.rand(len(x) * self.processes.count, generator=random))
            loss = loss + self.config.penalty * gradient_penalty(self.discriminator, real, fake, epsilon)
        return {"loss_d": loss, "d_right": translation.share_right(*judged)}

    def generate(self, x: Tensor, y: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The terms of G's loss, by their factors."""
        config = self.config
        terms = {"loss_l1": config.l1 * F.l1_loss(fake.float(), y)}
        if not self.adversarial:
            return terms
        with self.runtime.autocast():
            features = self.discriminator.features(torch.cat([x, fake.to(y.dtype)], 1))
        terms["loss_gan"] = config.gan * self.loss.generator(translation.logits(features))
        if config.feature_matching:
            with torch.no_grad(), self.runtime.autocast():
                wanted = self.discriminator.features(torch.cat([x, y], 1))
            terms["loss_features"] = config.feature_matching * translation.feature_matching(wanted, features)
        return terms

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.data.names(indices)

    def warning(self, values: dict[str, float]) -> str:
        return self.balance.warning(values)

    @property
    def result(self) -> torch.nn.Module:
        """The generator that is kept: the average where there is one."""
        return self.average.network if self.average else self.generator

    def evaluate(self) -> dict[str, float]:
        """Mean absolute error of the validation pairs, for values in [0, 1]."""
        if self.validation is None:
            return {}
        total = 0.0
        for index in torch.arange(len(self.validation)).split(1):
            x, y = self.signals(self._ordered(self.validation.batch(index)))
            total += F.l1_loss(translation.translated(self.result, x, self.runtime), y).item() / 2
        return {"val_l1": total / len(self.validation)}

    def samples(self) -> dict[str, Tensor]:
        """Rows of x, G(x) and y of a few validation pairs, or else training pairs."""
        shown = self.validation or self.data
        rows = []
        for index in torch.tensor(spread(SHOWN, len(shown))).split(1):
            x, y = self.signals(self._ordered(shown.batch(index)))
            made = translation.translated(self.result, x, self.runtime)
            source, target = self.kinds
            rows.append([source.images(x), target.images(made), target.images(y)])
        return {"given-translated-wanted": translation.sheet(rows)}

    def save_model(self, run: Run) -> None:
        direction, config = self.config.direction, asdict(self.config)
        translators.save(run, self.translators, {direction: self.result}, method="pix2pix", config=config)
