"""Inversion of a layer: what is left of an image at it.

Mahendran and Vedaldi 2015, Understanding Deep Image Representations by Inverting Them. An image x is sought whose
values at a layer, Phi(x), are those of a given image:

    |Phi(x) - Phi0|^2 / |Phi0|^2 + w1 R_alpha(x) + w2 R_TV(x),

where R_alpha is the mean of |x|^alpha, which keeps values in range (x from -1 to 1), and R_TV the mean of
(dx^2 + dy^2)^(beta / 2), which keeps them smooth. What the layer has lost, x shows in another way than the given image.

Deviations: The unknowns are frequencies in decorrelated colors instead of pixels, and Adam takes the place of gradient
descent with momentum. The weights of the two priors are the same for all layers. The gradient passes the ReLU that ends
the layer where a unit is silent and should not be.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcli.imaging import image_io
from mlcli.methods.visualization import color_decorrelation
from mlcli.methods.visualization.configs import Inversion
from mlcli.methods.visualization.parametrization import PARAMETRIZATIONS, Images, Transforms, ascend
from mlcli.models.model import Model
from mlcli.models.structure.features import SIGNED, Activations
from mlcli.models.structure.folding import fold_norms
from mlcli.runtime.device import Runtime


@dataclass(frozen=True)
class Inverted:
    """image: (C, H, W) uint8. error: |Phi(x) - Phi0|^2 / |Phi0|^2. psnr: of the image beside the given one, in dB."""

    image: Tensor
    error: float
    psnr: float


def invert(
    model: Model,
    address: str,
    image: Tensor,
    config: Inversion,
    runtime: Runtime,
    *,
    on_step: Callable[[int, float], None] | None = None,
) -> Inverted:
    """Find an image with the values of `image` (C, H, W) uint8, prepared for the network, at the layer of an address.

    on_step(steps done, objective to minimize) is called after each step. Raises MlcliError for an objective that is no
    finite number.
    """
    given = image.to(runtime.device)[None]
    activations = Activations(model, [address, address + SIGNED])
    fold_norms(activations.extractor)

    def values(images: Tensor, wanted: Tensor | None = None) -> Tensor:
        found = activations(images)
        value = found[address].float()
        if wanted is None:
            return value
        # No gradient passes the ReLU of a unit that is silent; where it should not be, it gets that before the ReLU
        signed = found[address + SIGNED].float()
        return value + ((value == 0) & (wanted > 0)) * (signed - signed.detach())

    with torch.no_grad(), runtime.autocast():
        wanted = values(given)
    scale = wanted.square().sum().clamp_min(torch.finfo(torch.float32).tiny)

    def objective(window: Tensor, drawn: Tensor, step: int) -> Tensor:
        error = (values(window, wanted) - wanted).square().sum() / scale
        priors = config.alpha_weight * alpha_norm(drawn, config.alpha)
        return -(error + priors + config.tv_weight * total_variation(drawn, config.beta))[None]

    own = PARAMETRIZATIONS[config.param].noise((1, *image.shape), config.seed)
    images = Images(own, color_decorrelation.of_training_data(model), runtime.device)
    ascend(
        images,
        objective,
        steps=range(config.steps),
        lr=lambda step: config.lr * (1 - (1 - config.decay) * step / config.steps),
        transforms=Transforms(),
        seed=config.seed,
        runtime=runtime,
        on_step=None if on_step is None else lambda step, value, _: on_step(step + 1, -value),
    )
    with torch.no_grad():
        found = image_io.to_bytes(images())
        error = (values(found) - wanted).square().sum() / scale
    return Inverted(found[0].cpu(), error.item(), psnr(found[0].cpu(), image))


def alpha_norm(images: Tensor, alpha: float) -> Tensor:
    """The mean of |x|^alpha over images with values x from -1 to 1, given as (N, C, H, W) in [0, 1]."""
    return (2 * images - 1).abs().pow(alpha).mean()


def total_variation(images: Tensor, beta: float) -> Tensor:
    """The mean of (dx^2 + dy^2)^(beta / 2) over the pixels of images (N, C, H, W) in [0, 1]."""
    down = (images[:, :, 1:, :-1] - images[:, :, :-1, :-1]).square()
    across = (images[:, :, :-1, 1:] - images[:, :, :-1, :-1]).square()
    return (down + across).pow(beta / 2).mean()


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 images of one shape; infinite for equal ones."""
    error = (image.double() - reference.double()).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf
