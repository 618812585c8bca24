"""Weights that are downloaded once into torch's folder of checkpoints."""

import http.client
import os
import sys
from pathlib import Path

import torch

from mlcli.errors import WeightsError


def weights_folder() -> Path:
    """Where the downloads of torchvision, and some of timm's, go; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def download(name: str, url: str) -> Path:
    """The file of a model's weights, fetched once (torch.hub draws the progress on stderr).

    The end of its name, behind the last hyphen, is the begin of its SHA-256. Raises WeightsError.
    """
    file = weights_folder() / url.rsplit("/", 1)[-1]
    if os.path.isfile(file):
        return file
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
