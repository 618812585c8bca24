"""Engines by name, and the one that `auto` takes."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.errors import MlcliError, UsageError, reason
from mlcli.io.user_cache import user_cache
from mlcli.models.engines import converted
from mlcli.models.engines.folded import folded
from mlcli.models.model import Model
from mlcli.runtime import optional_packages
from mlcli.runtime.device import Runtime

AUTO, TORCH, OPENVINO, ONNXRUNTIME, COMPILE = "auto", "torch", "openvino", "onnxruntime", "compile"
EXTRAS = {OPENVINO: "openvino", ONNXRUNTIME: "onnx"}
FEW = 32  # images, below which nothing is prepared: it would take longer than it saves
ENOUGH = 200  # images, from which the conversion to OpenVINO pays for itself


def chosen(engine: str, runtime: Runtime, count: int) -> str:
    """The engine that is meant: itself, or what `auto` takes for this many images.

    It depends on nothing else, so that parts of a set that are computed apart, and told the number of the whole, are
    computed alike. Raises UsageError for an engine that cannot compute on this device or in this precision, or is not
    installed.
    """
    if engine == AUTO:
        able = runtime.device.type == "cpu" and runtime.precision in ("fp32", "bf16") and count >= ENOUGH
        return OPENVINO if able and not optional_packages.missing(EXTRAS[OPENVINO]) else TORCH
    if engine in EXTRAS:
        optional_packages.require(EXTRAS[engine], f"--engine {engine}")
        if runtime.device.type != "cpu":
            raise UsageError(f"--engine {engine}: computes on the processor; take --device cpu, or --engine compile")
    if engine == ONNXRUNTIME and runtime.precision != "fp32":
        raise UsageError(f"--engine {engine}: computes in fp32, not in {runtime.precision}")
    return engine


def prepared(network: nn.Module, example: Tensor, runtime: Runtime, engine: str, key: Any, count: int) -> nn.Module:
    """A module that computes what the network does, by an engine.

    engine: as `chosen` gives it.  example: of the normalized input.  key: JSON values that the network depends on,
    under which a converted one is kept.  count: of the images. Raises MlcliError where it cannot be prepared.
    """
    if engine == OPENVINO:
        return converted.by_openvino(network, example, runtime, key)
    if engine == ONNXRUNTIME:
        return converted.by_onnxruntime(network, example, runtime, key)
    if engine == COMPILE:
        return _compiled(folded(network, runtime))
    return folded(network, runtime) if count >= FEW else network


def accelerated(model: Model, runtime: Runtime, engine: str, count: int) -> Model:
    """The model with its network computed by an engine; see `prepared`."""
    if engine == TORCH and count < FEW:
        return model
    size = model.preprocessing.crop
    example = torch.zeros(2, model.preprocessing.channels, size, size)
    network = prepared(model.network, example, runtime, engine, key_of(model), count)
    return replace(model, network=network)


def key_of(model: Model, layer: str = "") -> dict[str, Any]:
    """What the values of a model's network depend on. layer: whose values they are; "" for those of the network."""
    return {"weights": model.hash, "architecture": model.architecture, "options": model.options, "layer": layer}


def _compiled(network: nn.Module) -> nn.Module:
    """By torch.compile, whose files go to the user's cache."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache("compiled networks") / "inductor"))
    made: Callable[..., Tensor] = torch.compile(network)

    class Compiled(nn.Module):
        """Compiled at the first batch, where errors are those of the compiler."""

        def __init__(self) -> None:
            super().__init__()
            self.original = network

        def forward(self, images: Tensor) -> Tensor:
            try:
                return made(images)
            except torch._dynamo.exc.TorchDynamoException as error:
                raise MlcliError(f"--engine compile: torch cannot compile this network: {reason(error)}") from None

    return Compiled()
