"""Translation learned from two sets of images without pairs, by cycle consistency (Zhu et al. 2017).

G: A -> B and F: B -> A are trained together against the discriminators D_B and D_A,

L = L_GAN(G, D_B) + L_GAN(F, D_A) + lambda (E|F(G(a)) - a|_1 + E|G(F(b)) - b|_1)                     (eq. 1, 2 and 3)
  + lambda_identity lambda (E|F(a) - a|_1 + E|G(b) - b|_1)                                        (section 5.2)

with the least-squares loss of section 4. As published, each step first updates both generators and then both
discriminators; the losses of the discriminators are halved, and they see generated images from a pool of the last 50.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from mlcli.data.class_names import normalized
from mlcli.data.domains import Unpaired
from mlcli.data.folders import spread
from mlcli.data.pairs import UnpairedSets
from mlcli.errors import UsageError
from mlcli.methods.evaluation.classification import predicted_classes
from mlcli.methods.generation import configs, translation
from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty
from mlcli.methods.generation.image_pool import ImagePool
from mlcli.models import translators
from mlcli.models.model import Model
from mlcli.models.translators import DIRECTIONS
from mlcli.reporting import sample_sheets
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Network, Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import EMA
from mlcli.training.run_folder import Run

SAMPLES = 5  # validation images in a sample
COLUMNS = ("A", "A → B", "A → B → A", "B", "B → A", "B → A → B")  # of a sample
CYCLE_IMAGES = 50  # validation images that the cycle errors are measured on
FLIP_IMAGES = 1000  # validation images that the label flips are counted on
REVERSE = {"AtoB": "BtoA", "BtoA": "AtoB"}


class CycleGAN:
    """Training of two generators; training.loop drives it.

    data: the sets A and B.  validation: images of both sets to be measured and shown; may be None.
    classifiers: of the images of A and of B, into the same classes, for counting translations that change the class.
    `generators` and `discriminators` are kept by direction, "AtoB" and "BtoA"; the discriminator of a direction sees
    the output of its generator.
    """

    def __init__(
        self,
        data: UnpairedSets | Unpaired,
        config: configs.CycleGAN,
        steps: int,
        runtime: Runtime,
        processes: Processes,
        validation: UnpairedSets | None = None,
        classifiers: tuple[Model, Model] | None = None,
    ) -> None:
        if classifiers and len({tuple(map(normalized, each.classes)) for each in classifiers}) > 1:
            raise UsageError("the classifiers of A and of B have different classes, so that no flips can be counted")
        self.classifiers = classifiers
        self.data, self.config, self.steps, self.validation = data, config, steps, validation
        self.runtime, self.processes, self.specs = runtime, processes, data.specs
        a, b = data.specs
        if config.identity and a.width != b.width:
            raise UsageError("--identity compares images with their translations; A and B differ in kind, so take 0")
        ends = {"AtoB": (a, b), "BtoA": (b, a)}
        self.translators = {name: translation.generator(config, *ends[name]) for name in DIRECTIONS}
        self.generators = {name: self._prepared(self.translators[name].network) for name in DIRECTIONS}
        self.discriminators = {
            name: self._prepared(translation.discriminator(config, ends[name][1].width)) for name in DIRECTIONS
        }
        self.pools = {name: ImagePool(config.pool) for name in DIRECTIONS}
        self.generators_adam = translation.adam(self.generators.values(), config)
        self.discriminators_adam = translation.adam(self.discriminators.values(), config)
        self.loss, self.monitor = LOSSES[config.loss], translation.GanMonitor()
        self.emas = {name: EMA(self.generators[name], config.ema) for name in DIRECTIONS if config.ema}
        self.state: dict[str, Any] = {
            "generators_adam": self.generators_adam,
            "discriminators_adam": self.discriminators_adam,
        }
        for name in DIRECTIONS:
            self.state[f"generator {name}"] = self.generators[name]
            self.state[f"discriminator {name}"] = self.discriminators[name]
            self.state[f"pool {name}"] = self.pools[name]
            if config.ema:
                self.state[f"average {name}"] = self.emas[name].network

    def _prepared(self, network: Network) -> Network:
        network = network.to(self.runtime.device).to(memory_format=self.runtime.memory_format)
        return self.processes.prepare(network)

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(a, b), each (B, C, H, W) as stored."""
        return self.data.batch(indices, self.drawn(len(indices), step))

    def drawn(self, n: int, step: int) -> Tensor:
        """This process's shard of the random numbers that the data of a step need."""
        random = rng(self.config.seed, "translation/augmentation", step)
        return self.processes.shard(self.data.draw(n * self.processes.count, random), 1)

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        translation.set_learning_rate((self.generators_adam, self.discriminators_adam), self.config, step, self.steps)
        pieces = translation.parts(batch, self.config.accumulate)
        losses: list[dict[str, Tensor]] = []
        real: list[dict[str, Tensor]] = []
        fake: list[dict[str, Tensor]] = []

        for network in self.discriminators.values():
            network.requires_grad_(False)
        for piece in pieces:
            a, b = translation.normalized_inputs(self.specs, piece, self.runtime)
            terms, generated = self.generate(a, b)
            (translation.total(terms) / len(pieces)).backward()
            losses.append(terms)
            real.append({"AtoB": b, "BtoA": a})
            fake.append({direction: images.detach() for direction, images in generated.items()})
        translation.update(self.generators_adam, self.processes)

        for network in self.discriminators.values():
            network.requires_grad_(True)
        for number in range(len(pieces)):
            for side, direction in enumerate(DIRECTIONS):
                shown = self.exchanged(direction, fake[number][direction], step, number * len(DIRECTIONS) + side)
                terms = self.discriminate(direction, real[number][direction], shown, step)
                (terms[f"loss_d_{direction}"] / len(pieces)).backward()
                losses[number] |= terms
        translation.update(self.discriminators_adam, self.processes)
        for direction, ema in self.emas.items():
            ema.update(self.generators[direction], step)
        return translation.accumulated(losses)

    def generate(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(the weighted terms of the generators' loss, the translations by direction)."""
        config, inputs = self.config, {"AtoB": a, "BtoA": b}
        terms: dict[str, Tensor] = {}
        generated: dict[str, Tensor] = {}
        identical: dict[str, Tensor] = {}
        with self.runtime.autocast():
            for name in DIRECTIONS:
                generated[name], same = self.translate(name, inputs[name], inputs[REVERSE[name]])
                if same is not None:
                    identical[name] = same
            for name in DIRECTIONS:  # L_GAN(G, D_B) and L_GAN(F, D_A)
                terms[f"loss_gan_{name}"] = self.loss.generator(self.discriminators[name](generated[name]))
            for name in DIRECTIONS:  # E|F(G(a)) - a|_1 and E|G(F(b)) - b|_1
                back = self.generators[REVERSE[name]](generated[name])
                terms[f"loss_cycle_{name[0]}"] = config.cycle * F.l1_loss(back.float(), inputs[name])
        for name, same in identical.items():  # E|G(b) - b|_1 and E|F(a) - a|_1
            loss = F.l1_loss(same.float(), inputs[REVERSE[name]])
            terms[f"loss_identity_{name[-1]}"] = config.identity * config.cycle * loss
        return terms, generated

    def translate(self, direction: str, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """(the translation of `images`; that of `targets`, for the identity loss, or None where it is off).

        targets: images of the set that the direction leads to. Both go through the network together where they have
        one size and the network treats each image by itself.
        """
        network = self.generators[direction]
        if not self.config.identity:
            return network(images), None
        if images.shape == targets.shape and not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()):
            generated, same = network(torch.cat([images, targets])).split(len(images))
            return generated, same
        return network(images), network(targets)

    def exchanged(self, direction: str, fake: Tensor, step: int, number: int) -> Tensor:
        """The generated images that the discriminator sees: about half of them are old ones from the pool.

        Each process holds the whole pool, so that it is saved complete by whichever process saves it.
        """
        random = rng(self.config.seed, "cyclegan/pool", step, number)
        return self.processes.shard(self.pools[direction].exchange(self.processes.all_gather(fake), random))

    def discriminate(self, direction: str, real: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """Half of the discriminator's loss, with any gradient penalty in full, and the discriminator's accuracy."""
        network = self.discriminators[direction]
        with self.runtime.autocast():
            if real.shape == fake.shape:
                outputs = translation.discriminate(network, real, fake.to(real.dtype))
            else:  # images of different sizes
                outputs = network(real), network(fake)
        loss = 0.5 * self.loss.discriminator(*outputs)
        if self.config.loss == "wasserstein":
            random = rng(self.config.seed, "translation/gradient-penalty", step, DIRECTIONS.index(direction))
            epsilon = self.processes.shard(torch.rand(len(real) * self.processes.count, generator=random))
            loss = loss + self.config.gradient_penalty * gradient_penalty(network, real, fake.to(real.dtype), epsilon)
        accuracy = translation.discriminator_accuracy(*outputs)
        return {f"loss_d_{direction}": loss, f"d_{direction}_accuracy": accuracy}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        random = rng(self.config.seed, "translation/augmentation", step)
        return self.data.names(indices, self.data.draw(len(indices), random))

    def warning(self, values: Mapping[str, float]) -> str:
        return self.monitor.warning(values)

    def results(self) -> dict[str, nn.Module]:
        """The generators to keep: their EMAs, where the config has one."""
        return {name: self.emas[name].network if self.emas else self.generators[name] for name in DIRECTIONS}

    def _cycles(self, index: Tensor, data: UnpairedSets | Unpaired) -> tuple[list[Tensor], list[Tensor]]:
        """[a, G(a), F(G(a))] and [b, F(b), G(F(b))] of the images of an index (1,), as the networks output them."""
        g, f = self.results().values()
        a, b = translation.normalized_inputs(self.specs, data.batch(index), self.runtime)
        return self._cycle(a, g, f), self._cycle(b, f, g)

    def _cycle(self, image: Tensor, forth: nn.Module, back: nn.Module) -> list[Tensor]:
        generated = translation.translated(forth, image, self.runtime)
        return [image, generated, translation.translated(back, generated, self.runtime)]

    def evaluate(self) -> dict[str, float]:
        """Mean absolute cycle errors of validation images, for values in [0, 1], and label flips."""
        if self.validation is None:
            return {}
        measured = torch.tensor(spread(CYCLE_IMAGES, len(self.validation)))
        sums = torch.zeros(2, dtype=torch.float64)
        for index in measured.split(1):
            for side, (image, _, back) in enumerate(self._cycles(index, self.validation)):
                sums[side] += F.l1_loss(back, image).item() / 2
        errors = (sums / len(measured)).tolist()
        return {"val_cycle_A": errors[0], "val_cycle_B": errors[1]} | self.flips(self.validation)

    def flips(self, validation: UnpairedSets) -> dict[str, float]:
        """Fractions of validation images whose class, as the classifiers predict it, changes by translation."""
        found: dict[str, float] = {}
        if self.classifiers is None:
            return found
        for side, direction in enumerate(DIRECTIONS):
            shown, flipped = torch.tensor(spread(FLIP_IMAGES, len(validation.datasets[side]))), 0
            for indices in shown.split(50):
                x = translation.normalized_inputs(self.specs, validation.batch(indices), self.runtime)[side]
                generated = translation.translated(self.results()[direction], x, self.runtime)
                before = predicted_classes(self.classifiers[side], self.specs[side].to_images(x), self.runtime)
                after = predicted_classes(
                    self.classifiers[1 - side], self.specs[1 - side].to_images(generated), self.runtime
                )
                flipped += int((before != after).sum())
            found[f"val_flips_{direction}"] = flipped / len(shown)
        return found

    def samples(self) -> dict[str, Tensor | Image]:
        """Rows of a, G(a), F(G(a)) and b, F(b), G(F(b)) for a few validation images, or training images."""
        shown = self.validation or self.data
        a, b = self.specs
        rows = []
        for index in torch.tensor(spread(SAMPLES, len(shown))).split(1):
            cycle_a, cycle_b = self._cycles(index, shown)
            specs = (a, b, a, b, a, b)
            rows.append([spec.to_images(x) for spec, x in zip(specs, [*cycle_a, *cycle_b], strict=True)])
        return {"translations-and-back": sample_sheets.columns(COLUMNS, rows)}

    def save_model(self, run: Run) -> None:
        translators.save(run, self.translators, self.results(), method="cyclegan", config=asdict(self.config))
