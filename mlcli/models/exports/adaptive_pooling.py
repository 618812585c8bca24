"""Adaptive average pooling as two products with matrices, for exporters that have no form of it.

ONNX has pooling with equal windows alone. The windows of adaptive pooling differ where the output's sides do not divide
the input's; then the mean over them is P_h^T x P_w, with a column of weights for each window.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PoolingByProducts(TorchFunctionMode):
    """In its context `adaptive_avg_pool2d` is computed by products where its windows differ; else as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.adaptive_avg_pool2d:
            return func(*args, **kwargs)
        return _pooled(*args, **kwargs)


def _pooled(input: Tensor, output_size: Any) -> Tensor:
    """(..., H, W) -> (..., h, w)."""
    height, width = (int(side) for side in input.shape[-2:])
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    h, w = (side if given is None else int(given) for given, side in zip(wanted, (height, width), strict=True))
    if height % h == 0 and width % w == 0:
        return F.adaptive_avg_pool2d(input, (h, w))
    rows, columns = (_weights(side, count, input) for side, count in ((height, h), (width, w)))
    return rows.T @ (input @ columns)


def _weights(side: int, count: int, like: Tensor) -> Tensor:
    """(side, count): how much each row of the input counts in each of the output. A constant of the exported file."""
    windows = [(number * side // count, -(-(number + 1) * side // count)) for number in range(count)]
    weights = [[(start <= row < end) / (end - start) for start, end in windows] for row in range(side)]
    return torch.tensor(weights, dtype=like.dtype, device=like.device)
