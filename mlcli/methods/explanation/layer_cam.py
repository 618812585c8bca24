"""Layer-CAM: the maps of a layer, weighted at each position by itself (Jiang et al. 2021).

    map = max(0, sum over k of max(0, dy / dA_k) A_k)

y is the target, A_k the k-th map of the layer. The weights are not averaged over the positions, as those of Grad-CAM
are, so that the map stays sharp in layers before the last, whose maps are large.
"""

from collections.abc import Sequence

from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target


def layer_cam(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The map (h, w) of each image, of as many positions as the layer has."""
    maps, gradients = scorer.layer_gradients(images, targets)
    return [Attribution(each) for each in (gradients.relu() * maps).sum(1).relu()]
