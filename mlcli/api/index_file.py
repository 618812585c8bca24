"""Where the index of feature vectors of a folder is: in the user's cache, never among the user's images."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlcli.io import input_files
from mlcli.io.user_cache import user_cache

FORMER = ".vectors-*.safetensors"  # an index of an earlier version, in the folder of the images


def default_index(inputs: Sequence[str], images: Sequence[Path], made_with: Mapping[str, Any]) -> Path:
    """The file of the index in the user's cache: one for each set of folders, and for each model, layer and precision.

    inputs: as the user gave them. images: the images in them. made_with: what the vectors depend on; its hash is in the
    name of the file, so a model that was trained again has another index. The names of the folder and of the layer are
    in it too, for those who tidy up their cache. Raises UsageError where the user has no home folder.
    """
    folders = _folders(inputs, images)
    key = hashlib.sha256(json.dumps([folders, made_with], sort_keys=True).encode()).hexdigest()[:20]
    told = [os.path.basename(folders[0]), str(made_with["architecture"]), str(made_with["layer"])]
    words = [re.sub(r"[^\w.-]+", "_", word[:40], flags=re.ASCII) for word in told]
    cache = user_cache("the index; name a file for it with --index")
    return cache / "indexes" / f"{'-'.join(words)}-{key}.safetensors"


def former_indexes(inputs: Sequence[str]) -> list[Path]:
    """The indexes that earlier versions left in the folders given, which only --index uses."""
    return sorted(file for folder in inputs if os.path.isdir(folder) for file in Path(folder).glob(FORMER))


def _folders(inputs: Sequence[str], images: Sequence[Path]) -> list[str]:
    """The folders that were given, sorted, and the one that all other images are below.

    A list of files changes from day to day, and their index stays the same.
    """
    folders = {os.path.abspath(given) for given in inputs if input_files.is_folder(given)}
    within = tuple(os.path.join(folder, "") for folder in folders)
    others = {os.path.dirname(path) for path in map(os.path.abspath, images) if not path.startswith(within)}
    return sorted(folders | ({os.path.commonpath(others)} if others else set()))
