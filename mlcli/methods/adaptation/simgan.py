"""SimGAN: learning from synthetic images that a refiner makes look real (Shrivastava et al. 2017).

The refiner R makes x~ = R(x) of a synthetic image x; it shall look like a real image y and keep its label:
    L_R = E[-log(1 - D(x~))] + lambda E|x~ - x|_1                                                     (eq. 4 and 5)
    L_D = E[-log D(x~)] + E[-log(1 - D(y))]                                                             (eq. 2)
D is the probability that a patch is refined; the losses in generation.gan_losses, where real is 1, are the same. D
gives a map of patches (local adversarial loss, section 2.2.1), and half of the refined images that it sees come from a
buffer of earlier ones (history, section 2.3). R learns alone first, by the second term, then D alone; after that, each
step of D follows K_g steps of R (algorithm 1). In the end a classifier is trained on R(x) and the labels of x.

The sums over patches and over pixels are both divided by the number of patches, so lambda is the paper's.

Deviations: the classifier learns from R at several checkpoints, spread over the second half of the training. A single
R gives all strokes the same width, and where it opens one 9 to a 4 it opens all of them; other checkpoints do not. The
translator of the run is the last R. D is a PatchGAN with one strided layer and no norm, whose patches of 16 pixels are
smaller than a digit of 28, and R has no tanh (networks/refiner.py). Whether D sees an old image is drawn for each image
by itself (ImagePool), so that half of them are old on average. The K_g updates of R divide one batch among them (with
several processes, each divides its own shard). Adam replaces SGD, its learning rate falls to zero over the second half,
and there are fewer steps alone: the paper has 1,000 of R and 200 of D. The paper's regressor of the direction of gaze
is a classifier here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from mlcli.data.domains import Domain, Unpaired
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import REMEDY, AdaptationContext, AdaptationResult, translation_of
from mlcli.methods.adaptation.registry import SimGan
from mlcli.methods.generation import translation
from mlcli.methods.generation.gan_losses import LOSSES
from mlcli.methods.generation.image_pool import ImagePool
from mlcli.models import translators
from mlcli.networks.patchgan import PatchGAN
from mlcli.reporting import sample_sheets
from mlcli.runtime.processes import Network
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES

SAMPLES = 5  # images in a sample


def adapt(context: AdaptationContext[SimGan]) -> AdaptationResult:
    """Stages: source, refiner, adapted."""
    f = supervised_stage.source_model(context)
    run = context.stage("refiner")
    method = SimGAN(context)
    context.fit(run, method, context.plan(len(context.source), method.steps, context.config.batch_size))
    method.refiner.network.eval().requires_grad_(False)
    refine = translation_of(method.refiner, context.runtime)
    model, candidates = supervised_stage.train_and_select(context, "adapted", refined(context.source, method, refine))
    stages = context.stages("refiner", "adapted")
    return AdaptationResult(f, model, stages, candidates, to_target=refine, translator=method.refiner)


def refined(domain: Domain, method: "SimGAN", refine: Callable[[Tensor], Tensor]) -> Domain:
    """The labeled images, refined at each checkpoint of R; the method is left with the last R."""
    parts = []
    for weights in method.checkpoints.weights:
        method.network.load_state_dict(weights)
        parts.append(domain.mapped(refine))
    return Domain.joined(parts)


class Checkpoints:
    """The weights of a network at several steps; part of a method's `state`."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []

    def add(self, network: nn.Module) -> None:
        self.weights.append({name: value.detach().cpu().clone() for name, value in network.state_dict().items()})

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = list(state["weights"])


class SimGAN:
    """Training of R against D; training.loop drives it."""

    def __init__(self, context: AdaptationContext[SimGan]) -> None:
        self.context, self.config, self.runtime = context, context.config, context.runtime
        self.processes, self.data = context.processes, Unpaired(context.source, context.target)
        seed_global(context.seed, "simgan/networks")
        config = self.config
        self.refiner = context.translator("refiner", filters=config.filters, blocks=config.blocks)
        self.network = self.refiner.network = self._prepared(self.refiner.network)
        channels, size = context.source.channels, context.source.size
        self.discriminator = self._prepared(PatchGAN(channels, config.filters, 1, "none"))
        patches = self.discriminator(torch.zeros(1, channels, size, size, device=self.runtime.device)).numel()
        self.values_per_patch = channels * size**2 / patches
        betas = (config.beta1, config.beta2)
        self.refiner_adam = FusedAdam(list(self.network.parameters()), config.lr, betas)
        self.discriminator_adam = FusedAdam(list(self.discriminator.parameters()), config.lr, betas)
        self.buffer, self.monitor = ImagePool(config.history), translation.GanMonitor(REMEDY)
        self.checkpoints, self.loss = Checkpoints(), LOSSES["non-saturating"]
        self.state: dict[str, Any] = {
            "refiner": self.network,
            "discriminator": self.discriminator,
            "buffer": self.buffer,
            "refiner_adam": self.refiner_adam,
            "discriminator_adam": self.discriminator_adam,
            "checkpoints": self.checkpoints,
        }

    @property
    def steps_alone(self) -> int:
        """Steps in which only one of the two networks learns, before both learn in turns."""
        return self.config.refiner_first + self.config.discriminator_first

    @property
    def steps(self) -> int:
        return self.steps_alone + self.config.steps

    @property
    def checkpoint_steps(self) -> set[int]:
        """After which steps R is kept for the classifier: evenly over the second half, the last step included."""
        begin, count = max(self.steps // 2, self.steps_alone), self.config.checkpoints
        return {begin - (begin - self.steps) * number // count for number in range(1, count + 1)}

    def _prepared(self, network: Network) -> Network:
        network = network.to(self.runtime.device).to(memory_format=self.runtime.memory_format)
        return self.processes.prepare(network)

    def drawn(self, n: int, step: int) -> Tensor:
        """This process's shard of the random numbers that the data of a step need."""
        random = rng(self.context.seed, "simgan/partners", step)
        return self.processes.shard(self.data.draw(n * self.processes.count, random), 1)

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(synthetic, real), each (B, C, S, S) uint8."""
        return self.data.batch(indices, self.drawn(len(indices), step))

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        x, y = translation.normalized_inputs(self.data.specs, batch, self.runtime)
        for optimizer in (self.refiner_adam, self.discriminator_adam):
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr * SCHEDULES["linear"](step, self.steps)
        figures: dict[str, Tensor] = {}
        if step < self.config.refiner_first:
            figures |= self.update_refiner(x, adversarial=False)
        else:
            if step >= self.steps_alone:
                for part in x.chunk(self.config.refiner_steps):
                    figures |= self.update_refiner(part, adversarial=True)
            figures |= self.update_discriminator(x, y, step)
        if step + 1 in self.checkpoint_steps:
            self.checkpoints.add(self.network)
        return figures

    def update_refiner(self, x: Tensor, adversarial: bool) -> dict[str, Tensor]:
        """A step of R on x (B, C, S, S) in [-1, 1]; returns the terms of L_R (eq. 4), the first if `adversarial`."""
        self.discriminator.requires_grad_(False)
        with self.runtime.autocast():
            refined = self.network(x)
            logits = self.discriminator(refined) if adversarial else None
        weight = self.config.regularization * self.values_per_patch
        terms = {"loss_regularization": weight * F.l1_loss(refined.float(), x)}
        if logits is not None:
            terms["loss_refiner"] = self.loss.generator(logits)
        translation.total(terms).backward()
        translation.update(self.refiner_adam, self.processes)
        self.discriminator.requires_grad_(True)
        return terms

    def update_discriminator(self, x: Tensor, y: Tensor, step: int) -> dict[str, Tensor]:
        """A step of D on synthetic x and real y, (B, C, S, S) in [-1, 1]; returns L_D (eq. 2) and D's accuracy."""
        with torch.no_grad(), self.runtime.autocast():
            refined = self.network(x).float()
        # Each process holds the whole buffer, so that it is saved complete by whichever process saves it.
        random = rng(self.context.seed, "simgan/buffer", step)
        shown = self.processes.shard(self.buffer.exchange(self.processes.all_gather(refined), random))
        with self.runtime.autocast():
            logits = translation.discriminate(self.discriminator, y, shown)
        loss = self.loss.discriminator(*logits)
        loss.backward()
        translation.update(self.discriminator_adam, self.processes)
        return {"loss_discriminator": loss, "d_accuracy": translation.discriminator_accuracy(*logits)}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.data.names(indices, self.data.draw(len(indices), rng(self.context.seed, "simgan/partners", step)))

    def warning(self, values: Mapping[str, float]) -> str:
        return self.monitor.warning(values)

    def evaluate(self) -> dict[str, float]:
        return {}

    def samples(self) -> dict[str, Tensor | Image]:
        """Synthetic images and their refined versions."""
        spec = self.data.specs[0]
        (x,) = translation.normalized_inputs((spec,), (self.context.source.images[:SAMPLES],), self.runtime)
        refined = translation.translated(self.network, x, self.runtime)
        images = [spec.to_images(each).split(1) for each in (x, refined)]
        return {"refined-images": sample_sheets.columns(("synthetic", "refined"), list(zip(*images, strict=True)))}

    def save_model(self, run: Run) -> None:
        translators.save(run, {"AtoB": self.refiner}, {"AtoB": self.network}, method="simgan")
