"""Semantic-aware unsupervised domain adaptation, SeUDA (Chen, Dou, Chen and Heng 2018).

The model of the source stays as it is; target images are made to look as it knows them. Two generators are trained as
in CycleGAN, T -> S by F (B to A) and S -> T by G (A to B),
    L = L_GAN(G, D_T) + lambda_back L_GAN(F, D_S) + lambda_cycle L_cyc + lambda_sem L_sem                 (eq. 1 to 4)
in which the semantic-aware discriminator D_m compares what the fixed model f says of translated target images,
f(F(x_t)), with what it says of source images, f(x_s): masks must look like masks. In the end f(F(x_t)) is the answer.

f's answers are the probabilities at each pixel (N, K, S, S), which D_m judges patch by patch. Of a classifier they are
(N, K, 1, 1), by the same network of 1 x 1 convolutions.

Different here: the generators have 6 residual blocks, the paper's 9, or are U-Nets, since images here are small
(`AdaptationContext.generator`). The papers train for days at a rate of 1e-4; for minutes it is 1e-3. The discriminators
see less of an image (two strided layers, no norm for D_m). The moment is chosen among candidates, without labels.
"""

import torch
from torch import Tensor

from mlcli.data.domains import Unpaired
from mlcli.data.preprocessing import Preprocessing
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import (
    REMEDY,
    AdaptationContext,
    AdaptationResult,
    answers,
    frozen,
    translation_of,
)
from mlcli.methods.generation import translation
from mlcli.methods.generation.cyclegan import CycleGAN
from mlcli.methods.generation.translation import GanMonitor
from mlcli.models import registry
from mlcli.models.registry import Model
from mlcli.models.translators import Translator
from mlcli.networks.patchgan import PatchGAN
from mlcli.networks.translated import Translated
from mlcli.runtime.random_streams import seed_global
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run


def adapt(setting: AdaptationContext) -> AdaptationResult:
    """Stages: source, adapted (the generators)."""
    f = supervised_stage.train(setting, "source", setting.source)
    before, run = f.hash, setting.stage("adapted")
    seed_global(setting.seed, "seuda/translators")
    method = SeUDA(setting, f, run)
    setting.fit(run, method, setting.plan(len(method.data), setting.config.steps, setting.config.batch_size))
    for network in method.generators.values():
        network.eval().requires_grad_(False)
    setting.choose(run, method)
    inside = Model(f.name, method.model.network.network, f.classes, f.preprocessing, f.architecture)
    facts = {"source_model": {"before": before, "after": inside.hash}}
    stages = [setting.stage("source"), run]
    to_target = translation_of(method.translators["AtoB"], setting.runtime)
    to_source = method.translators["BtoA"]
    return AdaptationResult(
        f,
        frozen(method.model),
        method.candidates,
        stages,
        source_encoder=f,
        to_target=to_target,
        to_source=translation_of(to_source, setting.runtime),
        translator=to_source,
        facts=facts,
    )


def behind(translator: Translator, f: Model) -> Model:
    """f on images that the translator has made: a model of the target."""
    inner = f.preprocessing
    options = {
        "generator": translator.describe(),
        "architecture": f.architecture,
        "options": f.options,
        "mean": list(inner.mean),
        "std": list(inner.std),
    }
    network = Translated(translator.network, f.network, inner.mean, inner.std)
    half = (0.5,) * inner.channels
    preprocessing = Preprocessing(crop=inner.crop, mean=half, std=half, channels=inner.channels)
    return Model(f.name, network, f.classes, preprocessing, registry.TRANSLATED, options=options)


class SeUDA(CycleGAN):
    """CycleGAN with a discriminator of what the source model sees; A is the source, B the target."""

    def __init__(self, setting: AdaptationContext, f: Model, run: Run):
        own = setting.config
        config = setting.cyclegan(
            own.generator, filters=own.filters, cycle=own.cycle, pool=own.pool, lr=own.lr, batch_size=own.batch_size
        )
        data = Unpaired(setting.source, setting.target)
        super().__init__(data, config, own.steps, setting.runtime, setting.processes)
        self.setting, self.own, self.f, self.done = setting, own, f, 0
        self.balance = GanMonitor(REMEDY)
        self.translators["BtoA"].network = self.generators["BtoA"]
        self.model = behind(self.translators["BtoA"], f)
        self.model.network.to(self.runtime.device)
        layers = 0 if setting.source.labels.ndim == 1 else config.layers
        judge = PatchGAN(len(f.classes), config.discriminator_filters, layers, "none")
        self.mask_discriminator = self._prepared(judge)
        weights = list(self.mask_discriminator.parameters())
        self.mask_adam = FusedAdam(weights, config.lr, (config.beta1, config.beta2))
        self.candidates = setting.candidates(run, self.generators["BtoA"])
        self.state |= {
            "mask_discriminator": self.mask_discriminator,
            "mask_adam": self.mask_adam,
            "candidates": self.candidates,
        }

    def generate(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        terms, made = super().generate(a, b)
        terms["loss_gan_BtoA"] = self.own.back * terms["loss_gan_BtoA"]
        self.mask_discriminator.requires_grad_(False)
        with self.runtime.autocast():
            of_target = self.masks(made["BtoA"])
            terms["loss_semantic"] = self.own.semantic * self.loss.generator(self.mask_discriminator(of_target))
            with torch.no_grad():
                of_source = self.masks(a)
        self.mask_discriminator.requires_grad_(True)
        self.seen = of_source, of_target.detach()
        return terms, made

    def masks(self, signal: Tensor) -> Tensor:
        """f's probabilities for images in [-1, 1]: (N, K, S, S), of a classifier (N, K, 1, 1)."""
        p = self.f(signal.float() * 0.5 + 0.5).float().softmax(1)
        return p if p.ndim == 4 else p[:, :, None, None]

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        translation.set_rate((self.mask_adam,), self.config, step, self.steps)
        losses = super().step(batch, step)
        with self.runtime.autocast():
            judged = translation.discriminate(self.mask_discriminator, *self.seen)
        loss = 0.5 * self.loss.discriminator(*judged)
        loss.backward()
        translation.update(self.mask_adam, self.processes)
        self.done = step + 1
        return losses | {"loss_d_masks": loss, "d_masks_ahead": translation.share_right(*judged)}

    def evaluate(self) -> dict[str, float]:
        target = self.setting.target.images[: supervised_stage.JUDGED]
        return self.candidates.add(self.done, answers(self.model, target, self.runtime, batch_size=100))
