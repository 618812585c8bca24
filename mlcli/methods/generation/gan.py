"""Generative adversarial network (Goodfellow et al. 2014): min over G, max over D of f(G, D), updated in turns.

G generates images G(z) from noise z, and D tells them from images x of the data. Each is updated by its part of an
adversarial loss (`gan_losses`), D with G fixed, then G with D fixed. With classes both receive the class y: G(z, y)
and D(x, y). The result is the exponential moving average (EMA) of G.

Deviations: the noise of D's last update is used for G's update as well (one pass through G less, as in DCGAN's code),
and generated images have the classes of the real images in the batch, instead of classes drawn uniformly.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor, nn

from mlcli.data.image_dataset import ImageDataset
from mlcli.imaging import image_io
from mlcli.methods.generation import configs, fid_kid
from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty
from mlcli.methods.generation.sampling import Sampler, noise
from mlcli.methods.generation.translation import GanMonitor, discriminator_accuracy
from mlcli.models import artifacts
from mlcli.networks.dcgan import Discriminator, Generator
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Network, Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.ema import EMA
from mlcli.training.optimizers import Adam
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES

GRID = 8  # images in a row of the grid of samples, and rows where there are no classes
GRID_CLASSES = 20  # classes in the grid of samples, at most


class Batch(NamedTuple):
    """One update of the discriminator."""

    images: Tensor  # (B, C, S, S) uint8
    labels: Tensor  # (B,); all 0 without classes
    latent: Tensor  # (B, latent)
    epsilon: Tensor  # (B,) in [0, 1]: between which points the gradient penalty is taken


class Gan:
    """Training of one generator and its discriminator; training.loop drives it.

    A batch of the loop holds `discriminator_steps` batches of the config; where these are several, several processes
    divide the same images in another order than one process does.
    features: the function of images in whose values distances to the data are measured; None measures no distances.
    """

    def __init__(
        self,
        images: ImageDataset,
        classes: tuple[str, ...],
        config: configs.Gan,
        runtime: Runtime,
        processes: Processes,
        features: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.images, self.labels, self.config = images, images.class_labels, config
        self.runtime, self.processes, self.features = runtime, processes, features
        self.loss, self.monitor = LOSSES[config.loss], GanMonitor()
        size, channels, count = images.size, images.channels, len(classes)
        self.generator = self._prepared(Generator(size, channels, config.latent, config.filters, count))
        discriminator = Discriminator(size, channels, config.filters, count, bool(config.spectral_norm))
        self.discriminator = self._prepared(discriminator)
        self.ema = EMA(self.generator, config.ema)
        self.sampler = Sampler(self.ema.network, classes, runtime)
        self.learning_rates = {"generator": config.lr, "discriminator": config.lr_discriminator}
        self.optimizers = {name: self._adam(getattr(self, name), lr) for name, lr in self.learning_rates.items()}
        self.state: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.ema.network,
        }
        self.state |= {f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()}
        self._real_features: Tensor | None = None

    def _prepared(self, network: Network) -> Network:
        network = network.to(self.runtime.device).to(memory_format=self.runtime.memory_format)
        return self.processes.prepare(network).train()

    def _adam(self, network: nn.Module, lr: float) -> Adam:
        betas = self.config.beta1, self.config.beta2
        return Adam(network.parameters(), lr, betas, fused=self.runtime.device.type != "mps")

    def load(self, indices: Tensor, step: int) -> list[Batch]:
        config, shard = self.config, self.processes.shard
        # Drawn for the whole batch, so that several processes see what one would
        total = len(indices) * self.processes.count
        images = self.images.batch(indices)
        if config.flip:
            flipped = shard(torch.rand(total, generator=rng(config.seed, "gan/flips", step)) < 0.5)
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        labels = self.labels[indices]
        latent = shard(noise(total, config.latent, rng(config.seed, "gan/latent", step)))
        epsilon = shard(torch.rand(total, generator=rng(config.seed, "gan/gradient-penalty", step)))
        parts = (part.chunk(config.discriminator_steps) for part in (images, labels, latent, epsilon))
        return [Batch(*batch) for batch in zip(*parts, strict=True)]

    def step(self, batch: list[Batch], step: int) -> dict[str, Tensor]:
        factor = SCHEDULES[self.config.schedule](step, self.config.steps)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rates[name] * factor
        figures: dict[str, Tensor] = {}
        for number, part in enumerate(batch, 1):
            images, labels, latent, epsilon = (each.to(self.runtime.device, non_blocking=True) for each in part)
            real = image_io.to_unit(images) * 2 - 1
            real = real.contiguous(memory_format=self.runtime.memory_format)
            with self.runtime.autocast(), torch.set_grad_enabled(number == len(batch)):
                fake = self.generator(latent, labels)
            for name, value in self.update_discriminator(real, fake.detach().float(), labels, epsilon).items():
                figures[name] = figures.get(name, 0) + value / len(batch)
        return figures | self.update_generator(fake, labels, step)

    def update_discriminator(self, real: Tensor, fake: Tensor, labels: Tensor, epsilon: Tensor) -> dict[str, Tensor]:
        """real, fake: (B, C, S, S) in [-1, 1]. Returns D's loss and accuracy."""
        with self.runtime.autocast():
            logits = self.discriminator(torch.cat([real, fake]), torch.cat([labels, labels]))
            real_logits, fake_logits = logits.chunk(2)
            loss = self.loss.discriminator(real_logits, fake_logits)
            figures = {"discriminator": loss}
            if self.config.loss == "wasserstein":
                penalty = gradient_penalty(lambda x: self.discriminator(x, labels), real, fake, epsilon)
                loss = loss + self.config.gradient_penalty * penalty
                figures["gradient_penalty"] = penalty
        self._update("discriminator", self.discriminator, loss)
        return figures | {"d_accuracy": discriminator_accuracy(real_logits, fake_logits)}

    def update_generator(self, fake: Tensor, labels: Tensor, step: int) -> dict[str, Tensor]:
        """fake: (B, C, S, S) in [-1, 1], with the graph of G. Returns G's loss."""
        self.discriminator.requires_grad_(False)  # saves the gradients of its weights
        with self.runtime.autocast():
            loss = self.loss.generator(self.discriminator(fake, labels))
        self._update("generator", self.generator, loss)
        self.discriminator.requires_grad_(True)
        self.ema.update(self.generator, step)
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
        return self.monitor.warning(values)

    def evaluate(self) -> dict[str, float]:
        """Fréchet and kernel distance of generated images to the data, over `compared` images of each."""
        if self.features is None or not self.processes.main:
            return {}
        random = rng(self.config.seed, "gan/comparison")
        chosen = torch.randperm(len(self.images), generator=random)[: self.config.compared]
        if self._real_features is None:
            self._real_features = self.features(self.images.batch(chosen))
        # the classes of the real images, so that both have the same class frequencies
        latent = noise(len(chosen), self.config.latent, random)
        fake = self.features(self.sampler(latent, self.labels[chosen]))
        real = self._real_features
        return {"frechet": fid_kid.frechet(real, fake), "kernel": fid_kid.kernel(real, fake)}

    def samples(self) -> dict[str, Tensor | Image]:
        """A grid of images of fixed noise, to follow a run by; with classes one row for each."""
        rows = min(len(self.sampler.classes), GRID_CLASSES) or GRID
        latent = noise(rows * GRID, self.config.latent, rng(self.config.seed, "gan/samples"))
        labels = torch.arange(rows).repeat_interleave(GRID)
        return {"samples": self.sampler.grid(latent, labels, GRID)}

    def save_model(self, run: Run) -> None:
        description = self.sampler.describe() | {"config": asdict(self.config)}
        artifacts.save(run.model_file, self.ema.network.state_dict(), description)
