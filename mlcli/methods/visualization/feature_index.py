"""An index: the feature vectors of images in one file, kept in step with the images.

A safetensors file: `vectors` (N, D) float32, `marks` (N, 2) int64, the size and time of change (ns) of each image,
`names`, their paths as bytes with a NUL between them, and in the metadata what the vectors were made with. A path below
the file's own folder is relative to it, so that a folder can be moved with its index; any other is absolute.
"""

import hashlib
import json
import os
import re
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from mlcli.errors import ImageError, MlcliError, UsageError
from mlcli.io import reading, schema
from mlcli.io.files import atomic_write, check_writable, sweep
from mlcli.io.locks import file_locked
from mlcli.models.graph import Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime

KIND = "index of feature vectors"
BLOCK = 16_384  # vectors read at a time
PENDING_BYTES = 256 << 20  # new vectors held in memory before they are saved
DESCRIPTION = schema.record({"made_with": schema.OBJECT})
UNKNOWN = (-1, -1)  # the mark of what is not there, or is no regular file

Vectors = Callable[[Sequence[Path]], Iterator[tuple[Path, Tensor | ImageError]]]


class Index:
    """The vectors of one file. What the file holds of other models, layers or arithmetic counts as nothing."""

    def __init__(self, file: str | Path, made_with: Mapping, source: str | Path | None = None):
        """Open `file`, or begin it where it is not there yet; with `source`, begin with what that index holds.

        made_with: JSON values on which the vectors depend besides the images.  Raises UsageError where a file is
        there that is no index, so that none is ever overwritten.
        """
        self.file = Path(file)
        self.made_with = json.loads(json.dumps(dict(made_with)))
        self.outdated = False  # whether a file was there, made with something else
        self.paths: list[str] = []  # (N,) absolute
        self.marks: list[tuple[int, int]] = []  # (N,) size in bytes, time of change in ns
        self._slice = None  # of `vectors` in the file, read in pieces
        self._load(self.file if source is None else Path(source))

    def __len__(self) -> int:
        return len(self.paths)

    def update(
        self,
        paths: Sequence[Path],
        compute: Vectors,
        *,
        anew: bool = False,
        save_seconds: float = 60.0,
    ) -> tuple[int, int]:
        """Bring the index in step with these images: compute what is new or changed, drop what is gone.

        compute: the vectors of images, one after the other.  anew: compute them all again.
        Returns how many vectors were computed and how many images are gone. An image that cannot be read has no
        vector, and is tried again each time. What is known of other images stays as long as those are unchanged.
        Saves now and then, and what there is on any exception, so that an update that was cut short goes on. The file
        is locked meanwhile: raises BusyError where another process brings it in step.
        """
        absolute = {os.path.abspath(path): path for path in paths}
        marks, keep = self._compare(absolute, anew)
        if len(keep) == len(self) and {self.paths[row] for row in keep} >= absolute.keys():
            sweep(self.file.parent)
            return 0, 0
        try:
            check_writable(self.file)
        except MlcliError as error:
            raise MlcliError(f"{error}, or name another file for the index with --index") from None
        with file_locked(self.file):
            self._load(self.file)  # another process may have brought it in step meanwhile
            return self._update(absolute, compute, anew, save_seconds)

    def _compare(self, absolute: Mapping[str, Path], anew: bool) -> tuple[dict[str, tuple[int, int]], list[int]]:
        """(the marks of all images as they are now, the rows that are as their images are)."""
        marks = {path: _mark(path) for path in {*absolute, *self.paths}}
        keep = [
            row
            for row, (path, mark) in enumerate(zip(self.paths, self.marks, strict=True))
            if mark == marks[path] != UNKNOWN and not (anew and path in absolute)
        ]
        return marks, keep

    def _update(
        self, absolute: Mapping[str, Path], compute: Vectors, anew: bool, save_seconds: float
    ) -> tuple[int, int]:
        marks, keep = self._compare(absolute, anew)
        gone = sum(marks[path] == UNKNOWN for path in self.paths)
        known = {self.paths[row] for row in keep}
        missing = [given for path, given in absolute.items() if path not in known]
        pending: dict[str, Tensor] = {}
        computed, saved = 0, time.monotonic()

        def save() -> None:
            nonlocal keep, saved
            if pending or len(keep) < len(self):
                self._write(keep, pending, [marks[path] for path in pending])
                keep = list(range(len(self)))
                pending.clear()
            saved = time.monotonic()

        try:
            for path, vector in compute(missing) if missing else ():
                if isinstance(vector, ImageError):
                    continue
                pending[os.path.abspath(path)] = vector
                computed += 1
                full = len(pending) * vector.nbytes > PENDING_BYTES
                if full or time.monotonic() - saved > save_seconds:
                    save()
        finally:
            save()
        return computed, gone

    def require_width(self, width: int) -> None:
        """Raise UsageError where the file holds vectors of another length than those that are computed now."""
        if len(self) and self._slice.get_shape()[1] != width:
            found = self._slice.get_shape()[1]
            raise UsageError(
                f"{self.file}: cannot be read as an index (its vectors have {found} values, {width} are computed); "
                "remove it or name another file"
            )

    def places(self, paths: Sequence[Path]) -> Tensor:
        """(N,) int64: the place in `paths` of the image of each vector, -1 where it is not among them."""
        place = {os.path.abspath(path): number for number, path in enumerate(paths)}
        return torch.tensor([place.get(path, -1) for path in self.paths], dtype=torch.int64)

    def blocks(self, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The vectors of the images that have a place in blocks: places (C,) int64, vectors (C, D)."""
        for start in range(0, len(self), BLOCK):
            here = places[start : start + BLOCK]
            if (here >= 0).any():
                vectors = self._slice[start : start + BLOCK]
                yield (here, vectors) if (here >= 0).all() else (here[here >= 0], vectors[here >= 0])

    # -- the file --------------------------------------------------------------------------------------------

    def _load(self, file: Path) -> None:
        from safetensors import SafetensorError, safe_open

        if not os.path.exists(file):
            return
        try:
            if not os.path.isfile(file):
                raise ValueError("it is no regular file")
            opened = safe_open(file, "pt")
            description = schema.loads((opened.metadata() or {}).get("mlcli", "{}"), schema.OBJECT)
            if description.get("kind") != KIND:
                raise UsageError(f"{file}: exists, and is no index; name another file with --index")
            if DESCRIPTION(description)["made_with"] != self.made_with:
                self.outdated = True
                return
            names, marks, vectors = (opened.get_slice(name) for name in ("names", "marks", "vectors"))
            _check_kind("names", names, "U8", (None,))
            _check_kind("marks", marks, "I64", (None, 2))
            _check_kind("vectors", vectors, "F32", (marks.get_shape()[0], None))
            paths = opened.get_tensor("names").numpy().tobytes().split(b"\0")[:-1]
            if len(paths) != marks.get_shape()[0]:
                raise ValueError("its parts differ in length")
            folder = os.path.dirname(os.path.abspath(file))
            self.paths = [os.path.join(folder, os.fsdecode(path)) for path in paths]
            self.marks = [tuple(mark) for mark in opened.get_tensor("marks").tolist()]
            self._slice = vectors
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise UsageError(f"{file}: cannot be read as an index ({error}); remove it or name another file") from None

    def _write(self, keep: list[int], new: Mapping[str, Tensor], new_marks: list[tuple[int, int]]) -> None:
        """Write the rows `keep` of what there is and the new ones, and go on with the file."""
        marks = torch.tensor([self.marks[row] for row in keep] + new_marks, dtype=torch.int64).view(-1, 2)
        names = b"".join(self._name(path) + b"\0" for path in [*(self.paths[row] for row in keep), *new])
        width = len(next(iter(new.values()))) if new else self._slice.get_shape()[1]

        def parts() -> Iterator[Tensor]:
            rows = torch.tensor(keep, dtype=torch.int64)
            for start in range(0, len(self), BLOCK):  # block by block, since all may be more than the memory holds
                inside = rows[(rows >= start) & (rows < start + BLOCK)] - start
                if len(inside):
                    yield self._slice[start : start + BLOCK][inside]
            if new:
                yield torch.stack(list(new.values())).float()

        tensors = {
            "marks": ("I64", marks.shape, iter([marks])),
            "vectors": ("F32", (len(marks), width), parts()),
            "names": ("U8", (len(names),), iter([torch.frombuffer(bytearray(names), dtype=torch.uint8)])),
        }
        with atomic_write(self.file) as temporary:
            _write_safetensors(temporary, tensors, {"kind": KIND, "made_with": self.made_with})
        self._load(self.file)

    def _name(self, path: str) -> bytes:
        folder = os.path.join(os.path.dirname(os.path.abspath(self.file)), "")
        return os.fsencode(path.removeprefix(folder))


def _check_kind(name: str, part, kind: str, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError where a tensor of the file is of another type or shape; None is any length."""
    found = part.get_shape()
    fits = len(found) == len(shape) and all(want in (None, length) for want, length in zip(shape, found, strict=True))
    if part.get_dtype() != kind or not fits:
        raise ValueError(f"its {name} are {part.get_dtype()} of {found}")


def _write_safetensors(file: Path, tensors: Mapping[str, tuple], description: Mapping) -> None:
    """A safetensors file from tensors that come in parts: name: (dtype, shape, parts).

    The library writes whole tensors alone. The format is the length of a header as 64 bits, the header as JSON, and
    the values one after the other, those of 8 bytes first, so that each is aligned.
    """
    header: dict = {"__metadata__": {"mlcli": json.dumps(description, sort_keys=True)}}
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
    """(size in bytes, time of change in ns)."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return UNKNOWN
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else UNKNOWN


# -- where an index is, and what it depends on ---------------------------------------------------------------


def made_with(model: Model, layer: Layer, runtime: Runtime) -> dict:
    """All that the vector of an image depends on besides the image."""
    return {
        "architecture": model.architecture,
        "model_hash": model.hash,
        "preprocessing": asdict(model.preprocessing),
        "layer": layer.address,
        "precision": runtime.precision,
        **reading.current().settings(),
    }


def place(
    inputs: Sequence[str | Path],
    paths: Sequence[Path],
    model: Model,
    layer: Layer,
    runtime: Runtime,
    weights: str | Path | None = None,
) -> tuple[Path, Path | None]:
    """(the file for an index, the file to begin with) where the user names none.

    inputs: what was given; paths: the images in it.  weights: the file that took the place of the model's own.
    Of one folder it lies in the folder. Of a folder that may not be written to, and of several inputs, it lies in the
    user's cache, and begins with one that lies in the folder.
    """
    name = f".vectors-{_slug(model, layer, runtime, weights)}.safetensors"
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    beside = None
    if len(inputs) == 1 and os.path.isdir(inputs[0]):
        folder = os.path.abspath(inputs[0])
        beside = Path(inputs[0]) / name
        with suppress(MlcliError):
            check_writable(beside)
            return beside, None
    cache = Path(os.environ.get("XDG_CACHE_HOME", "")) / "mlcli"
    if not cache.is_absolute():  # which the standard says to ignore
        cache = Path(os.path.expanduser("~/.cache/mlcli"))
    if not cache.is_absolute():  # a user without a home
        raise UsageError("no home folder to keep the index in; name a file for it with --index")
    file = cache / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}{name}"
    return file, beside if beside is not None and os.path.exists(beside) and not os.path.exists(file) else None


def _slug(model: Model, layer: Layer, runtime: Runtime, weights: str | Path | None) -> str:
    """What tells the indexes of a folder apart: model, layer, an arithmetic other than fp32, files of weights by path.

    A run that was trained anew keeps the name of its index, whose vectors `made_with` then calls outdated.
    """
    run = os.path.isfile(os.path.join(model.name, "model.safetensors"))
    parts = [os.path.basename(os.path.abspath(model.name)) if run else model.name, layer.address]
    parts = [part[:80] for part in parts]
    if runtime.precision != "fp32":
        parts.append(runtime.precision)
    files = [os.path.abspath(file) for file in (model.name if run else None, weights) if file]
    if files:
        parts.append(hashlib.sha256(os.fsencode("\n".join(files))).hexdigest()[:8])
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))
