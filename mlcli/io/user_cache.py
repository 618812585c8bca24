"""The folder of this tool in the user's cache, where all may be deleted at any time."""

import os
from pathlib import Path

from mlcli.errors import UsageError


def user_cache(otherwise: str) -> Path:
    """$XDG_CACHE_HOME/mlcli, or ~/.cache/mlcli.

    otherwise: what the user can do without one, for the UsageError where there is no home folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", "")) / "mlcli"
    if not cache.is_absolute():  # the XDG standard says to ignore a relative path
        cache = Path(os.path.expanduser("~/.cache/mlcli"))
    if not cache.is_absolute():  # a user without a home folder
        raise UsageError(f"there is no home folder for {otherwise}")
    return cache
