"""What a shell offers where a word is being typed: names of models, layers, devices and classes.

A shell waits for it at every press of a key, so nothing here imports torch where the names can be known without it:
those of torchvision and timm are read from their source files, classes from the head of a file of weights. Whatever
goes wrong, nothing is offered.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

OFFLINE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "cifarnet", "sobel")
UNTRAINED = (
    "cifarnet",
    "smallnet",
    "lenet",
    "lenet-bn",
    "digits",
    "unet",
)  # architectures of this tool that can be trained
STAGES = tuple(f"conv{number}" for number in range(1, 6))  # aliases that every model has
REGISTERED = "\n@register_model"  # before the function that builds a model of this name
TIMM = "timm/"
MOST_FOLDERS = 1000  # that are looked at for runs
LONGEST_HEAD = 100_000_000  # bytes of the head of a file of weights


def offered(kind: str, values: Mapping[str, Any], begun: str) -> list[str]:
    """The words that may stand for one that begins so.

    kind: of OFFERS, as `Option.completes` names it. values: of the options that stand on the command line already.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return [word for word in OFFERS[kind](values, begun) if word.startswith(begun)]
    except Exception:  # a traceback would stand in the middle of what the user types
        return []


def _models(own: Iterable[str], values: Mapping[str, Any], begun: str) -> list[str]:
    """Names of models, those of timm once its name is begun, and folders of runs."""
    names = [*own, *_registered("torchvision")]
    if begun and (begun.startswith(TIMM) or TIMM.startswith(begun)):
        names += [TIMM + name for name in sorted(_registered("timm"))]
    return [*dict.fromkeys(names), *_runs(begun)]


def _registered(package: str) -> list[str]:
    """The names of the classifiers of torchvision, or of the models of timm, from their sources."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "models"
    parts = [part for file in sorted(folder.glob("*.py")) for part in file.read_text("utf-8").split(REGISTERED)[1:]]
    return [found[1] for part in parts if (found := re.search(r"^def (\w+)\(", part, re.MULTILINE))]


def _runs(begun: str) -> list[str]:
    """Folders with a model in them that the word names or, a level deeper, begins to name."""
    within = os.path.dirname(begun)
    found = []
    for folder in _folders(within, os.path.basename(begun)):
        inside = [folder] if _holds_model(folder) else _folders(folder, "")
        found += [each for each in inside if _holds_model(each)]
    return found


def _folders(within: str, begun: str) -> list[str]:
    if not os.path.isdir(within or "."):
        return []
    with os.scandir(within or ".") as entries:
        names = [entry.name for entry in islice(entries, MOST_FOLDERS) if entry.is_dir() and entry.name[:1] != "."]
    return [os.path.join(within, name) for name in sorted(names) if name.startswith(begun)]


def _holds_model(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "model.safetensors"))


def _layers(values: Mapping[str, Any], begun: str) -> list[str]:
    """The aliases, which every model has; or, where none begins so, the addresses of the model, which takes torch."""
    if any(alias.startswith(begun) for alias in STAGES):
        return [*STAGES]
    from mlcli.api.common import DEFAULT_MODEL
    from mlcli.api.layers import layers

    found = layers(model=values.get("model") or DEFAULT_MODEL, weights=values.get("weights")).layers
    return [layer.address for layer in found]


def _devices(values: Mapping[str, Any], begun: str) -> list[str]:
    """The devices, as far as the system shows them without torch."""
    cards = sum(bool(re.fullmatch(r"nvidia\d+", name)) for name in os.listdir("/dev")) if os.path.isdir("/dev") else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(cards))] if cards else []
    return ["auto", "cpu", *cuda, *(["mps"] if sys.platform == "darwin" else [])]


def _classes(values: Mapping[str, Any], begun: str) -> list[str]:
    """The classes of the run on the command line."""
    with open(os.path.join(values["run"], "model.safetensors"), "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(min(length, LONGEST_HEAD)))
    return json.loads(head["__metadata__"]["mlcli"])["classes"]


OFFERS: dict[str, Callable[[Mapping[str, Any], str], list[str]]] = {
    "model": partial(_models, OFFLINE),
    "architecture": partial(_models, UNTRAINED),
    "layer": _layers,
    "device": _devices,
    "class": _classes,
}
