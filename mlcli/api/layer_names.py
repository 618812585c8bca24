"""Layers as the user names them: which address a name stands for, and what to say where it could mean two layers."""

from collections.abc import Callable, Iterable

from mlcli.api.events import say
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.graph import ADDRESS, Layer


def addresses(
    model: Model, names: Iterable[str], resolve: Callable[[Model, str], Layer] = features.resolve
) -> dict[str, str]:
    """{name: address of the layer that it means}, for the record of a command.

    Says of an alias that is the address of another layer too which of them is meant. resolve: finds a layer by its
    name. Raises UsageError for a name that no layer has.
    """
    found = {}
    for name in dict.fromkeys(names):
        found[name] = resolve(model, name).address
        alias = name.removesuffix(features.SIGNED)
        if features.hidden_by(model, alias) is None:
            continue
        other = resolve(model, alias + ADDRESS).address
        if other != found[name]:
            say(
                f"{model.name}: {alias} is the alias of a convolutional stage and means {found[name]}; the layer "
                f"{other} is named by {alias}{ADDRESS}"
            )
    return found
