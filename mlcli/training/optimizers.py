"""Optimizers that torch does not bring in the form needed here."""

import inspect
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mlcli.runtime.device import native_bf16


class Uncompiled(torch.optim.Optimizer):
    """An optimizer that is never part of a compiled function.

    torch wraps methods of its optimizers for the case that they are. The wrappers import its compiler at their first
    call, which takes 1 to 3 seconds of every training. These are the methods without them.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class SGD(Uncompiled, torch.optim.SGD):
    """torch.optim.SGD."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class Adam(Uncompiled, torch.optim.Adam):
    """torch.optim.Adam."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(Uncompiled, torch.optim.AdamW):
    """torch.optim.AdamW."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class LBFGS(Uncompiled, torch.optim.LBFGS):
    """torch.optim.LBFGS."""


class ConvolutionMuon(Uncompiled):
    """Muon (Jordan 2024) for convolutions that a batch norm follows.

    Each weight (O, I, k, k) is the matrix (O, k k I) in the same storage. Before each step it is scaled to the norm
    sqrt(O). The batch norm removes the scale, so the scaling only sets the size of the step relative to the weight,
    which is then `lr` (airbench, Jordan 2024).

    Deviations: three steps of the iteration, which orthogonalize well enough, since the gradient of a mini-batch is
    rough anyway; and fp32 where the hardware has no bf16 arithmetic. There torch.optim.Muon, which computes in bf16
    everywhere, takes twelve times as long.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.6) -> None:
        self.weights = list(weights)
        for weight in self.weights:  # so that the matrix is a view
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        matrices = [nn.Parameter(as_matrix(weight.detach())) for weight in self.weights]
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is supported
        group = self.param_groups[0]
        for weight, matrix in zip(self.weights, group["params"], strict=True):
            assert weight.grad is not None
            gradient = as_matrix(weight.grad.contiguous(memory_format=torch.channels_last))
            matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
            state = self.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            direction = orthogonalized(gradient.lerp(average, group["momentum"]))  # Nesterov's
            rows, columns = matrix.shape
            matrix.add_(direction, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.weights:
            weight.grad = None


def orthogonalized(matrix: Tensor, steps: int = 3) -> Tensor:
    """About the nearest (semi-)orthogonal matrix, (O, C), by the quintic Newton-Schulz iteration of Jordan 2024.

    X <- a X + (b X X' + c (X X')^2) X, from X = matrix / |matrix|. Its singular values end near 1, the more so the more
    steps. In bf16 where the device multiplies it natively, else in fp32.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(torch.bfloat16 if native_bf16(matrix.device) else torch.float32)
    tall = x.size(0) > x.size(1)
    if tall:
        x = x.T  # the smaller product
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class FusedAdam(Adam):
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
