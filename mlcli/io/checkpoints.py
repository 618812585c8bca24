"""Checkpoints as training scripts write them: the tensors of one network among optimizers, options and counters.

Files are read with weights_only. Beside tensors, only plain containers of the standard library, numbers of NumPy and
configurations that are dicts by another name are admitted; no code of a file is ever run.
"""

import argparse
import collections
import pathlib
import pickle
import re
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
from torch import Tensor

from mlcli.errors import RunError, WeightsError, reason

# Where scripts keep the tensors of the network, the preferred first: an exponential moving average of the weights (EMA)
# is kept in order to be used in place of the last step's.
EMA = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema", "params_ema")
CONTAINERS = (
    *EMA, "state_dict", "model_state_dict", "model", "net", "network", "weights", "module", "model_state", "params"
)  # fmt: skip
DEPTH = 4  # containers within containers

TEMPLATES = ("list", "dict", "tuple", "set", "int", "float", "str", "bool")
# Kept as dicts, whatever their own classes would do
CONFIGURATIONS = (
    "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)


def _plain_dict(factory: object = None) -> dict[str, Any]:
    """In place of a defaultdict, which torch's reader does not fill."""
    return {}


def _admitted() -> list[Any]:
    """What may stand in a file beside tensors: classes, or pairs of a stand-in and the name that it answers to."""
    core = getattr(numpy, "_core", None) or numpy.core
    numbers = [kind for kind in vars(numpy.dtypes).values() if isinstance(kind, type)]
    paths = [
        ((pathlib.PureWindowsPath if name.endswith("WindowsPath") else pathlib.PurePosixPath), f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ]
    return [
        argparse.Namespace,
        types.SimpleNamespace,
        (_plain_dict, "collections.defaultdict"),
        *((vars(__import__("builtins"))[name], f"builtins.{name}") for name in TEMPLATES),
        *((collections.OrderedDict, name) for name in CONFIGURATIONS),
        (str, "torch.torch_version.TorchVersion"),
        *paths,
        numpy.dtype,
        numpy.ndarray,
        *numbers,
        *((core.multiarray.scalar, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
        *((core.multiarray._reconstruct, f"numpy.{module}.multiarray._reconstruct") for module in ("core", "_core")),
    ]


def read(file: str | Path) -> dict[str, Tensor]:
    """The tensors of the network in a file that torch.save wrote, by name, on the CPU. Raises WeightsError."""
    try:
        with torch.serialization.safe_globals(_admitted()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of files that are refused or read all the same
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise WeightsError(f"{file}: not a file of weights, or one with code in it, which is never run") from None
        raise WeightsError(
            f"{file}: holds {found[1]}, which is opened by running code in it, which is never run. Where the file was "
            "made, save the tensors alone: torch.save(network.state_dict(), FILE)"
        ) from None
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise
        raise WeightsError(
            f"{file}: is a TorchScript program, which is never run. Where the file was made, save the tensors alone: "
            "torch.save(network.state_dict(), FILE)"
        ) from None
    tensors = _network_of(content, file)
    if tensors is None:
        raise WeightsError(f"{file}: holds no mapping of names to tensors; save the network's state_dict()")
    return tensors


def read_state(source: str | Path | BinaryIO, file: str | Path) -> Any:
    """What this tool itself has saved by torch.save, of plain values and tensors, on the CPU.

    file: named in the error. No code is run. Raises RunError for what cannot be read so.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of pickles in another protocol
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose message tells how to run the code in a file
        raise RunError(f"{file}: cannot be read, and is not of mlcli; --overwrite starts again") from None
    except Exception as error:  # a damaged file fails in many ways
        raise RunError(f"{file}: cannot be read ({reason(error)}); --overwrite starts again") from None


def _network_of(content: object, file: str | Path, depth: int = DEPTH) -> dict[str, Tensor] | None:
    """The tensors of the network in what a file holds; None where there are none.

    Those in the first of CONTAINERS that has some; else those of the one mapping of names to tensors, whatever its
    name; else those that lie in the content itself, beside which there may be counters.
    """
    if not isinstance(content, Mapping) or not depth:
        return None
    for name in CONTAINERS:
        tensors = _network_of(content.get(name), file, depth - 1)
        if tensors is not None:
            return tensors
    inner = {name: value for name, value in content.items() if _is_state(value)}
    if len(inner) > 1:
        raise WeightsError(
            f"{file}: holds several networks ({', '.join(map(str, inner))}); save the one to use in a file of its own"
        )
    for value in inner.values():
        return dict(value)
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    # A network's tensors have names with a dot, or nothing else is with them
    return tensors if len(tensors) == len(content) > 0 or any("." in name for name in tensors) else None


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )
