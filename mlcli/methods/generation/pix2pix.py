"""Translation learned from aligned pairs: a conditional GAN with an L1 term (Isola et al. 2017).

G* = arg min_G max_D  E[log D(x, y)] + E[log(1 - D(x, G(x)))] + lambda E[|y - G(x)|_1]      (eq. 1, 3 and 4)

x is the input image, y the target image; the noise z of the paper is the dropout in G. D sees patches of x and y
together. As published, D's loss is halved, D is updated before G, and G maximizes log D(x, G(x)). Deviations: dropout
is off when the trained generator is applied; with a batch size of 1 batch norm uses the statistics of the single image,
in training and afterwards, as in the paper's tests. Feature matching and several scales are those of pix2pixHD (Wang
et al. 2018).
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from mlcli.data.folders import spread
from mlcli.data.pairs import PairSet
from mlcli.methods.generation import configs, translation
from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty
from mlcli.models import translators
from mlcli.reporting import sample_sheets
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Network, Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import EMA
from mlcli.training.run_folder import Run

SAMPLES = 6  # pairs in a sample


class Pix2Pix:
    """Training of one generator; training.loop drives it.

    data: pairs (A, B).  validation: pairs to be measured and shown; may be None.
    """

    def __init__(
        self,
        data: PairSet,
        config: configs.Pix2Pix,
        steps: int,
        runtime: Runtime,
        processes: Processes,
        validation: PairSet | None = None,
    ) -> None:
        self.data, self.config, self.steps, self.validation = data, config, steps, validation
        self.runtime, self.processes = runtime, processes
        self.order = (0, 1) if config.direction == "AtoB" else (1, 0)
        source, target = (data.specs[side] for side in self.order)
        self.specs = source, target
        more: dict[str, Any] = {"keep_luminance": True} if config.keep_luminance else {}
        self.translators = {config.direction: translation.generator(config, source, target, **more)}
        discriminator = translation.discriminator(config, source.width + target.width)
        self.generator = self._prepared(self.translators[config.direction].network)
        self.discriminator = self._prepared(discriminator)
        self.generator_adam = translation.adam([self.generator], config)
        self.discriminator_adam = translation.adam([self.discriminator], config)
        self.loss, self.monitor = LOSSES[config.loss], translation.GanMonitor()
        self.adversarial = bool(config.gan or config.feature_matching)  # otherwise D is neither used nor trained
        self.state: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_adam": self.generator_adam,
            "discriminator_adam": self.discriminator_adam,
        }
        self.ema = EMA(self.generator, config.ema) if config.ema else None
        if self.ema:
            self.state["average"] = self.ema.network

    def _prepared(self, network: Network) -> Network:
        network = network.to(self.runtime.device).to(memory_format=self.runtime.memory_format)
        return self.processes.prepare(network)

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(x, y), each (B, C, H, W) as stored."""
        random = rng(self.config.seed, "translation/augmentation", step)
        drawn = self.data.draw(len(indices) * self.processes.count, random)
        return self._ordered(self.data.batch(indices, self.processes.shard(drawn, 1)))

    def _ordered(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[self.order[0]], pair[self.order[1]]

    def inputs(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(x, y) as the networks take them."""
        x, y = translation.normalized_inputs(self.specs, pair, self.runtime)
        return x, y

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        translation.set_learning_rate((self.generator_adam, self.discriminator_adam), self.config, step, self.steps)
        pairs = [self.inputs(part) for part in translation.parts(batch, self.config.accumulate)]
        # A batch is split into parts to save memory; then G(x) of each part is computed again for G's own update.
        whole = len(pairs) == 1
        generated: list[Tensor | None] = [None] * len(pairs)
        losses: list[dict[str, Tensor]] = [{} for _ in pairs]

        if self.adversarial:
            self.discriminator.requires_grad_(True)
            for number, (x, y) in enumerate(pairs):
                with torch.set_grad_enabled(whole), self.runtime.autocast():
                    fake = self.generator(x)
                generated[number] = fake if whole else None
                losses[number] = self.discriminate(x, y, fake.detach(), step)
                (losses[number]["loss_d"] / len(pairs)).backward()
            translation.update(self.discriminator_adam, self.processes)

        self.discriminator.requires_grad_(False)
        for number, (x, y) in enumerate(pairs):
            fake = generated[number]
            if fake is None:
                with self.runtime.autocast():
                    fake = self.generator(x)
            terms = self.generate(x, y, fake)
            (translation.total(terms) / len(pairs)).backward()
            losses[number] |= terms
        translation.update(self.generator_adam, self.processes)
        if self.ema:
            self.ema.update(self.generator, step)
        return translation.accumulated(losses)

    def discriminate(self, x: Tensor, y: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """Half of D's loss on real and generated pairs, with any gradient penalty in full, and D's accuracy."""
        real, fake = torch.cat([x, y], 1), torch.cat([x, fake.to(y.dtype)], 1)
        with self.runtime.autocast():
            outputs = translation.discriminate(self.discriminator, real, fake)
        loss = 0.5 * self.loss.discriminator(*outputs)
        if self.config.loss == "wasserstein":
            random = rng(self.config.seed, "translation/gradient-penalty", step)
            epsilon = self.processes.shard(torch.rand(len(x) * self.processes.count, generator=random))
            loss = loss + self.config.gradient_penalty * gradient_penalty(self.discriminator, real, fake, epsilon)
        return {"loss_d": loss, "d_accuracy": translation.discriminator_accuracy(*outputs)}

    def generate(self, x: Tensor, y: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The weighted terms of G's loss."""
        config = self.config
        terms = {"loss_l1": config.l1 * F.l1_loss(fake.float(), y)}
        if not self.adversarial:
            return terms
        with self.runtime.autocast():
            features = self.discriminator.features(torch.cat([x, fake.to(y.dtype)], 1))
        terms["loss_gan"] = config.gan * self.loss.generator(translation.logits(features))
        if config.feature_matching:
            with torch.no_grad(), self.runtime.autocast():
                real = self.discriminator.features(torch.cat([x, y], 1))
            terms["loss_features"] = config.feature_matching * translation.feature_matching(real, features)
        return terms

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.data.names(indices)

    def warning(self, values: Mapping[str, float]) -> str:
        return self.monitor.warning(values)

    @property
    def result(self) -> nn.Module:
        """The generator to keep: its EMA, where the config has one."""
        return self.ema.network if self.ema else self.generator

    def evaluate(self) -> dict[str, float]:
        """Mean absolute error over the validation pairs, for values in [0, 1]."""
        if self.validation is None:
            return {}
        total = 0.0
        for index in torch.arange(len(self.validation)).split(1):
            x, y = self.inputs(self._ordered(self.validation.batch(index)))
            total += F.l1_loss(translation.translated(self.result, x, self.runtime), y).item() / 2
        return {"val_l1": total / len(self.validation)}

    def samples(self) -> dict[str, Tensor | Image]:
        """Rows of x, G(x) and y for a few validation pairs, or training pairs."""
        shown = self.validation or self.data
        rows = []
        for index in torch.tensor(spread(SAMPLES, len(shown))).split(1):
            x, y = self.inputs(self._ordered(shown.batch(index)))
            generated = translation.translated(self.result, x, self.runtime)
            source, target = self.specs
            rows.append([source.to_images(x), target.to_images(generated), target.to_images(y)])
        return {"translations": sample_sheets.columns(("input", "output", "target"), rows)}

    def save_model(self, run: Run) -> None:
        direction, config = self.config.direction, asdict(self.config)
        translators.save(run, self.translators, {direction: self.result}, method="pix2pix", config=config)
