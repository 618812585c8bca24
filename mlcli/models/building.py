"""Networks by the name of their architecture and the options that a file of weights names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mlcli.errors import UsageError, reason
from mlcli.io.schema import Invalid, items, mapping, number, record, text
from mlcli.models import catalog
from mlcli.models.model import logits
from mlcli.models.shapes import on_shapes
from mlcli.networks.translated import Translated

TRANSLATED = "translated"  # one of the others behind a generator
BEHIND = record(  # the options of a model behind a generator
    {
        "generator": mapping(),
        "architecture": text(200),
        "options": mapping(),
        "mean": items(number(), 1, 3),
        "std": items(number(1e-6), 1, 3),
    },
    closed=True,
)
MOST_GENERATORS = 3  # one behind the other


def network(architecture: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """The network of an architecture, with random weights. Raises ValueError for what `check_options` refuses."""
    if architecture == TRANSLATED:
        from mlcli.models import translators

        inner = network(options["architecture"], classes, options["options"])
        return Translated(translators.network(options["generator"]), inner, options["mean"], options["std"])
    return catalog.architecture(architecture).build(classes, options)


def check_options(architecture: str, options: Mapping[str, Any], depth: int = MOST_GENERATORS) -> None:
    """Raise Invalid, or ValueError for an unknown architecture, where a file names options that none of ours have."""
    if architecture != TRANSLATED:
        catalog.architecture(architecture).option_check(options)
        return
    if not depth:
        raise Invalid("stands behind too many generators", ("architecture",))
    BEHIND(options)
    check_options(options["architecture"], options["options"], depth - 1)


def check_size(network: nn.Module, architecture: str, size: int, channels: int) -> tuple[int, ...]:
    """The shape of what the network gives for one image of this size.

    Raises UsageError where such an image does not pass through it.
    """
    try:
        with torch.inference_mode():
            result = on_shapes(network.eval(), torch.zeros(1, channels, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(f"--size {size}: does not suit {architecture} ({reason(error)})") from None
    return tuple(logits(result).shape)
