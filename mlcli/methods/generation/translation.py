"""What adversarial image-to-image translation methods share: networks, optimizers, the discriminator's accuracy."""

import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.data.pairs import ImageSpec
from mlcli.methods.generation.configs import Translation
from mlcli.methods.generation.gan_losses import Outputs
from mlcli.models.translators import Translator, create
from mlcli.networks.initialization import initialize
from mlcli.networks.patchgan import Discriminator, MultiScale, PatchGAN
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.training.optimizers import FusedAdam
from mlcli.training.schedules import SCHEDULES


def norm(config: Translation) -> str:
    """The norm of the networks. For single images batch norm becomes instance norm, in training and afterwards."""
    return "instance-affine" if config.norm == "batch" and config.batch_size == config.accumulate else config.norm


def generator(config: Translation, source: ImageSpec, target: ImageSpec, **more: Any) -> Translator:
    """A new generator, initialized as the config says. Raises UsageError where it does not fit the image size.

    more: options of the translator that only one method has.
    """
    translator = create(
        config.generator,
        source,
        target,
        config.size,
        filters=config.filters,
        norm=norm(config),
        dropout=config.dropout,
        upsampling=config.upsampling,
        **more,
    )
    initialize(translator.network, config.init, config.init_gain)
    return translator


def discriminator(config: Translation, channels: int) -> Discriminator | MultiScale:
    """A new discriminator of images with so many channels, at one scale or several, initialized as the config says."""
    # The gradient penalty is defined for each image by itself, which batch norm does not allow.
    norm_name = "instance" if config.loss == "wasserstein" and norm(config) == "batch" else norm(config)
    layers = 0 if config.discriminator == "pixel" else config.layers
    scales: list[Discriminator] = [
        PatchGAN(channels, config.discriminator_filters, layers, norm_name) for _ in range(config.scales)
    ]
    network: Discriminator | MultiScale = scales[0] if len(scales) == 1 else MultiScale(scales)
    return initialize(network, config.init, config.init_gain)


def adam(networks: Iterable[nn.Module], config: Translation) -> FusedAdam:
    """One Adam over all weights of the networks."""
    weights = [p for network in networks for p in network.parameters()]
    return FusedAdam(weights, config.lr, (config.beta1, config.beta2))


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], config: Translation, step: int, steps: int) -> None:
    """Set the learning rate of step `step` of `steps`, by the schedule of the config."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = config.lr * SCHEDULES[config.schedule](step, steps)


def update(optimizer: FusedAdam, processes: Processes) -> None:
    """Average the gradients over all processes, update the weights, and reset the gradients."""
    processes.average_gradients(optimizer.weights)
    optimizer.step()
    optimizer.zero_grad()


def discriminate(network: nn.Module, real: Tensor, fake: Tensor) -> tuple[Outputs, Outputs]:
    """(D(real), D(fake)), in one pass where D treats each image by itself.

    With batch norm it does not: the statistics of both together would differ from those of each.
    """
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network(real), network(fake)
    outputs = network(torch.cat([real, fake]))
    if isinstance(outputs, Tensor):
        of_real, of_fake = outputs.chunk(2)
        return of_real, of_fake
    scales = [scale.chunk(2) for scale in outputs]
    return [of_real for of_real, _ in scales], [of_fake for _, of_fake in scales]


def discriminator_accuracy(real: Outputs, fake: Outputs) -> Tensor:
    """How often D scores a real patch above the generated patch at the same position: a scalar, 1/2 by chance.

    real, fake: D's outputs, of equal shapes. Unlike the accuracy at a threshold, it does not depend on D's bias.
    """
    reals, fakes = ([each] if isinstance(each, Tensor) else each for each in (real, fake))
    pairs = zip(reals, fakes, strict=True)
    return torch.stack([(r.detach() > f.detach()).float().mean() for r, f in pairs]).mean()


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms of a loss."""
    return functools.reduce(operator.add, terms.values())


def accumulated(losses: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each loss over the parts of a batch, without gradients."""
    return {name: torch.stack([each[name].detach() for each in losses]).mean() for name in losses[0]}


def feature_matching(real: Sequence[Any], fake: Sequence[Any]) -> Tensor:
    """Sum over the stages of the mean |D_i(real) - D_i(fake)|, averaged over the scales (Wang et al. 2018, eq. 4).

    real, fake: `features` of a discriminator; the last maps, which are the logits, are left out.
    """
    if isinstance(real[0], Tensor):
        real, fake = [real], [fake]
    scales = [
        functools.reduce(
            operator.add,
            (F.l1_loss(f.float(), r.detach().float()) for r, f in zip(rs[:-1], fs[:-1], strict=True)),
        )
        for rs, fs in zip(real, fake, strict=True)
    ]
    return functools.reduce(operator.add, scales) / len(scales)


def logits(features: Sequence[Any]) -> Tensor | list[Tensor]:
    """The output of a discriminator's `forward`, taken from its `features`."""
    return features[-1] if isinstance(features[-1], Tensor) else [maps[-1] for maps in features]


class GanMonitor:
    """Watches the balance of a GAN and warns when one network has won for good, so that nothing more is learned.

    remedy: the options of the command that may help.
    """

    PATIENCE = 25  # consecutive log lines before a warning
    LIMIT = 0.995  # accuracy of the discriminator; 1 - LIMIT for the opposite

    def __init__(self, remedy: str = "--loss least-squares or hinge, a lower --lr or a smaller discriminator") -> None:
        self.remedy = remedy
        self.lines = {"won": 0, "lost": 0}

    def warning(self, values: Mapping[str, float]) -> str:
        """A warning by the logged means, or "". Each warning is given once, after PATIENCE lines in a row.

        It reads every `d_accuracy` or `d_..._accuracy`, a mean of `discriminator_accuracy`. Other accuracies, such as
        that of a classifier in training, do not count.
        """
        accuracies = [value for name, value in values.items() if name.startswith("d_") and name.endswith("accuracy")]
        if not accuracies:
            return ""
        now = {"won": max(accuracies) > self.LIMIT, "lost": min(accuracies) < 1 - self.LIMIT}
        for name, holds in now.items():
            self.lines[name] = self.lines[name] + 1 if holds else 0
        if self.lines["won"] == self.PATIENCE:
            return (
                "the discriminator has been correct on every image for long, so its opponent learns little from it any "
                f"more. A sign of too few or too different images; {self.remedy} can help"
            )
        if self.lines["lost"] == self.PATIENCE:
            return f"the discriminator has collapsed: it gives every image the same score; {self.remedy} can help"
        return ""


def normalized_inputs(specs: Sequence[ImageSpec], images: Sequence[Tensor], runtime: Runtime) -> tuple[Tensor, ...]:
    """Stored images as the networks take them, on the device and in the memory format of the runtime."""
    on_device = (image.to(runtime.device, non_blocking=True) for image in images)
    return tuple(
        spec.normalized_input(image).contiguous(memory_format=runtime.memory_format)
        for spec, image in zip(specs, on_device, strict=True)
    )


@torch.no_grad()
def translated(network: nn.Module, x: Tensor, runtime: Runtime) -> Tensor:
    """The output of the network for x (N, C, H, W), in evaluation mode and one image at a time; float32."""
    training = network.training
    network.eval()
    with runtime.autocast():
        result = torch.cat([network(image).float() for image in x.split(1)])
    network.train(training)
    return result


def parts(batch: tuple[Tensor, Tensor], count: int) -> list[tuple[Tensor, Tensor]]:
    """A batch of pairs split into `count` equal parts, whose gradients are accumulated."""
    a, b = (each.chunk(math.gcd(count, len(each))) for each in batch)
    return list(zip(a, b, strict=True))
