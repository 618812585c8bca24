"""Label shift: the class frequencies of images without labels, estimated from the predictions of a classifier.

Where two domains differ in how frequent the classes are, p_t(y) against p_s(y), and not in how a class looks, p(x|y),
Bayes' rule gives the predictions for the target from those of a classifier that was trained on the source:
    p_t(y|x) = p_s(y|x) w_y / sum_k p_s(k|x) w_k,    w_y = p_t(y) / p_s(y).                             (eq. 2.4)
Expectation maximization finds the p_t(y) under which the images are most likely, from p_s(y) on: the E step is eq. 2.4,
    p_t(y) <- 1/N sum_i p_t(y|x_i)                                                                   (eq. 2.9)
is the M step (Saerens, Latinne and Decaestecker 2002). The likelihood is concave in p_t, so there is one maximum.

This is chosen by measurement (tests/benchmarks/label_shift.py): on synthetic data the confusion matrix on held-out
images (BBSE, Lipton, Wang and Smola 2018) is further from the truth, and to calibrate the probabilities first gains
nothing; both need images that the classifier has not learned from. The estimate is exact only under label shift alone:
where classes also look different, it counts mistakes of the classifier as frequencies.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mlcli.counting import joined

TOLERANCE, ITERATIONS = 1e-7, 2000
DISTANT = 0.25  # total variation; mistakes alone came to 0.05 where 90 % were correct, and to 0.26 where 70 % were


def frequencies(labels: Tensor, classes: int) -> Tensor:
    """The fraction of each class, (K,) float64, among labels (N,)."""
    return labels.bincount(minlength=classes).double() / len(labels)


def estimated(p: Tensor, source: Tensor) -> Tensor:
    """The class frequencies (K,), float64, of images with these predictions.

    p: (N, K), probabilities by a classifier of the source.  source: (K,), the class frequencies that it was trained on;
    a class that has none gets none.
    """
    found = source = source.double()
    likelihoods = torch.where(
        source > 0, p.double().clamp(min=1e-300) / source, 0.0
    )  # p(x|y), times a factor of each x
    for _ in range(ITERATIONS):
        weighted = likelihoods * found
        before, found = found, (weighted / weighted.sum(1, keepdim=True)).mean(0)
        if (found - before).abs().max() < TOLERANCE:
            break
    return found


def total_variation(first: Tensor, second: Tensor) -> float:
    """Half the sum of the absolute differences of two distributions (K,), from 0 to 1.

    It is the least fraction of the images whose class would have to be another one.
    """
    return (first - second).abs().sum().item() / 2


def warning(target: Tensor, source: Tensor, classes: Sequence[str], methods: Sequence[str]) -> str:
    """A warning if the frequencies of two domains differ much; otherwise an empty string.

    target, source: (K,).  methods: the names of the methods that assume them to be equal.
    """
    distance = total_variation(target, source)
    if distance < DISTANT:
        return ""
    least, most = int((target - source).argmin()), int((target - source).argmax())
    examples = (f"class {classes[k]}, {target[k]:.0%} in place of {source[k]:.0%}" for k in (least, most))
    return (
        f"the class frequencies of the target seem to differ from those of the source: {'; '.join(examples)}; total "
        f"variation distance {distance:.2f}, part of which may be mistakes of the source model. "
        f"{joined(methods)} assume equal frequencies, and may mistake frequent classes for "
        "rare ones. Leave out or copy images of SOURCE until its classes are as frequent as in the target, and compare "
        "with source only on labeled images (--test)"
    )
