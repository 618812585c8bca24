"""The errors a user can cause. Each message says what is wrong, where, and what to do."""

import difflib
import os
from collections.abc import Sequence


class MlcliError(Exception):
    """Something the user can mend; printed as a message, never as a traceback. Exit status 1."""

    exit_status = 1


class UsageError(MlcliError):
    """The command line asks for something that cannot be (an unknown model, layer, class). Exit status 2."""

    exit_status = 2


class ImageError(MlcliError):
    """A file that is no image, or a damaged one. The others of a batch are processed."""


class DataError(MlcliError):
    """A data set that cannot serve: empty, one class only, sizes that do not fit."""


class WeightsError(MlcliError):
    """Weights that are absent, unreadable, or made for another architecture."""


class RunError(MlcliError):
    """A run folder that is absent, incomplete, or belongs to another configuration."""


class BusyError(MlcliError):
    """Another process works on what this one was to change."""


class TrainingError(MlcliError):
    """Training that cannot continue, as after a loss that is no longer a number."""


class Interrupted(MlcliError):
    """SIGINT, SIGTERM or SIGHUP arrived; everything there was is saved. Exit status 128 + signal number."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number


def reason(error: BaseException) -> str:
    """The first line of what an exception says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """'; did you mean …?' with the known names closest to this one, as the end of a message; empty where none is."""
    lower = {other.lower(): other for other in known}
    words = [lower[other] for other in lower if name.lower() in other.split()][:3]  # for cat, Egyptian cat
    close = words or [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of Python or of torch on any device, says that the memory does not suffice."""
    told = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(t in str(error) for t in told))


def lost_peer(error: BaseException) -> bool:
    """Whether an exception of torch says that another process of the group (torchrun) does not answer any more."""
    if not isinstance(error, RuntimeError) or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return False
    kinds = ("DistBackendError", "DistNetworkError", "DistStoreError")  # by name, so that torch need not be imported
    return type(error).__name__ in kinds or any(library in str(error) for library in ("gloo", "NCCL"))
