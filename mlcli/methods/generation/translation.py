"""What the adversarial methods of translation have in common: players, their optimizers, the judgment of images."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.data.pairs import ImageSpec
from mlcli.methods.configs import Translation
from mlcli.models.translators import Translator, create
from mlcli.networks.initialization import initialize
from mlcli.networks.patchgan import MultiScale, PatchGAN
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.training.optimizers import FusedAdam
from mlcli.training.schedules import SCHEDULES


def norm(config: Translation) -> str:
    """The norm of the networks: batch norm over images one at a time is their own, which holds after training too."""
    return "instance-affine" if config.norm == "batch" and config.batch_size == config.accumulate else config.norm


def generator(config: Translation, source: ImageSpec, target: ImageSpec, **more) -> Translator:
    """A new generator with initial weights of the config. Raises UsageError where it does not suit the size.

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


def discriminator(config: Translation, channels: int) -> nn.Module:
    """A new discriminator of images with so many channels, at one scale or several, with initial weights."""
    # The gradient penalty is of each image by itself, which batch norm does not allow.
    kind = "instance" if config.loss == "wasserstein" and norm(config) == "batch" else norm(config)
    layers = 0 if config.discriminator == "pixel" else config.layers
    scales = [PatchGAN(channels, config.discriminator_filters, layers, kind) for _ in range(config.scales)]
    return initialize(scales[0] if len(scales) == 1 else MultiScale(scales), config.init, config.init_gain)


def adam(networks: Iterable[nn.Module], config: Translation) -> FusedAdam:
    """One Adam over all weights of the networks."""
    weights = [p for network in networks for p in network.parameters()]
    return FusedAdam(weights, config.lr, (config.beta1, config.beta2))


def set_rate(optimizers: Iterable[torch.optim.Optimizer], config: Translation, step: int, steps: int) -> None:
    """The rate of step `step` by the schedule of the config."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = config.lr * SCHEDULES[config.schedule](step, steps)


def update(optimizer: FusedAdam, processes: Processes) -> None:
    """A step along the gradients of all processes, which are dropped then."""
    processes.average_gradients(optimizer.weights)
    optimizer.step()
    optimizer.zero_grad()


def discriminate(network: nn.Module, real: Tensor, fake: Tensor) -> tuple:
    """(D(real), D(fake)), in one pass where D sees each image by itself.

    Batch norm does not: it would take the statistics of both together, and tell them apart by these.
    """
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network(real), network(fake)
    outputs = network(torch.cat([real, fake]))
    if isinstance(outputs, Tensor):
        return outputs.chunk(2)
    return tuple(zip(*(scale.chunk(2) for scale in outputs), strict=True))


def share_right(real: Tensor | Sequence[Tensor], fake: Tensor | Sequence[Tensor]) -> Tensor:
    """How often D rates a real patch above the generated one in its place: 1/2 where it cannot tell. A scalar."""
    pairs = [(real, fake)] if isinstance(real, Tensor) else zip(real, fake, strict=True)
    return torch.stack([(r.detach() > f.detach()).float().mean() for r, f in pairs]).mean()


def feature_matching(real: Sequence, fake: Sequence) -> Tensor:
    """Mean over the scales of the sum over the stages of |D_i(real) - D_i(fake)|, means (Wang et al. 2018, eq. 4).

    real, fake: `features` of a discriminator; the last maps, the logits themselves, do not take part.
    """
    if isinstance(real[0], Tensor):
        real, fake = [real], [fake]
    scales = [
        sum(F.l1_loss(f.float(), r.detach().float()) for r, f in zip(rs[:-1], fs[:-1], strict=True))
        for rs, fs in zip(real, fake, strict=True)
    ]
    return sum(scales) / len(scales)


def logits(features: Sequence) -> Tensor | list[Tensor]:
    """What `forward` of a discriminator gives, of its `features`."""
    return features[-1] if isinstance(features[-1], Tensor) else [maps[-1] for maps in features]


class GanMonitor:
    """Watches over the two players: says so when one has won for good, from which nothing more is learned.

    remedy: the options of the command that may help.
    """

    PATIENCE = 25  # logged lines in a row
    LIMIT = 0.995

    def __init__(self, remedy: str = "--loss least-squares or hinge, a lower --lr or a smaller discriminator"):
        self.remedy = remedy
        self.lines = {"won": 0, "lost": 0}

    def warning(self, values: Mapping[str, float]) -> str:
        """values: logged means, `*right` those of `share_right`. Says each thing once, when it has lasted."""
        right = [value for name, value in values.items() if name.endswith("right")]
        if not right:
            return ""
        now = {"won": max(right) > self.LIMIT, "lost": min(right) < 1 - self.LIMIT}
        for name, holds in now.items():
            self.lines[name] = self.lines[name] + 1 if holds else 0
        if self.lines["won"] == self.PATIENCE:
            return (
                "the discriminator has told all that is real from what is not for long, so its opponent learns "
                f"little from it any more. A sign of too few or unlike images; {self.remedy} can help"
            )
        if self.lines["lost"] == self.PATIENCE:
            return f"the discriminator has collapsed: it gives every image one answer; {self.remedy} can help"
        return ""


def signals(kinds: Sequence[ImageSpec], images: Sequence[Tensor], runtime: Runtime) -> tuple[Tensor, ...]:
    """Stored images as the networks take them, on the device and in the memory format of the runtime."""
    on_device = (image.to(runtime.device, non_blocking=True) for image in images)
    return tuple(
        kind.signal(image).contiguous(memory_format=runtime.memory_format)
        for kind, image in zip(kinds, on_device, strict=True)
    )


@torch.no_grad()
def translated(network: nn.Module, signal: Tensor, runtime: Runtime) -> Tensor:
    """What the network makes of images (N, C, H, W) in its inference mode, one at a time; float32."""
    training = network.training
    network.eval()
    with runtime.autocast():
        result = torch.cat([network(image).float() for image in signal.split(1)])
    network.train(training)
    return result


def sheet(rows: Sequence[Sequence[Tensor]], gap: int = 2) -> Tensor:
    """Rows of images (1, 1 or 3, H, W) in [0, 1] as one image (3, h, w), with white between them."""
    strips = [
        torch.cat([F.pad(each[0].float().cpu().expand(3, -1, -1), (0, gap, 0, gap), value=1.0) for each in row], 2)
        for row in rows
    ]
    width = max(strip.shape[2] for strip in strips)
    strips = [F.pad(strip, (0, width - strip.shape[2]), value=1.0) for strip in strips]
    return torch.cat(strips, 1)[:, :-gap, :-gap]


def parts(batch: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """A batch cut into `count` equal parts, whose gradients are accumulated."""
    return list(zip(*(each.chunk(math.gcd(count, len(each))) for each in batch), strict=True))
