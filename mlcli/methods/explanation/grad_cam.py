"""Grad-CAM: the maps of a layer, weighted by how the target depends on each (Selvaraju et al. 2017).

    alpha_k = mean over positions of dy / dA_k
    map     = max(0, sum over k of alpha_k A_k)

y is the target, A_k the k-th map of the layer. As in the paper the last maps of the network are taken by default.
"""

from collections.abc import Sequence

from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target


def grad_cam(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The map (h, w) of each image, of as many positions as the layer has."""
    maps, gradients = scorer.layer_gradients(images, targets)
    weights = gradients.mean((2, 3), keepdim=True)
    return [Attribution(each) for each in (weights * maps).sum(1).relu()]
