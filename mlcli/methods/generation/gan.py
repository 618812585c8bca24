"""Generative adversarial network (Goodfellow et al. 2014): min over G, max over D of f(G, D), played in turns.

G makes images G(z) of noise z, D tells them from the images x of the data. Each is updated by its side of an
adversarial loss (`gan_losses`), D with G held fixed, then G with D held fixed. With classes both are told the class
y, G(z, y) and D(x, y). What is kept in the end is the moving average of G.

Deviations: the noise of D's last update serves G's too (one pass through G less, as in DCGAN's code), and generated
images have the classes of the real ones beside them, in place of classes drawn uniformly.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor, nn

from mlcli.data.image_dataset import ImageDataset
from mlcli.io import image_io
from mlcli.methods import configs
from mlcli.methods.generation import fid_kid
from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty
from mlcli.methods.generation.sampling import Sampler, noise
from mlcli.methods.generation.translation import GanMonitor, share_right
from mlcli.networks.dcgan import Discriminator, Generator
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import Average
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES

GRID = 8  # images to a side of the grid of samples
SHOWN_CLASSES = 20


class Batch(NamedTuple):
    """One update of the discriminator."""

    images: Tensor  # (B, C, S, S) uint8
    labels: Tensor  # (B,); all 0 without classes
    latent: Tensor  # (B, latent)
    epsilon: Tensor  # (B,) in [0, 1]: where the gradient penalty looks


class Gan:
    """Training of one generator and its discriminator; training.loop drives it.

    The loop's batch is `discriminator_steps` batches of the config; of several, several processes share out the same
    images in another order than one does.
    features: of the images in which distances to the data are measured; None measures none.
    """

    def __init__(
        self,
        images: ImageDataset,
        classes: tuple[str, ...],
        config: configs.Gan,
        runtime: Runtime,
        processes: Processes,
        features: Callable[[Tensor], Tensor] | None = None,
    ):
        self.images, self.config = images, config
        self.runtime, self.processes, self.features = runtime, processes, features
        self.loss, self.balance = LOSSES[config.loss], GanMonitor()
        size, channels, known = images.size, images.channels, len(classes)
        self.generator = self._ready(Generator(size, channels, config.latent, config.filters, known))
        self.discriminator = self._ready(Discriminator(size, channels, config.filters, known, config.spectral))
        self.average = Average(self.generator, config.ema)
        self.sampler = Sampler(self.average.network, classes, runtime)
        self.rates = {"generator": config.lr, "discriminator": config.lr_discriminator}
        self.optimizers = {name: self._adam(getattr(self, name), rate) for name, rate in self.rates.items()}
        self.state = {"generator": self.generator, "discriminator": self.discriminator, "average": self.average.network}
        self.state |= {f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()}
        self._real_features: Tensor | None = None

    def _ready(self, network: nn.Module) -> nn.Module:
        network = network.to(self.runtime.device, memory_format=self.runtime.memory_format)
        return self.processes.prepare(network).train()

    def _adam(self, network: nn.Module, lr: float) -> torch.optim.Adam:
        betas = self.config.beta1, self.config.beta2
        return torch.optim.Adam(network.parameters(), lr, betas, fused=self.runtime.device.type != "mps")

    def load(self, indices: Tensor, step: int) -> list[Batch]:
        config, shard = self.config, self.processes.shard
        # Drawn for the whole batch, so that several processes see what one would
        total = len(indices) * self.processes.count
        images = self.images.batch(indices)
        if config.flip:
            mirrored = shard(torch.rand(total, generator=rng(config.seed, "gan/flips", step)) < 0.5)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        labels = self.images.labels[indices]
        latent = shard(noise(total, config.latent, rng(config.seed, "gan/latent", step)))
        epsilon = shard(torch.rand(total, generator=rng(config.seed, "gan/gradient-penalty", step)))
        parts = (part.chunk(config.discriminator_steps) for part in (images, labels, latent, epsilon))
        return [Batch(*batch) for batch in zip(*parts, strict=True)]

    def step(self, batch: list[Batch], step: int) -> dict[str, Tensor]:
        factor = SCHEDULES[self.config.schedule](step, self.config.steps)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.rates[name] * factor
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(batch, 1):
            images, labels, latent, epsilon = (each.to(self.runtime.device, non_blocking=True) for each in part)
            real = image_io.to_unit(images) * 2 - 1
            real = real.contiguous(memory_format=self.runtime.memory_format)
            with self.runtime.autocast(), torch.set_grad_enabled(number == len(batch)):
                fake = self.generator(latent, labels)
            for name, value in self.update_discriminator(real, fake.detach().float(), labels, epsilon).items():
                sums[name] = sums.get(name, 0) + value / len(batch)
        return sums | self.update_generator(fake, labels, step)

    def update_discriminator(self, real: Tensor, fake: Tensor, labels: Tensor, epsilon: Tensor) -> dict[str, Tensor]:
        """real, fake: (B, C, S, S) in [-1, 1]. Returns D's loss and how often D is right."""
        with self.runtime.autocast():
            logits = self.discriminator(torch.cat([real, fake]), torch.cat([labels, labels]))
            of_real, of_fake = logits.chunk(2)
            loss = self.loss.discriminator(of_real, of_fake)
            figures = {"discriminator": loss}
            if self.config.loss == "wasserstein":
                penalty = gradient_penalty(lambda x: self.discriminator(x, labels), real, fake, epsilon)
                loss = loss + self.config.gradient_penalty * penalty
                figures["gradient_penalty"] = penalty
        self._update("discriminator", self.discriminator, loss)
        return figures | {"right": share_right(of_real, of_fake)}

    def update_generator(self, fake: Tensor, labels: Tensor, step: int) -> dict[str, Tensor]:
        self.discriminator.requires_grad_(False)  # no gradient of its weights is computed here
        with self.runtime.autocast():
            loss = self.loss.generator(self.discriminator(fake, labels))
        self._update("generator", self.generator, loss)
        self.discriminator.requires_grad_(True)
        self.average.update(self.generator, step)
        return {"generator": loss}

    def _update(self, name: str, network: nn.Module, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        self.processes.average_gradients(network.parameters())
        optimizer.step()

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return [str(self.images.paths[index]) for index in indices.tolist()]

    def warning(self, values: Mapping[str, float]) -> str:
        return self.balance.warning(values)

    def evaluate(self) -> dict[str, float]:
        """Distances of generated images to the data, both of so many images as the config compares."""
        if self.features is None or not self.processes.main:
            return {}
        random = rng(self.config.seed, "gan/comparison")
        chosen = torch.randperm(len(self.images), generator=random)[: self.config.compared]
        if self._real_features is None:
            self._real_features = self.features(self.images.batch(chosen))
        # as many of each class as among the real ones
        latent = noise(len(chosen), self.config.latent, random)
        fake = self.features(self.sampler(latent, self.images.labels[chosen]))
        real = self._real_features
        return {"frechet": fid_kid.frechet(real, fake), "kernel": fid_kid.kernel(real, fake)}

    def samples(self) -> dict[str, Image]:
        """A grid of fixed noise, by which the images of a run can be followed; with classes a row for each."""
        rows = min(len(self.sampler.classes), SHOWN_CLASSES) or GRID
        latent = noise(rows * GRID, self.config.latent, rng(self.config.seed, "gan/samples"))
        labels = torch.arange(rows).repeat_interleave(GRID)
        return {"samples": self.sampler.grid(latent, labels, GRID)}

    def save_model(self, run: Run) -> None:
        run.save_model(self.average.network.state_dict(), self.sampler.describe() | {"config": asdict(self.config)})
