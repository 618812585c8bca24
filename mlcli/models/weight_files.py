"""Files of weights: where torchvision's are, fetching them, reading any, and loading them into a network."""

import http.client
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mlcli.errors import WeightsError
from mlcli.io import checkpoints, schema
from mlcli.io.schema import Invalid
from mlcli.models.fitting import Misfit, some


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
    if os.path.isfile(file):
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
    """The tensors of a file, and the description in it (empty where there is none).

    A safetensors file, or one that torch.save wrote, whatever its ending; of a checkpoint the tensors of its network
    (mlcli.io.checkpoints says which). No code in a file is run. Raises WeightsError.
    """
    file = Path(file)
    try:
        if file.suffix == ".safetensors" or _begins_as_safetensors(file):
            from safetensors import safe_open

            with safe_open(file, "pt") as opened:
                description = schema.loads((opened.metadata() or {}).get("mlcli", "{}"), schema.mapping())
                return {key: opened.get_tensor(key) for key in opened.keys()}, dict(description)
        return checkpoints.read(file), {}
    except WeightsError:
        raise
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such file of weights") from None
    except Exception as error:  # each format has its own kinds of damage
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file}: cannot be read as weights ({reason}); .safetensors and .pth are") from None


def _begins_as_safetensors(file: Path) -> bool:
    """Whether a length and the brace of a JSON header come first, as in no file of torch.save."""
    with file.open("rb") as opened:
        return opened.read(9)[8:] == b"{"


def model_file(run: str | Path, made_by: str, names: Sequence[str] = ("model.safetensors",)) -> Path:
    """The file of weights of a run folder, the first of `names` that it has; a file as it is.

    made_by: the commands that train such a run. Raises WeightsError where there is no such run, or no model in it yet.
    """
    if os.path.isdir(run):
        file = next((Path(run) / name for name in names if os.path.isfile(os.path.join(run, name))), None)
        if file is not None:
            return file
        if os.path.isfile(os.path.join(run, "config.json")):
            raise WeightsError(f"{run}: this run has no model yet; let its training end (--resume)")
        problem = "no run in this folder"
    elif os.path.isfile(run):
        return Path(run)
    elif Path(run).name in names and os.path.isfile(Path(run).with_name("config.json")):
        raise WeightsError(f"{run}: this run has no model yet; let its training end (--resume)")
    else:
        problem = "no such run"
    raise WeightsError(f"{run}: {problem}; name the folder of a run of mlcli {made_by}, or its {names[-1]}")


def damaged(file: str | Path, problem: object) -> WeightsError:
    """The error of a file whose description cannot be used."""
    told = repr(problem) if isinstance(problem, Exception) and not isinstance(problem, Invalid) else problem
    return WeightsError(f"{file}: its description is damaged or of another version ({told})")


def built(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], file: str | Path) -> nn.Module:
    """The network that a file describes, with the tensors of the file. build: makes it, with weights of any kind.

    It is made of shapes alone first: a description that asks for more than the file holds takes no memory and no time.
    Raises WeightsError where that does not fit, and what `build` raises.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without a value, as the last one of no classes is
            shapes = build().state_dict()
    except (NotImplementedError, RuntimeError):  # some of torchvision's compute with values as they are built
        shapes = None
    if shapes is not None and (misfit := Misfit.between(tensors, shapes)):
        raise WeightsError(f"{file}: does not fit the network: {misfit}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = build()
    fill(network, tensors, file)
    return network


def fill(network: nn.Module, tensors: Mapping[str, Tensor], file: str | Path) -> None:
    """Load tensors into a network, in its own precision. Raises WeightsError where they do not fit."""
    own = network.state_dict()
    misfit = Misfit.between(tensors, own)
    if misfit:
        raise WeightsError(f"{file}: does not fit the network: {misfit}")
    quantized = [key for key, tensor in tensors.items() if tensor.is_quantized]
    if quantized:
        raise WeightsError(f"{file}: {some(quantized)} are quantized; save the weights from before that")
    network.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=False)
