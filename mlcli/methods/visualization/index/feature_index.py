"""An index: the feature vectors of images in one file, kept up to date with the images.

The file is in the safetensors format. `vectors` (N, D) is float32. `marks` (N, 2) int64 holds the size in bytes and the
modification time in ns of each image, or what `input_files.mark` gives for a member of an archive. `names` holds their
paths as bytes, each followed by NUL. The metadata says with what the vectors were made. A path below the folder of the
index is relative to it, so a folder can be moved together with its index; any other path is absolute. What is
computed is collected in a journal beside it (`vector_journal`).
"""

import json
import os
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.data.compact_paths import PathList
from mlcli.errors import ImageError, MlcliError, UsageError
from mlcli.imaging import reading
from mlcli.io import input_files, schema
from mlcli.io.files import atomic_write, check_writable, sweep
from mlcli.io.locks import file_locked
from mlcli.methods.visualization.index.vector_journal import Block, VectorJournal
from mlcli.models.model import Model
from mlcli.models.structure.graph import Layer
from mlcli.runtime.device import Runtime

KIND = "index of feature vectors"
BLOCK = 16_384  # vectors read at a time
PENDING_BYTES = 16 << 20  # new vectors held in memory before they are saved
DESCRIPTION = schema.record({"made_with": schema.OBJECT})
UNKNOWN = (-1, -1)  # the mark of a path that does not exist or is not a regular file

Vectors = Callable[[Sequence[Path]], Iterator[tuple[Path, Tensor | ImageError]]]  # paths -> (path, vector)


class Index:
    """The feature vectors in one file. Vectors of another model, layer or precision are ignored."""

    def __init__(self, file: str | Path, made_with: Mapping[str, Any]):
        """Open `file`, or begin a new index if it does not exist.

        made_with: JSON values on which the vectors depend besides the images. Raises UsageError for an existing file
        that is not an index, so that no other file is ever overwritten.
        """
        self.file = Path(file)
        self.made_with = json.loads(json.dumps(dict(made_with)))
        self.outdated = False  # whether the file existed but was made with something else
        self.paths: list[str] = []  # (N,) absolute
        self.marks = torch.empty((0, 2), dtype=torch.int64)  # (N, 2) size in bytes, modification time in ns
        self._slice: Any = None  # lazy slice of `vectors` in the file, read in blocks
        self._load(self.file)

    def __len__(self) -> int:
        return len(self.paths)

    def update(
        self,
        paths: Sequence[Path],
        compute: Vectors,
        *,
        recompute: bool = False,
        save_seconds: float = 60.0,
    ) -> tuple[int, int]:
        """Update the index: compute the vectors of new and changed images, and drop those of deleted images.

        compute: yields the vectors of images in order. recompute: compute the vectors of all these images again.
        save_seconds: time between saves. Returns the number of vectors that were computed and of images that were
        deleted. An unreadable image has no vector and is tried again in each update. The vectors of other, unchanged
        images are kept. What is computed is saved regularly in a journal, and joined to the index in the end and on any
        exception, so an interrupted update can resume. The file is locked meanwhile; raises BusyError if another
        process is updating it.
        """
        asked = {os.path.abspath(path) for path in paths}
        journal = VectorJournal(self.file, self.made_with)
        if not journal.is_there():
            keep, _ = self._kept(asked if recompute else frozenset())
            if len(keep) == len(self) and asked.issubset(self.paths):
                sweep(self.file.parent)
                return 0, 0
        try:
            check_writable(self.file)
        except MlcliError as error:
            raise MlcliError(f"{error}, or name another file for the index with --index") from None
        with file_locked(self.file):
            self._load(self.file)  # another process may have updated it meanwhile
            self._join(range(len(self)), journal)  # what a killed process has computed
            return self._update(paths, asked if recompute else frozenset(), compute, journal, save_seconds)

    def _kept(self, again: Set[str]) -> "tuple[array[int], int]":
        """(the rows whose vectors are up to date, how many images are gone). again: images to compute again."""
        keep, gone, marks = array("q"), 0, self.marks.numpy()
        for row, path in enumerate(self.paths):
            mark = _mark(path)
            gone += mark == UNKNOWN
            if mark == tuple(marks[row].tolist()) != UNKNOWN and path not in again:
                keep.append(row)
        return keep, gone

    def _update(
        self, paths: Sequence[Path], again: Set[str], compute: Vectors, journal: VectorJournal, save_seconds: float
    ) -> tuple[int, int]:
        keep, gone = self._kept(again)
        known = {self.paths[row] for row in keep}
        missing, marks = PathList(), array("q")
        for path in paths:
            if (absolute := os.path.abspath(path)) not in known:
                known.add(absolute)
                missing.append(path)
                marks.extend(_mark(absolute))  # before it is read: a later change is seen
        del known
        pending: list[tuple[int, Tensor]] = []
        computed, saved = 0, time.monotonic()

        def save() -> None:
            nonlocal saved
            if pending:
                rows = [number for number, _ in pending]
                names = [self._name(os.path.abspath(missing[row])) for row in rows]
                vectors = torch.stack([vector for _, vector in pending]).float()
                journal.append(Block(names, torch.tensor([marks[2 * r : 2 * r + 2].tolist() for r in rows]), vectors))
                pending.clear()
            saved = time.monotonic()

        try:
            for number, (_, vector) in enumerate(compute(missing) if missing else ()):
                if isinstance(vector, ImageError):
                    continue
                pending.append((number, vector))
                computed += 1
                if len(pending) * vector.nbytes > PENDING_BYTES or time.monotonic() - saved > save_seconds:
                    save()
        finally:
            save()
            self._join(keep, journal)
        return computed, gone

    def _join(self, keep: Sequence[int], journal: VectorJournal) -> None:
        """Write the kept rows and those of the journal as the index, where that changes it, and remove the journal."""
        if journal.is_there():
            new = {os.path.join(self._folder, os.fsdecode(name)) for block in journal.blocks() for name in block.names}
            keep = array("q", (row for row in keep if self.paths[row] not in new))
        if len(keep) < len(self) or next(journal.blocks(), None) is not None:
            self._write(keep, journal)
        if journal.is_there():
            journal.remove()

    def require_width(self, width: int) -> None:
        """Raise UsageError where the vectors in the file have another length than `width`."""
        if len(self) and self._slice.get_shape()[1] != width:
            found = self._slice.get_shape()[1]
            raise UsageError(
                f"{self.file}: cannot be read as an index (its vectors have {counted(found, 'value')}, {width} are "
                "computed); remove it or name another file"
            )

    def positions(self, paths: Sequence[Path]) -> Tensor:
        """The position in `paths` of the image of each vector, (N,) int64; -1 where it is not among them."""
        position = {os.path.abspath(path): number for number, path in enumerate(paths)}
        return torch.tensor([position.get(path, -1) for path in self.paths], dtype=torch.int64)

    def blocks(self, positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of (positions (C,) int64, vectors (C, D)), without the vectors whose position is -1.

        positions: (N,), as `positions` returns them.
        """
        for start in range(0, len(self), BLOCK):
            block = positions[start : start + BLOCK]
            if (block >= 0).any():
                vectors = self._slice[start : start + BLOCK]
                yield (block, vectors) if (block >= 0).all() else (block[block >= 0], vectors[block >= 0])

    # -- the file --------------------------------------------------------------------------------------------

    def _load(self, file: Path) -> None:
        from safetensors import SafetensorError, safe_open

        if not os.path.exists(file):
            return
        try:
            if not os.path.isfile(file):
                raise ValueError("it is not a regular file")
            opened = safe_open(file, "pt")
            description = schema.loads((opened.metadata() or {}).get("mlcli", "{}"), schema.OBJECT)
            if description.get("kind") != KIND:
                raise UsageError(f"{file}: exists and is not an index; name another file with --index")
            if DESCRIPTION(description)["made_with"] != self.made_with:
                self.outdated = True
                return
            names, marks, vectors = (opened.get_slice(name) for name in ("names", "marks", "vectors"))
            _check_tensor("names", names, "U8", (None,))
            _check_tensor("marks", marks, "I64", (None, 2))
            _check_tensor("vectors", vectors, "F32", (marks.get_shape()[0], None))
            paths = opened.get_tensor("names").numpy().tobytes().split(b"\0")[:-1]
            if len(paths) != marks.get_shape()[0]:
                raise ValueError("its parts differ in length")
            self.paths = [os.path.join(self._folder, os.fsdecode(path)) for path in paths]
            self.marks = opened.get_tensor("marks")
            self._slice = vectors
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise UsageError(f"{file}: cannot be read as an index ({error}); remove it or name another file") from None

    def _write(self, keep: Sequence[int], journal: VectorJournal) -> None:
        """Write the kept rows of the index and those of the journal to the file, and load it again."""
        rows = torch.tensor(keep, dtype=torch.int64)
        kept, names = [self.marks[rows]], bytearray()
        for row in keep:
            names += self._name(self.paths[row]) + b"\0"
        width = 0 if self._slice is None else self._slice.get_shape()[1]
        for block in journal.blocks():
            kept.append(block.marks)
            names += b"".join(name + b"\0" for name in block.names)
            width = block.vectors.shape[1]
        marks = torch.cat(kept)

        def parts() -> Iterator[Tensor]:
            for start in range(0, len(self), BLOCK):  # block by block, since all of them may not fit into memory
                inside = rows[(rows >= start) & (rows < start + BLOCK)] - start
                if len(inside):
                    yield self._slice[start : start + BLOCK][inside]
            for block in journal.blocks():
                yield block.vectors

        tensors = {
            "marks": ("I64", marks.shape, iter([marks])),
            "vectors": ("F32", (len(marks), width), parts()),
            "names": ("U8", (len(names),), iter([torch.frombuffer(names, dtype=torch.uint8)])),
        }
        with atomic_write(self.file) as temporary:
            _write_safetensors(temporary, tensors, {"kind": KIND, "made_with": self.made_with})
        self._load(self.file)

    def _name(self, path: str) -> bytes:
        return os.fsencode(path.removeprefix(os.path.join(self._folder, "")))

    @property
    def _folder(self) -> str:
        """The folder of the file, to which names are relative."""
        return os.path.dirname(os.path.abspath(self.file))


def _check_tensor(name: str, part: Any, dtype: str, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError where a tensor of the file has another type or shape; None stands for any length."""
    found = part.get_shape()
    fits = len(found) == len(shape) and all(want in (None, length) for want, length in zip(shape, found, strict=True))
    if part.get_dtype() != dtype or not fits:
        raise ValueError(f"its {name} are {part.get_dtype()} of {found}")


def _write_safetensors(file: Path, tensors: Mapping[str, tuple[Any, ...]], description: Mapping[str, Any]) -> None:
    """Write a safetensors file of tensors that come in parts. tensors: (dtype, shape, parts) by name.

    The safetensors library can write whole tensors only. The format is the length of the header in 64 bits, the header
    as JSON, and the values of the tensors in order; those of 8 bytes come first, so that all are aligned.
    """
    header: dict[str, Any] = {"__metadata__": {"mlcli": json.dumps(description, sort_keys=True)}}
    end = 0
    for name, (dtype, shape, _) in tensors.items():
        start, end = end, end + {"I64": 8, "F32": 4, "U8": 1}[dtype] * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(file, "wb") as stream:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, _, parts in tensors.values():
            for part in parts:
                stream.write(part.contiguous().numpy().data)


def _mark(path: str) -> tuple[int, int]:
    """(size in bytes, modification time in ns) of a file; UNKNOWN where there is no regular file, nor a member."""
    return input_files.mark(path) or UNKNOWN


def made_with(model: Model, layer: Layer, runtime: Runtime) -> dict[str, Any]:
    """Everything that the feature vector of an image depends on besides the image."""
    return {
        "architecture": model.architecture,
        "model_hash": model.hash,
        "preprocessing": asdict(model.preprocessing),
        "layer": layer.address,
        "precision": runtime.precision,
        **reading.current().settings(),
    }
