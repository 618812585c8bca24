"""Rows of a tensor computed once, in blocks that are files: interrupted work resumes, and processes divide it."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mlcli.errors import RunError
from mlcli.runtime.processes import Processes
from mlcli.training.run_folder import save_tensors

SIZE = 256  # rows of a block


def computed(
    compute: Callable[[Tensor], Tensor],
    count: int,
    folder: Path,
    name: str,
    processes: Processes,
    *,
    report: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """(count, ...): the rows that `compute` gives for the indices 0 to count - 1, in blocks of `SIZE` indices.

    FOLDER/NAME-NNNNNNNN.safetensors holds the block that begins with row N. A block whose file exists is not computed
    again. Blocks begin at the same rows however often the work was interrupted, so the values are the same. Processes
    take the blocks in turn. report: called with the number of finished rows.
    """
    starts = range(0, count, SIZE)
    for number, start in enumerate(starts):
        if number % processes.count == processes.rank:
            file, end = _file(folder, name, start), min(start + SIZE, count)
            if _read(file, end - start) is None:
                save_tensors(file, {"rows": compute(torch.arange(start, end))}, {"kind": "block of rows"})
            report(end)
    processes.wait()
    blocks = []
    for start in starts:
        file = _file(folder, name, start)
        if (rows := _read(file, min(SIZE, count - start))) is None:
            raise RunError(f"{file}: cannot be read again; start the same command once more")
        blocks.append(rows)
    return torch.cat(blocks)


def _file(folder: Path, name: str, start: int) -> Path:
    return folder / f"{name}-{start:08d}.safetensors"


def _read(file: Path, count: int) -> Tensor | None:
    """The `count` rows of a block; None where the file is missing or damaged, or holds something else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        rows = load_file(file)["rows"]
    except (OSError, SafetensorError, KeyError):
        return None
    return rows if rows.ndim and len(rows) == count and rows.isfinite().all() else None
