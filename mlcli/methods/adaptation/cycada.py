"""Cycle-consistent adversarial domain adaptation, CyCADA (Hoffman et al. 2018).

Pixel stage: CycleGAN between the domains, S -> T by G_ST (A to B) and back by G_TS (B to A), with two losses besides,
    L_sem = CE(f_S(G_TS(x_t)), p(f_S, x_t)) + CE(f_S(G_ST(x_s)), p(f_S, x_s)),                         (eq. 4)
p being the class that the fixed source model f_S names: translation shall not change what f_S sees. A classifier then
learns from G_ST(X_S) and the labels Y_S.
Feature stage: ADDA, in which that classifier and the translated source take the places of f_S and the source (eq. 5).
The encoder learns only while the discriminator is right more often than `lead`, as in the public code.

Each stage can run alone. With both, what each gives by itself stands beside the result.

Different here: the public code replaces the cycle's loss by the semantic one for digits, to save memory; here both are
on, with CycleGAN's weight of 10, and p is as the paper has it, while that code takes Y_S for p(f_S, x_s). Its feature
stage goes at a rate of 1e-5 for long and looks at the logits; here it is 1e-4 for fewer steps, and features, as in the
paper. Generators and their rate are those of SeUDA. "Right" counts how often d rates a source image above a target
one, which needs no threshold.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from mlcli.data.domains import Unpaired
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.adda import confuse
from mlcli.methods.adaptation.context import REMEDIES, AdaptationContext, AdaptationResult, translation_of
from mlcli.methods.generation.cyclegan import CycleGAN
from mlcli.methods.generation.translation import GanMonitor
from mlcli.models.registry import Model
from mlcli.runtime.random_streams import seed_global


def adapt(setting: AdaptationContext) -> AdaptationResult:
    """Stages: source, translator, pixel (on translations), feature alone, adapted; those that are asked for."""
    kind = setting.config.stage
    f = supervised_stage.train(setting, "source", setting.source)
    names = ["source", "adapted"]
    if kind == "feature":
        model, candidates = confuse(setting, "adapted", f, setting.source)
        return AdaptationResult(f, model, candidates, list(map(setting.stage, names)), source_encoder=f)
    method = translated(setting, f)
    to_target = translation_of(method.translators["AtoB"], setting.runtime)
    looks = setting.source.mapped(to_target)
    names.insert(1, "translator")
    alone = {}
    if kind == "pixel":
        model, candidates = supervised_stage.train_and_select(setting, "adapted", looks)
        pixel = None
    else:
        pixel = supervised_stage.train(setting, "pixel", looks)
        feature, _ = confuse(setting, "feature", f, setting.source)
        alone = {"pixel_stage_alone": pixel, "feature_stage_alone": feature}
        model, candidates = confuse(setting, "adapted", pixel, looks)
        names[2:2] = ["pixel", "feature"]
    stages = list(map(setting.stage, names))
    translator = method.translators["AtoB"]
    return AdaptationResult(f, model, candidates, stages, alone, pixel, to_target=to_target, translator=translator)


def translated(setting: AdaptationContext, f: Model) -> "PixelStage":
    """The pixel stage, trained."""
    config = setting.config
    seed_global(setting.seed, "cycada/translators")
    method = PixelStage(setting, f)
    plan = setting.plan(len(method.data), config.pixel_steps, config.pixel_batch, "the pixel stage")
    setting.fit(setting.stage("translator"), method, plan)
    for network in method.generators.values():
        network.eval().requires_grad_(False)
    return method


class PixelStage(CycleGAN):
    """CycleGAN with semantic consistency; A is the source, B the target."""

    def __init__(self, setting: AdaptationContext, f: Model):
        own = setting.config
        config = setting.cyclegan(
            own.generator,
            filters=own.filters,
            cycle=own.cycle,
            pool=own.pool,
            lr=own.pixel_lr,
            batch_size=own.pixel_batch,
        )
        data = Unpaired(setting.source, setting.target)
        super().__init__(data, config, own.pixel_steps, setting.runtime, setting.processes)
        self.f, self.semantic, self.balance = f, own.semantic, GanMonitor(REMEDIES["translator"])

    def generate(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        terms, made = super().generate(a, b)
        with self.runtime.autocast():
            terms["loss_semantic_A"] = self.semantic * semantic_consistency(self.classify, a, made["AtoB"])
            terms["loss_semantic_B"] = self.semantic * semantic_consistency(self.classify, b, made["BtoA"])
        return terms, made

    def classify(self, signal: Tensor) -> Tensor:
        """f_S of images in [-1, 1]: logits (N, K)."""
        return self.f(signal.float() * 0.5 + 0.5).float()


def semantic_consistency(classify: Callable[[Tensor], Tensor], before: Tensor, after: Tensor) -> Tensor:
    """CE(f(after), argmax f(before)) (eq. 3 and 4): a scalar."""
    return F.cross_entropy(classify(after), classify(before).argmax(1))
