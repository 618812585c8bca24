"""`mlcli.layers`: the layers of a network, by the addresses that other functions take."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function

if TYPE_CHECKING:
    from mlcli.models.model import Model
    from mlcli.models.structure.graph import Layer


@dataclass(frozen=True, kw_only=True)
class LayersConfig(common.UsesModel):
    pass


@dataclass(frozen=True)
class Layers:
    """The layers of a model in the order of computation."""

    KEYS = ("address", "alias", "kind", "shape", "receptive_field", "stride", "parameters")

    model: "Model"
    layers: "tuple[Layer, ...]"

    def as_json(self) -> list[dict[str, Any]]:
        """What `mlcli layers --format json` prints: one entry per layer, with KEYS.

        shape: of the output for one image. receptive_field, stride: in pixels of the input; None where a unit sees the
        whole image, since JSON knows no infinity. parameters: their number.
        """
        return [{key: _plain(getattr(layer, key)) for key in self.KEYS} for layer in self.layers]


@function(LayersConfig)
def layers(call: Call[LayersConfig]) -> Layers:
    """List the layers of a network: address, alias, kind, output shape, receptive field, stride and parameters.

    All are given for the input size that the model was made for. The weights need not be on this disk.

        >>> import mlcli
        >>> first = mlcli.layers(model="cifarnet").layers[0]
        >>> first.address, first.shape
        ('conv1.conv', (64, 32, 32))

    Raises UsageError for an unknown model, WeightsError for weights that cannot be read.
    """
    from mlcli.models import registry
    from mlcli.models.structure import features

    model = registry.load(call.config.model, call.config.weights, untrained=True)
    return Layers(model, tuple(features.layers(model)))


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and math.isinf(value) else value
