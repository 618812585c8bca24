"""Optimizers that torch does not bring in the form needed here."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class ConvolutionMuon(torch.optim.Muon):
    """Muon (Jordan 2024) for convolutions that a batch norm follows.

    torch's Muon takes matrices; each weight (O, I, k, k) is given to it as the matrix (O, I k k) in the same storage.
    Before each step a weight is scaled to the norm sqrt(O). The batch norm removes the scale, so the scaling only sets
    the size of the step relative to the weight, which is then `lr` (airbench, Jordan 2024).
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.6) -> None:
        self.weights = list(weights)
        for weight in self.weights:  # so that the matrix is a view
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        # Three steps of the iteration orthogonalize well enough; the gradient of a mini-batch is rough anyway.
        matrices = [nn.Parameter(as_matrix(weight.detach())) for weight in self.weights]
        super().__init__(matrices, lr=lr, momentum=momentum, weight_decay=0.0, nesterov=True, ns_steps=3)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is supported
        matrices = self.param_groups[0]["params"]
        for weight, matrix in zip(self.weights, matrices, strict=True):
            assert weight.grad is not None
            matrix.grad = as_matrix(weight.grad.contiguous(memory_format=torch.channels_last))
            matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
        super().step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.weights:
            weight.grad = None


class FusedAdam(torch.optim.Adam):
    """Adam in one pass over memory, for weights in any memory format.

    torch's fused Adam for CPUs copies every tensor that is not contiguous, which takes as long as the step itself.
    Weights in channels_last are therefore given to it as views in the order of their memory, in the same storage.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, betas: tuple[float, float]) -> None:
        self.weights = list(weights)
        views = [nn.Parameter(in_memory_order(weight.detach(), weight)) for weight in self.weights]
        super().__init__(views, lr=lr, betas=betas, fused=self.weights[0].device.type in ("cpu", "cuda"))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is supported
        for weight, view in zip(self.weights, self.param_groups[0]["params"], strict=True):
            view.grad = None if weight.grad is None else in_memory_order(weight.grad, weight)
        super().step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in (*self.weights, *self.param_groups[0]["params"]):
            weight.grad = None


def in_memory_order(values: Tensor, weight: Tensor) -> Tensor:
    """Values with the shape of a weight, such as its gradient, in the order in which the weight lies in memory."""
    if weight.ndim != 4 or weight.is_contiguous():
        return values.contiguous()
    return as_matrix(values.contiguous(memory_format=torch.channels_last))


def as_matrix(weight: Tensor) -> Tensor:
    """(O, I, k, k) in channels_last memory -> (O, k k I), a view of the same storage."""
    return weight.permute(0, 2, 3, 1).flatten(1)
