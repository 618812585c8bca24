"""Guided Grad-CAM (Selvaraju et al. 2017): guided backpropagation, times Grad-CAM, which knows the class.

The map of Grad-CAM is enlarged by repeating its values, as captum does it; the paper's is bilinear.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.grad_cam import grad_cam
from mlcli.methods.explanation.guided_backprop import guided_backprop
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target


def guided_grad_cam(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The product (C, H, W) for each image."""
    coarse, fine = grad_cam(scorer, images, targets, config), guided_backprop(scorer, images, targets, config)
    return [
        Attribution(b.values * F.interpolate(a.values[None, None], b.values.shape[1:], mode="nearest")[0])
        for a, b in zip(coarse, fine, strict=True)
    ]
