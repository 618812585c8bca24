"""Reverse validation: predictions for images without labels, rated by how well a classifier learns from them.

A classifier is trained on the target, with the predictions of the model in place of labels, and tested on labeled
images of the source (Zhong, Fan, Yang, Verscheure and Ren 2010; Ganin et al. 2016). If the predictions are right, it
has learned the classes, and is right about the source as far as the domain gap lets it. The better of two models is the
one whose reverse classifier is better; the figure by itself says little.

Deviations: the papers train the reverse classifier as the model itself, here it is logistic regression on fixed
features. Those are of a network that has seen no label: features of the source model would favor its own predictions,
which are linear in them, and features of the adapted model would favor any predictions, for the same reason. So no
image has to be held out. Its l2 is fixed. The papers choose hyperparameters by it, here it chooses checkpoints as well.
"""

from dataclasses import dataclass

from torch import Tensor

from mlcli.methods.learning.linear_head import Problem, solve

L2 = 0.1


@dataclass(frozen=True)
class ReverseValidation:
    """A criterion of predictions for the target.

    target: features (N, F) of images of the target.  source: features (M, F) of images of the source, and labels (M,)
    with their classes.
    """

    target: Tensor
    source: Tensor
    labels: Tensor

    def __call__(self, p: Tensor) -> float:
        """Accuracy of the reverse classifier on the source.

        p: (N or more, K), probabilities of the target's images, in their order.
        """
        predicted = p[: len(self.target)].argmax(1)
        (classifier,) = solve(Problem(self.target[:, None], predicted, p.shape[1]), [L2])
        return (classifier.log_probabilities(self.source).argmax(1) == self.labels).double().mean().item()
