"""The engine that computes the network of a command: chosen, prepared, and left for torch where it cannot be."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlcli.api.events import say
from mlcli.errors import MlcliError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime


def opened(
    name: str, weights: Any, runtime: "Runtime", engine: str, *, classes: Any = None, features: bool = False
) -> "Model":
    """The model of a name, an exported file too, on the device of the runtime.

    features: whether its last hidden layer is wanted. Raises UsageError for an engine that is not the file's.
    """
    from mlcli.models import registry
    from mlcli.models.exports.files import is_exported

    model = registry.load(name, weights, classes=classes, runs_on=runtime).to(runtime)
    if not is_exported(name):
        return model
    from mlcli.models.exports.exported_model import ExportedModel

    assert isinstance(model, ExportedModel)
    if engine not in ("auto", model.engine):
        raise UsageError(f"--engine {engine}: {name} is computed by {model.engine}; leave --engine out")
    if features:
        model.require_features()
    if model.assumed:
        say(model.assumed)
    if model.overflows:
        say(
            f"{name}: has weights of 8 bits, whose sums overflow on this processor, so that it is less accurate here; "
            "export it again with --weight-bits 7, or as .xml for OpenVINO"
        )
    return model


def accelerated(model: "Model", runtime: "Runtime", engine: str, count: int) -> "Model":
    """The model with its network computed by an engine. count: of the images, by which `auto` chooses."""
    from mlcli.models.engines import choice
    from mlcli.models.exports.files import is_exported

    if is_exported(model.name):
        return model
    return _or_torch(engine, runtime, count, lambda taken: choice.accelerated(model, runtime, taken, count))


def taken(model: "Model", runtime: "Runtime", engine: str, count: int) -> str:
    """The name of the engine that computes a model, for so many images."""
    from mlcli.models.engines import choice
    from mlcli.models.exports.exported_model import ExportedModel

    return model.engine if isinstance(model, ExportedModel) else choice.chosen(engine, runtime, count)


def prepared(network: "nn.Module", example: "Tensor", runtime: "Runtime", engine: str, key: Any, count: int) -> Any:
    """A module computed by an engine; see `mlcli.models.engines.choice.prepared`."""
    from mlcli.models.engines import choice

    def prepare(taken: str) -> Any:
        return choice.prepared(network, example, runtime, taken, key, count)

    return _or_torch(engine, runtime, count, prepare)


def _or_torch(engine: str, runtime: "Runtime", count: int, prepare: Callable[[str], Any]) -> Any:
    """What `prepare` makes with the engine; with torch where `auto` has taken another that cannot convert the network.

    That is said, since the same command is slower then.
    """
    from mlcli.models.engines import choice

    taken = choice.chosen(engine, runtime, count)
    try:
        return prepare(taken)
    except MlcliError as error:
        if engine != choice.AUTO:
            raise
        say(f"computed by torch, since {taken} cannot be used: {error}")
        return prepare(choice.TORCH)
