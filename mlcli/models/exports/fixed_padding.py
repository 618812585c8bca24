"""Padding by widths that are constants of the exported file.

TensorFlow's padding, which many networks of timm have, depends on the size of the image. An exporter writes its
arithmetic into the file, where quantization takes the sizes for activations and rounds them. For images of one size it
is constants.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class FixedPadding(TorchFunctionMode):
    """In its context the widths of `pad` are numbers, even where they were computed from the size of an image."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.pad and len(args) > 1:
            args = (args[0], [int(width) for width in args[1]], *args[2:])
        return func(*args, **kwargs)
