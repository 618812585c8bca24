"""Semantic-aware unsupervised domain adaptation, SeUDA (Chen, Dou, Chen and Heng 2018).

The source model f stays fixed; target images are translated to the source domain, which f knows. Two generators are
trained as in CycleGAN, T -> S by F (B to A) and S -> T by G (A to B), with
    L = L_GAN(G, D_T) + lambda_back L_GAN(F, D_S) + lambda_cycle L_cyc + lambda_sem L_sem                 (eq. 1 to 4)
where the semantic-aware discriminator D_m compares the predictions of f for translated target images, f(F(x_t)), with
those for source images, f(x_s): masks must look like masks. The prediction for a target image is f(F(x_t)).

The predictions of f are the probabilities of each pixel (N, K, S, S), which D_m classifies patch by patch. Those of a
classifier are (N, K, 1, 1), and D_m is the same network with 1 x 1 convolutions. A mask has a shape, by which D_m knows
a wrong one; K numbers have none, and a translation that exchanges two classes deceives D_m. For classes F therefore
also maximizes the mutual information of translated target images and answers,
    L_inf = -E[sum_k d_k log d_k] + sum_k p_k log p_k,  d = f(F(x_t)),  p = E[d]     (as SHOT, Liang et al. 2020, eq. 3)
which is ours: an answer that is certain from the first steps on is kept, and all classes are used.

Deviations: the generators have 6 residual blocks, the paper's 9, or are U-Nets, since images here are small
(`AdaptationContext.generator`). The papers train for days at a learning rate of 1e-4; for minutes it is 1e-3. The
discriminators have a smaller receptive field (two strided layers, and no norm in D_m). The result is chosen among
checkpoints, without labels.
"""

import torch
from torch import Tensor

from mlcli.data.domains import Unpaired
from mlcli.data.preprocessing import Preprocessing
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import (
    CRITERION_IMAGES,
    REMEDY,
    AdaptationContext,
    AdaptationResult,
    frozen,
    probabilities,
    translation_of,
)
from mlcli.methods.adaptation.registry import Seuda
from mlcli.methods.adaptation.shot import entropy_losses
from mlcli.methods.generation import translation
from mlcli.methods.generation.cyclegan import CycleGAN
from mlcli.methods.generation.translation import GanMonitor
from mlcli.models.building import TRANSLATED
from mlcli.models.model import Model
from mlcli.models.translators import Translator
from mlcli.networks.patchgan import PatchGAN
from mlcli.networks.translated import Translated
from mlcli.runtime.random_streams import seed_global
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run


def adapt(context: AdaptationContext[Seuda]) -> AdaptationResult:
    """Stages: source, adapted (the generators)."""
    f = supervised_stage.source_model(context)
    before, run = f.hash, context.stage("adapted")
    seed_global(context.seed, "seuda/translators")
    method = SeUDA(context, f, run)
    context.fit(run, method, context.plan(len(method.data), context.config.steps, context.config.batch_size))
    for network in method.generators.values():
        network.eval().requires_grad_(False)
    context.choose(run, method, method.candidates)
    inner = Model(f.name, method.translated.network, f.classes, f.preprocessing, f.architecture)
    to_source = method.translators["BtoA"]
    return AdaptationResult(
        f,
        frozen(method.model),
        context.stages(run.folder.name),
        method.candidates,
        source_encoder=f,
        to_target=translation_of(method.translators["AtoB"], context.runtime),
        to_source=translation_of(to_source, context.runtime),
        translator=to_source,
        facts={"source_model": {"before": before, "after": inner.hash}},
    )


def behind(translator: Translator, f: Model) -> Model:
    """f applied to the output of the translator: a model of the target."""
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
    return Model(f.name, network, f.classes, preprocessing, TRANSLATED, options=options)


class SeUDA(CycleGAN):
    """CycleGAN with a discriminator of the source model's predictions; A is the source, B the target."""

    def __init__(self, context: AdaptationContext[Seuda], f: Model, run: Run) -> None:
        own = context.config
        config = context.cyclegan(own, lr=own.lr, batch_size=own.batch_size)
        data = Unpaired(context.source, context.target)
        super().__init__(data, config, own.steps, context.runtime, context.processes)
        self.context, self.own, self.f, self.steps_done = context, own, f, 0
        self.monitor = GanMonitor(REMEDY)
        self.translators["BtoA"].network = self.generators["BtoA"]
        self.model = behind(self.translators["BtoA"], f)
        translated = self.model.network.to(self.runtime.device)
        assert isinstance(translated, Translated)
        self.translated = translated
        layers = config.layers if context.segments else 0
        self.mask_discriminator = self._prepared(PatchGAN(len(f.classes), config.discriminator_filters, layers, "none"))
        weights = list(self.mask_discriminator.parameters())
        self.mask_adam = FusedAdam(weights, config.lr, (config.beta1, config.beta2))
        self.candidates = context.candidates(run, self.generators["BtoA"])
        self.state |= {
            "mask_discriminator": self.mask_discriminator,
            "mask_adam": self.mask_adam,
            "candidates": self.candidates,
        }

    def generate(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        terms, generated = super().generate(a, b)
        terms["loss_gan_BtoA"] = self.own.back * terms["loss_gan_BtoA"]
        self.mask_discriminator.requires_grad_(False)
        with self.runtime.autocast():
            target_masks = self.masks(generated["BtoA"])
            if not self.context.segments:
                certain, diverse = entropy_losses(target_masks.clamp(min=1e-8).log().flatten(1), self.processes)
                terms["loss_information"] = self.own.information * (certain + diverse)
            terms["loss_semantic"] = self.own.semantic * self.loss.generator(self.mask_discriminator(target_masks))
            with torch.no_grad():
                source_masks = self.masks(a)
        self.mask_discriminator.requires_grad_(True)
        self.last_masks = source_masks, target_masks.detach()
        return terms, generated

    def masks(self, x: Tensor) -> Tensor:
        """f's probabilities for images in [-1, 1]: (N, K, S, S), or (N, K, 1, 1) of a classifier."""
        p = self.f(x.float() * 0.5 + 0.5).float().softmax(1)
        return p if p.ndim == 4 else p[:, :, None, None]

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        translation.set_learning_rate((self.mask_adam,), self.config, step, self.steps)
        losses = super().step(batch, step)
        with self.runtime.autocast():
            logits = translation.discriminate(self.mask_discriminator, *self.last_masks)
        loss = 0.5 * self.loss.discriminator(*logits)
        loss.backward()
        translation.update(self.mask_adam, self.processes)
        self.steps_done = step + 1
        # A name that GanMonitor does not watch: D_m may tell masks apart without fail while the generators still learn.
        return losses | {"loss_d_masks": loss, "mask_accuracy": translation.discriminator_accuracy(*logits)}

    def evaluate(self) -> dict[str, float]:
        target = self.context.target.images[:CRITERION_IMAGES]
        return self.candidates.add(self.steps_done, probabilities(self.model, target, self.runtime, batch_size=100))
