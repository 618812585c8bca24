"""Translation learned from two sets of images without pairs, by cycle consistency (Zhu et al. 2017).

G: A -> B and F: B -> A are trained together against the discriminators D_B and D_A,

L = L_GAN(G, D_B) + L_GAN(F, D_A) + lambda (E|F(G(a)) - a|_1 + E|G(F(b)) - b|_1)                     (eq. 1, 2 and 3)
  + lambda_identity lambda (E|F(a) - a|_1 + E|G(b) - b|_1)                                        (section 5.2)

with the least-squares loss of section 4. As published: first one step of both generators, then one of both
discriminators, whose losses are halved and who see generated images out of a pool of the last 50.
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.data.class_names import normalized
from mlcli.data.folders import spread
from mlcli.data.pairs import UnpairedSets
from mlcli.errors import UsageError
from mlcli.methods import configs
from mlcli.methods.evaluation.classification import called
from mlcli.methods.generation import translation
from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty
from mlcli.methods.generation.image_pool import ImagePool
from mlcli.models import translators
from mlcli.models.registry import Model
from mlcli.models.translators import DIRECTIONS
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import Average
from mlcli.training.run_folder import Run

SHOWN, MEASURED, CLASSIFIED = 5, 50, 1000  # validation images in the samples, the cycle errors, the label flips


class CycleGAN:
    """Training of two generators; training.loop drives it.

    data: the sets A and B; validation: images of both that are measured and shown, where there are any. classifiers:
    of images of A and of B into the same classes, by which translations that change the class are counted.
    Both sides are kept by direction, "AtoB" and "BtoA": `generators`, and the `discriminators` that judge what they
    make.
    """

    def __init__(
        self,
        data: UnpairedSets,
        config: configs.CycleGAN,
        steps: int,
        runtime: Runtime,
        processes: Processes,
        validation: UnpairedSets | None = None,
        classifiers: tuple[Model, Model] | None = None,
    ):
        if classifiers and len({tuple(map(normalized, each.classes)) for each in classifiers}) > 1:
            raise UsageError("the classifiers of A and of B have different classes, so that no flips can be counted")
        self.classifiers = classifiers
        self.data, self.config, self.steps, self.validation = data, config, steps, validation
        self.runtime, self.processes, self.kinds = runtime, processes, data.kinds
        a, b = data.kinds
        if config.identity and a.width != b.width:
            raise UsageError("--identity compares images with their translations; A and B differ in kind, so take 0")
        ends = {"AtoB": (a, b), "BtoA": (b, a)}
        self.translators = {way: translation.generator(config, *ends[way]) for way in DIRECTIONS}
        self.generators = {way: self._prepared(self.translators[way].network) for way in DIRECTIONS}
        self.discriminators = {
            way: self._prepared(translation.discriminator(config, ends[way][1].width)) for way in DIRECTIONS
        }
        self.pools = {way: ImagePool(config.pool) for way in DIRECTIONS}
        self.generators_adam = translation.adam(self.generators.values(), config)
        self.discriminators_adam = translation.adam(self.discriminators.values(), config)
        self.loss, self.balance = LOSSES[config.loss], translation.GanMonitor()
        averages = {way: Average(self.generators[way], config.ema) for way in DIRECTIONS if config.ema}
        self.averages = averages
        self.state = {"generators_adam": self.generators_adam, "discriminators_adam": self.discriminators_adam}
        for way in DIRECTIONS:
            self.state[f"generator {way}"] = self.generators[way]
            self.state[f"discriminator {way}"] = self.discriminators[way]
            self.state[f"pool {way}"] = self.pools[way]
            if config.ema:
                self.state[f"average {way}"] = averages[way].network

    def _prepared(self, network: nn.Module) -> nn.Module:
        return self.processes.prepare(network.to(self.runtime.device, memory_format=self.runtime.memory_format))

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(a, b), each (B, C, H, W) as stored."""
        return self.data.batch(indices, self.drawn(len(indices), step))

    def drawn(self, n: int, step: int) -> Tensor:
        """This process's part of what is drawn for the data of a step."""
        random = rng(self.config.seed, "translation/augmentation", step)
        return self.processes.shard(self.data.draw(n * self.processes.count, random), 1)

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        translation.set_rate((self.generators_adam, self.discriminators_adam), self.config, step, self.steps)
        pieces = translation.parts(batch, self.config.accumulate)
        losses, real, fake = [], [], []

        for network in self.discriminators.values():
            network.requires_grad_(False)
        for piece in pieces:
            a, b = translation.signals(self.kinds, piece, self.runtime)
            terms, made = self.generate(a, b)
            (sum(terms.values()) / len(pieces)).backward()
            losses.append(terms)
            real.append({"AtoB": b, "BtoA": a})
            fake.append({way: image.detach() for way, image in made.items()})
        translation.update(self.generators_adam, self.processes)

        for network in self.discriminators.values():
            network.requires_grad_(True)
        for number in range(len(pieces)):
            for side, way in enumerate(DIRECTIONS):
                shown = self.exchanged(way, fake[number][way], step, number * len(DIRECTIONS) + side)
                terms = self.discriminate(way, real[number][way], shown, step)
                (terms[f"loss_d_{way}"] / len(pieces)).backward()
                losses[number] |= terms
        translation.update(self.discriminators_adam, self.processes)
        for way, average in self.averages.items():
            average.update(self.generators[way], step)
        return {name: torch.stack([each[name].detach() for each in losses]).mean() for name in losses[0]}

    def generate(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(the terms of the generators' loss, by their factors; the translations by direction)."""
        config, terms = self.config, {}
        given, other = {"AtoB": a, "BtoA": b}, {"AtoB": "BtoA", "BtoA": "AtoB"}
        made, kept = {}, {}
        with self.runtime.autocast():
            for way in DIRECTIONS:
                made[way], kept[way] = self.translate(way, given[way], given[other[way]])
            for way in DIRECTIONS:
                terms[f"loss_gan_{way}"] = self.loss.generator(self.discriminators[way](made[way]))
            for way in DIRECTIONS:
                back = self.generators[other[way]](made[way])
                terms[f"loss_cycle_{way[0]}"] = config.cycle * F.l1_loss(back.float(), given[way])
        if config.identity:
            for way in DIRECTIONS:
                same = F.l1_loss(kept[way].float(), given[other[way]])
                terms[f"loss_identity_{way[-1]}"] = config.identity * config.cycle * same
        return terms, made

    def translate(self, way: str, given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor | None]:
        """(the translation of `given`; of `wanted`, which is such an image already, where that is measured).

        In one pass where images are of one size and seen each by itself.
        """
        network = self.generators[way]
        if not self.config.identity:
            return network(given), None
        if given.shape == wanted.shape and not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()):
            return network(torch.cat([given, wanted])).split(len(given))
        return network(given), network(wanted)

    def exchanged(self, way: str, fake: Tensor, step: int, number: int) -> Tensor:
        """What the discriminator sees of the newest translations: half of them are old ones out of the pool.

        Each process holds the pool of all, so that it is saved whole, whoever saves it.
        """
        random = rng(self.config.seed, "cyclegan/pool", step, number)
        return self.processes.shard(self.pools[way].exchange(self.processes.all_gather(fake), random))

    def discriminate(self, way: str, real: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """The loss of one discriminator, half of what it has to say, and how often it is right."""
        network = self.discriminators[way]
        with self.runtime.autocast():
            if real.shape == fake.shape:
                judged = translation.discriminate(network, real, fake.to(real.dtype))
            else:  # images of several sizes
                judged = network(real), network(fake)
        loss = 0.5 * self.loss.discriminator(*judged)
        if self.config.loss == "wasserstein":
            random = rng(self.config.seed, "translation/gradient-penalty", step, DIRECTIONS.index(way))
            epsilon = self.processes.shard(torch.rand(len(real) * self.processes.count, generator=random))
            loss = loss + self.config.penalty * gradient_penalty(network, real, fake.to(real.dtype), epsilon)
        return {f"loss_d_{way}": loss, f"d_{way}_right": translation.share_right(*judged)}

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        random = rng(self.config.seed, "translation/augmentation", step)
        return self.data.names(indices, self.data.draw(len(indices), random))

    def warning(self, values: dict[str, float]) -> str:
        return self.balance.warning(values)

    def results(self) -> dict[str, nn.Module]:
        """The generators that are kept: the averages where there are any."""
        return {way: self.averages[way].network if self.averages else self.generators[way] for way in DIRECTIONS}

    def _shown(self, index: Tensor, shown: UnpairedSets) -> tuple[list[Tensor], list[Tensor]]:
        """(a, G(a), F(G(a))) and (b, F(b), G(F(b))) of the images of an index (1,), as the networks have them."""
        there, back = self.results().values()
        a, b = translation.signals(self.kinds, shown.batch(index), self.runtime)
        cycles = []
        for image, first, second in ((a, there, back), (b, back, there)):
            made = translation.translated(first, image, self.runtime)
            cycles.append([image, made, translation.translated(second, made, self.runtime)])
        return tuple(cycles)

    def evaluate(self) -> dict[str, float]:
        """Mean absolute errors of validation images after a whole cycle, for values in [0, 1]; the label flips."""
        if self.validation is None:
            return {}
        measured = torch.tensor(spread(MEASURED, len(self.validation)))
        sums = torch.zeros(2, dtype=torch.float64)
        for index in measured.split(1):
            for side, (image, _, back) in enumerate(self._shown(index, self.validation)):
                sums[side] += F.l1_loss(back, image).item() / 2
        return dict(zip(("val_cycle_A", "val_cycle_B"), (sums / len(measured)).tolist(), strict=True)) | self.flips()

    def flips(self) -> dict[str, float]:
        """Shares of validation images whose translation is of another class, to the classifiers, than they are."""
        found = {}
        for side, way in enumerate(DIRECTIONS if self.classifiers else ()):
            shown, flipped = torch.tensor(spread(CLASSIFIED, len(self.validation.stores[side]))), 0
            for indices in shown.split(50):
                given = translation.signals(self.kinds, self.validation.batch(indices), self.runtime)[side]
                made = translation.translated(self.results()[way], given, self.runtime)
                was, became = (
                    called(self.classifiers[which], self.kinds[which].images(x), self.runtime)
                    for which, x in ((side, given), (1 - side, made))
                )
                flipped += int((was != became).sum())
            found[f"val_flips_{way}"] = flipped / len(shown)
        return found

    def samples(self) -> dict[str, Tensor]:
        """Rows of a, G(a), F(G(a)) and b, F(b), G(F(b)) of a few validation, or else training, images."""
        shown = self.validation or self.data
        a, b = self.kinds
        rows = []
        for index in torch.tensor(spread(SHOWN, len(shown))).split(1):
            cycle_a, cycle_b = self._shown(index, shown)
            kinds = (a, b, a, b, a, b)
            rows.append([k.images(x) for k, x in zip(kinds, [*cycle_a, *cycle_b], strict=True)])
        return {"A-translated-back-B-translated-back": translation.sheet(rows)}

    def save_model(self, run: Run) -> None:
        translators.save(run, self.translators, self.results(), method="cyclegan", config=asdict(self.config))
