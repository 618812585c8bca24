"""Guided backpropagation (Springenberg et al. 2015): the gradient along paths on which all is positive.

A ReLU passes the gradient where its input was positive, as by the chain rule, and where the gradient itself is, as in
the deconvnet. The map is close to the edges of the image whatever the target is, which Adebayo et al. 2018 found.
"""

from collections.abc import Sequence

from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target


def guided_backprop(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The guided gradient (C, H, W) of each image's target."""
    return [Attribution(each) for each in scorer.gradients(images, targets, rule="guided")[1]]
