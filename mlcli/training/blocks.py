"""Rows computed once, block by block, each block in a file: interrupted work goes on, and processes share it."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mlcli.runtime.processes import Processes
from mlcli.training.run_folder import save_tensors

SIZE = 256


def computed(
    compute: Callable[[Tensor], Tensor],
    count: int,
    folder: Path,
    name: str,
    processes: Processes,
    *,
    report: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """(count, ...) the rows that `compute` gives for the numbers 0 to count - 1, asked for in blocks of `SIZE`.

    FOLDER/NAME-NNNNNNNN.safetensors holds the block that begins with row N. One that is there is not computed again,
    and blocks begin at the same rows however often the work was broken off, so that the same values come out. Processes
    take the blocks in turn. report: called with the number of rows that are done.
    """
    starts = range(0, count, SIZE)
    for number, start in enumerate(starts):
        if number % processes.count == processes.rank:
            file, end = _file(folder, name, start), min(start + SIZE, count)
            if _read(file, end - start) is None:
                save_tensors(file, {"rows": compute(torch.arange(start, end))}, {"kind": "block of rows"})
            report(end)
    processes.wait()
    return torch.cat([_read(_file(folder, name, start), min(SIZE, count - start)) for start in starts])


def _file(folder: Path, name: str, start: int) -> Path:
    return folder / f"{name}-{start:08d}.safetensors"


def _read(file: Path, count: int) -> Tensor | None:
    """The `count` rows of a block; None where it is not there, damaged, or holds something else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        rows = load_file(file)["rows"]
    except (OSError, SafetensorError, KeyError):
        return None
    return rows if rows.ndim and len(rows) == count and rows.isfinite().all() else None
