"""Cycle-consistent adversarial domain adaptation, CyCADA (Hoffman et al. 2018).

Pixel stage: CycleGAN between the domains, S -> T by G_ST (A to B) and back by G_TS (B to A), with two more losses,
    L_sem = CE(f_S(G_TS(x_t)), p(f_S, x_t)) + CE(f_S(G_ST(x_s)), p(f_S, x_s)),                         (eq. 4)
where p is the class that the fixed source model f_S predicts: translation must not change the prediction of f_S. A
classifier is then trained on G_ST(X_S) and the labels Y_S.
Feature stage: ADDA, with that classifier and the translated source in place of f_S and the source (eq. 5). The encoder
is updated only where the accuracy of the discriminator is at least `accuracy_threshold`, as in the public code.

Each stage can run alone. With both, the result of each stage by itself is reported beside the final one.

Deviations: for digits the public code replaces the cycle-consistency loss by the semantic one, to save memory; here
both are on, with CycleGAN's weight of 10, and p is as in the paper, while that code takes Y_S for p(f_S, x_s). Its
feature stage runs for long at a learning rate of 1e-5 on logits; here it is 1e-4 for fewer steps, on features as in the
paper. Generators and their learning rate are those of SeUDA. Accuracy is how often d scores a source image above a
target image, which needs no threshold of its own.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from mlcli.data.domains import Unpaired
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.adda import adversarial_stage
from mlcli.methods.adaptation.context import REMEDIES, AdaptationContext, AdaptationResult, translation_of
from mlcli.methods.adaptation.registry import Cycada
from mlcli.methods.generation.cyclegan import CycleGAN
from mlcli.methods.generation.translation import GanMonitor
from mlcli.models.model import Model
from mlcli.runtime.random_streams import seed_global


def adapt(context: AdaptationContext[Cycada]) -> AdaptationResult:
    """Stages: source, translator, pixel (on translations), feature (alone), adapted; those that the config asks for."""
    f = supervised_stage.source_model(context)
    if context.config.stage == "feature":
        model, candidates = adversarial_stage(context, "adapted", f, context.source)
        return AdaptationResult(f, model, context.stages("adapted"), candidates, source_encoder=f)
    translator = train_translators(context, f).translators["AtoB"]
    to_target = translation_of(translator, context.runtime)
    translated = context.source.mapped(to_target)
    alone, pixel = {}, None
    if context.config.stage == "pixel":
        model, candidates = supervised_stage.train_and_select(context, "adapted", translated)
        names = ["translator", "adapted"]
    else:
        pixel = supervised_stage.train(context, "pixel", translated)
        feature, _ = adversarial_stage(context, "feature", f, context.source)
        alone = {"pixel_stage_alone": pixel, "feature_stage_alone": feature}
        model, candidates = adversarial_stage(context, "adapted", pixel, translated)
        names = ["translator", "pixel", "feature", "adapted"]
    return AdaptationResult(
        f,
        model,
        context.stages(*names),
        candidates,
        alone,
        source_encoder=pixel,
        to_target=to_target,
        translator=translator,
    )


def train_translators(context: AdaptationContext[Cycada], f: Model) -> "PixelStage":
    """The pixel stage, trained; its generators are in evaluation mode."""
    config = context.config
    seed_global(context.seed, "cycada/translators")
    method = PixelStage(context, f)
    plan = context.plan(len(method.data), config.pixel_steps, config.pixel_batch, "the pixel stage")
    context.fit(context.stage("translator"), method, plan)
    for network in method.generators.values():
        network.eval().requires_grad_(False)
    return method


class PixelStage(CycleGAN):
    """CycleGAN with semantic consistency; A is the source, B the target."""

    def __init__(self, context: AdaptationContext[Cycada], f: Model) -> None:
        own = context.config
        config = context.cyclegan(own, lr=own.pixel_lr, batch_size=own.pixel_batch)
        data = Unpaired(context.source, context.target)
        super().__init__(data, config, own.pixel_steps, context.runtime, context.processes)
        self.f, self.semantic, self.monitor = f, own.semantic, GanMonitor(REMEDIES["translator"])

    def generate(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        terms, generated = super().generate(a, b)
        with self.runtime.autocast():
            terms["loss_semantic_A"] = self.semantic * semantic_consistency(self.classify, a, generated["AtoB"])
            terms["loss_semantic_B"] = self.semantic * semantic_consistency(self.classify, b, generated["BtoA"])
        return terms, generated

    def classify(self, x: Tensor) -> Tensor:
        """f_S of images in [-1, 1]: logits (N, K)."""
        return self.f(x.float() * 0.5 + 0.5).float()


def semantic_consistency(classify: Callable[[Tensor], Tensor], before: Tensor, after: Tensor) -> Tensor:
    """CE(f(after), argmax f(before)) (eq. 3 and 4): a scalar."""
    return F.cross_entropy(classify(after), classify(before).argmax(1))
