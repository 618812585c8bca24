"""SimGAN: learning from simulated images that a refiner makes look real (Shrivastava et al. 2017).

The refiner R makes x~ = R(x) of a synthetic image x, which shall look like a real one y but keep its label:
    L_R = E[-log(1 - D(x~))] + lambda E|x~ - x|_1                                                     (eq. 4 and 5)
    L_D = E[-log D(x~)] + E[-log(1 - D(y))]                                                             (eq. 2)
with D the probability that a patch is refined; the losses of methods/adversarial, in which real is 1, are the same.
D gives a map of patches (local adversarial loss, section 2.2.1), and half of the refined images that it is shown come
out of a buffer of earlier ones (history, section 2.3). R learns alone first, by the second term, then D alone, then
each step of D is followed by K_g of R (algorithm 1). In the end a classifier learns from R(x) and the labels of x.

The sums over patches and over pixels are both divided by the number of patches, so lambda is the paper's.
Different here: the classifier learns from R as it was at each of `moments` steps of the second half. A single R makes
all strokes alike wide, and a 9 that it opens to a 4 it always opens; others do not. The translator of the run is the
last. D is a PatchGAN with one strided layer and no norm, whose patches of 16 pixels are smaller than a digit of 28, and
R has no tanh (networks/refiner.py). Of each image that D is shown a coin decides whether it is an old one
(ImagePool), so half are in the mean. The K_g updates of R share a batch, a part for each (each of several processes
cuts its own share). Adam in place of SGD, at a rate that falls to zero over the second half, and fewer steps alone: the
paper has 1,000 of R and 200 of D. The regressor of the paper, of the direction of gaze, is a classifier here.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.data.domains import Domain, Unpaired
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import REMEDY, AdaptationContext, AdaptationResult, translation_of
from mlcli.methods.generation import translation
from mlcli.methods.generation.gan_losses import LOSSES
from mlcli.methods.generation.image_pool import ImagePool
from mlcli.models import translators
from mlcli.networks.patchgan import PatchGAN
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES

SHOWN = 5


def adapt(setting: AdaptationContext) -> AdaptationResult:
    """Stages: source, refiner, adapted."""
    f = supervised_stage.train(setting, "source", setting.source)
    run = setting.stage("refiner")
    method = SimGAN(setting)
    setting.fit(run, method, setting.plan(len(setting.source), method.steps, setting.config.batch_size))
    method.refiner.network.eval().requires_grad_(False)
    refine = translation_of(method.refiner, setting.runtime)
    model, candidates = supervised_stage.train_and_select(setting, "adapted", refined(setting.source, method, refine))
    stages = [setting.stage(name) for name in ("source", "refiner", "adapted")]
    return AdaptationResult(f, model, candidates, stages, to_target=refine, translator=method.refiner)


def refined(domain: Domain, method: "SimGAN", refine: Callable[[Tensor], Tensor]) -> Domain:
    """The labeled images as each of the kept refiners makes them; the method is left with the last of these."""
    parts = []
    for weights in method.moments.weights:
        method.network.load_state_dict(weights)
        parts.append(domain.mapped(refine))
    return Domain.joined(parts)


class Moments:
    """The weights of a network at several moments; part of a method's `state`."""

    def __init__(self):
        self.weights: list[dict[str, Tensor]] = []

    def add(self, network: nn.Module) -> None:
        self.weights.append({name: value.detach().cpu().clone() for name, value in network.state_dict().items()})

    def state_dict(self) -> dict:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        self.weights = list(state["weights"])


class SimGAN:
    """Training of R against D; training.loop drives it."""

    def __init__(self, setting: AdaptationContext):
        self.setting, self.config, self.runtime = setting, setting.config, setting.runtime
        self.processes, self.data = setting.processes, Unpaired(setting.source, setting.target)
        seed_global(setting.seed, "simgan/networks")
        config = self.config
        self.refiner = setting.translator("refiner", filters=config.filters, blocks=config.blocks)
        self.network = self.refiner.network = self._prepared(self.refiner.network)
        channels, size = setting.source.channels, setting.source.size
        self.discriminator = self._prepared(PatchGAN(channels, config.filters, 1, "none"))
        patches = self.discriminator(torch.zeros(1, channels, size, size, device=self.runtime.device)).numel()
        self.per_patch = channels * size**2 / patches  # values of an image
        betas = (config.beta1, config.beta2)
        self.refiner_adam = FusedAdam(list(self.network.parameters()), config.lr, betas)
        self.discriminator_adam = FusedAdam(list(self.discriminator.parameters()), config.lr, betas)
        self.buffer, self.balance = ImagePool(config.history), translation.GanMonitor(REMEDY)
        self.moments, self.loss = Moments(), LOSSES["non-saturating"]
        self.state = {"refiner": self.network, "discriminator": self.discriminator, "buffer": self.buffer}
        self.state |= {"refiner_adam": self.refiner_adam, "discriminator_adam": self.discriminator_adam}
        self.state |= {"moments": self.moments}

    @property
    def alone(self) -> int:
        """Steps before the game."""
        return self.config.refiner_first + self.config.discriminator_first

    @property
    def steps(self) -> int:
        return self.alone + self.config.steps

    @property
    def kept(self) -> set[int]:
        """After which steps R is kept for the classifier: evenly over the second half, the last one always."""
        begin, count = max(self.steps // 2, self.alone), self.config.moments
        return {begin - (begin - self.steps) * number // count for number in range(1, count + 1)}

    def _prepared(self, network):
        network = network.to(self.runtime.device, memory_format=self.runtime.memory_format)
        return self.processes.prepare(network)

    def drawn(self, n: int, step: int) -> Tensor:
        return self.processes.shard(
            self.data.draw(n * self.processes.count, rng(self.setting.seed, "simgan/partners", step)), 1
        )

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(synthetic, real), each (B, C, S, S) uint8."""
        return self.data.batch(indices, self.drawn(len(indices), step))

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        x, y = translation.signals(self.data.kinds, batch, self.runtime)
        for optimizer in (self.refiner_adam, self.discriminator_adam):
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr * SCHEDULES["linear"](step, self.steps)
        figures = {}
        if step < self.config.refiner_first:
            figures |= self.update_refiner(x, adversarial=False)
        else:
            if step >= self.alone:
                for part in x.chunk(self.config.refiner_steps):
                    figures |= self.update_refiner(part, adversarial=True)
            figures |= self.update_discriminator(x, y, step)
        if step + 1 in self.kept:
            self.moments.add(self.network)
        return figures

    def update_refiner(self, x: Tensor, adversarial: bool) -> dict[str, Tensor]:
        """x: (B, C, S, S) in [-1, 1]."""
        self.discriminator.requires_grad_(False)
        with self.runtime.autocast():
            refined = self.network(x)
            judged = self.discriminator(refined) if adversarial else None
        weight = self.config.regularization * self.per_patch
        terms = {"loss_regularization": weight * F.l1_loss(refined.float(), x)}
        if adversarial:
            terms["loss_refiner"] = self.loss.generator(judged)
        sum(terms.values()).backward()
        translation.update(self.refiner_adam, self.processes)
        self.discriminator.requires_grad_(True)
        return terms

    def update_discriminator(self, x: Tensor, y: Tensor, step: int) -> dict[str, Tensor]:
        with torch.no_grad(), self.runtime.autocast():
            refined = self.network(x).float()
        # Each process holds the buffer of all, so that it is saved whole, whoever saves it
        random = rng(self.setting.seed, "simgan/buffer", step)
        shown = self.processes.shard(self.buffer.exchange(self.processes.all_gather(refined), random))
        with self.runtime.autocast():
            judged = translation.discriminate(self.discriminator, y, shown)
        loss = self.loss.discriminator(*judged)
        loss.backward()
        translation.update(self.discriminator_adam, self.processes)
        return {"loss_discriminator": loss, "right": translation.share_right(*judged)}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.data.names(indices, self.data.draw(len(indices), rng(self.setting.seed, "simgan/partners", step)))

    def warning(self, values: dict[str, float]) -> str:
        return self.balance.warning(values) if "right" in values else ""

    def evaluate(self) -> dict[str, float]:
        return {}

    def samples(self) -> dict[str, Tensor]:
        """Synthetic images over what is made of them."""
        kind = self.data.kinds[0]
        (x,) = translation.signals((kind,), (self.setting.source.images[:SHOWN],), self.runtime)
        made = translation.translated(self.network, x, self.runtime)
        return {"synthetic-refined": translation.sheet([list(kind.images(each).split(1)) for each in (x, made)])}

    def save_model(self, run: Run) -> None:
        translators.save(run, {"AtoB": self.refiner}, {"AtoB": self.network}, method="simgan")
