"""The deconvnet of Zeiler and Fergus 2014: the gradient, where each ReLU passes what is positive and asks no more.

The network runs backward: convolutions are transposed, pooling puts values back where they came from, and a ReLU is
applied to what comes from above. That is the gradient, with another rule for the ReLUs (Simonyan et al. 2014).
"""

from collections.abc import Sequence

from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target


def deconvnet(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The projection (C, H, W) of each image's target."""
    return [Attribution(each) for each in scorer.gradients(images, targets, rule="deconv")[1]]
