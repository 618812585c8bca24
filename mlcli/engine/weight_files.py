"""Files of weights: where torchvision's are, fetching them, reading any, and loading them into a network."""

import http.client
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mlcli.errors import WeightsError


def weights_folder() -> Path:
    """Where torchvision's downloads go; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def weights_path(name: str) -> Path:
    """The file in which torchvision's download puts the weights of this model."""
    import torchvision

    return weights_folder() / torchvision.models.get_model_weights(name).DEFAULT.url.rsplit("/", 1)[-1]


def download(name: str) -> Path:
    """The file of a torchvision model's weights, fetched once (torch.hub draws the progress on stderr)."""
    import torchvision

    file = weights_path(name)
    if file.is_file():
        return file
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rsplit("-", 1)[-1]
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest, progress=sys.stderr.isatty())
    # URLError and timeouts are OSErrors, a wrong digest is a RuntimeError
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{name}: its weights are not on this disk and could not be downloaded ({error}). "
            f"Put {url} at {file}, or give a file with --weights"
        ) from None
    return file


def read_tensors(file: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a .safetensors or .pth file, and the description in it (empty where there is none).

    .pth files are read with weights_only: no code in them is run. Raises WeightsError.
    """
    file = Path(file)
    try:
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, "pt") as opened:
                description = dict(json.loads((opened.metadata() or {}).get("mlcli", "{}")))
                return {key: opened.get_tensor(key) for key in opened.keys()}, description
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such file of weights") from None
    except pickle.UnpicklingError:
        raise WeightsError(f"{file}: not a plain file of weights, or one with code in it, which is never run") from None
    except Exception as error:  # each format has its own kinds of damage
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file}: cannot be read as weights ({reason}); .safetensors and .pth are") from None
    if isinstance(tensors, Mapping) and isinstance(tensors.get("state_dict"), Mapping):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise WeightsError(f"{file}: holds no plain mapping of names to tensors; save the network's state_dict()")
    return dict(tensors), {}


def fill(network: nn.Module, tensors: Mapping[str, Tensor], file: str | Path) -> None:
    """Load the tensors of a file into a network. Raises WeightsError where they do not fit."""
    own = network.state_dict()
    wrong = [key for key in own if key in tensors and own[key].shape != tensors[key].shape]
    # torchvision's own files of older models lack the batch counters
    missing = [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]
    unknown = [key for key in tensors if key not in own]
    for problem, keys in (("lacks", missing), ("has the unknown", unknown), ("has another shape for", wrong)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise WeightsError(f"{file}: {problem} {', '.join(keys[:3])}{more}; it was made for another architecture")
    network.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=False)


def fitted(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], file: str | Path) -> dict[str, Tensor]:
    """The tensors under the names that a network has for its own."""
    return dict(tensors)


def classes_of(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], classes: int) -> int | None:
    """How many classes the head of the tensors has where that is another number than the network's; else None."""
    return None
