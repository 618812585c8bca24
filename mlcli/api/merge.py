"""`mlcli.merge`: the parts that the jobs of an array have written, as the whole."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcli.api import common
from mlcli.api.call import Call, Config, function
from mlcli.api.events import Progress
from mlcli.api.inputs import listed
from mlcli.api.outputs import refuse_existing
from mlcli.api.row_files import COUNTS, ROWS_RECORD, record_of
from mlcli.counting import counted
from mlcli.errors import DataError
from mlcli.io import locks, schema
from mlcli.io.files import atomic_write, write_json
from mlcli.io.row_formats import join_parquet
from mlcli.options import OUTPUT, argument, required
from mlcli.runtime.batch_division import Shard

NAMED = 8  # missing parts that a message names


@dataclass(frozen=True, kw_only=True)
class MergeConfig(Config):
    parts: common.Paths = argument(
        "Files that a command wrote with --shard, in any order.", metavar="PARTS", cli_type=list[str]
    )
    output: Path = required("File to write.", "-o", "--output", path="file", panel=OUTPUT)
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Merged:
    """The file that was written, the number of its images, and how many of these are errors."""

    file: Path
    images: int
    errors: int


@dataclass(frozen=True)
class _Part:
    file: Path
    record: Mapping[str, Any]
    shard: Shard


@function(MergeConfig)
def merge(call: Call[MergeConfig]) -> Merged:
    """Join the parts that a command wrote with `shard` to what it writes without, byte for byte.

        >>> import mlcli
        >>> mlcli.merge(["part-1.jsonl", "part-2.jsonl"], output="labels.jsonl").images  # doctest: +SKIP
        1000

    The record FILE.json is that of the whole too. Raises DataError, naming them, where parts are missing, incomplete,
    changed since, or of different commands, and files that are no parts; UsageError where the output exists.
    """
    config = call.config
    refuse_existing(config.output, config.overwrite)
    call.hold(locks.file_locked(config.output))
    refuse_existing(config.output, config.overwrite)
    parts = sorted(map(_part, listed(config.parts)), key=lambda part: part.shard.number)
    _require_whole(parts)
    images, errors = (sum(part.record[name] for part in parts) for name in ("images", "errors"))
    record = {name: value for name, value in parts[0].record.items() if name not in (*COUNTS, "shard")}
    done = {"complete": True, "images": images}
    with Progress(len(parts), "merge") as bar:

        def files() -> Iterator[Path]:
            for number, part in enumerate(parts, 1):
                yield part.file
                bar.to(number)

        if record["format"] == "parquet":
            join_parquet(files(), config.output, done)
        else:
            _join_text(files(), config.output, headed=record["format"] == "csv")
    size = os.path.getsize(config.output)
    write_json(record_of(config.output), {**record, **done, "errors": errors, "bytes": size})
    return Merged(config.output, images, errors)


def _part(file: str | os.PathLike[str]) -> _Part:
    """A part by its record. Raises DataError where it has none, or is no part."""
    path = Path(file)
    record_file = record_of(path)
    try:
        record = schema.read_json(record_file, ROWS_RECORD)
    except (OSError, schema.Invalid) as error:
        told = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: its record {record_file.name}, which tells the part, cannot be read ({told}); keep both together"
        ) from None
    if "shard" not in record:
        raise DataError(f"{path}: is no part, but a whole result; give files that were written with --shard")
    return _Part(path, record, Shard.parse(record["shard"]))


def _require_whole(parts: Sequence[_Part]) -> None:
    """Raise DataError where the parts, by number, are not all of one whole, each complete and unchanged."""
    first = parts[0]
    for part in parts[1:]:
        if difference := _difference(first.record, part.record):
            raise DataError(f"{part.file}: is of another whole than {first.file}: {difference}")
    count = first.shard.count
    files: dict[int, Path] = {}
    for part in parts:
        if part.shard.number in files:
            raise DataError(f"{part.file}: is part {part.shard}, and so is {files[part.shard.number]}; leave one out")
        files[part.shard.number] = part.file
    if missing := [f"{number}/{count}" for number in range(1, count + 1) if number not in files]:
        names = ", ".join(missing[:NAMED]) + (", …" if len(missing) > NAMED else "")
        raise DataError(
            f"{counted(len(missing), 'part')} of {count} missing: {names}; run the command with --shard for each, or "
            "name its file"
        )
    problems = [problem for part in parts if (problem := _unfit(part))]
    if problems:
        more = f"; and {counted(len(problems) - 1, 'other part')}" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what the records of two parts differ that those of a whole do not."""
    for name in ("command", "format", "model_hash", "inputs"):
        if one.get(name) != other.get(name):
            told = {"inputs": "the list of images", "model_hash": "the model"}.get(name, f"the {name}")
            return f"{told} is another"
    if Shard.parse(one["shard"]).count != Shard.parse(other["shard"]).count:
        return f"one is part {one['shard']}, the other {other['shard']}"
    options = [each["options"] for each in (one, other)]
    for name in {**options[0], **options[1]}:
        if name != "images" and options[0].get(name) != options[1].get(name):
            return f"{name} is {options[0].get(name)} there, {options[1].get(name)} here"
    return ""


def _unfit(part: _Part) -> str:
    """Why a part cannot be merged; empty where it can."""
    if not part.record["complete"]:
        return (
            f"{part.file}: part {part.shard} is incomplete, with {counted(part.record['images'], 'image')}; run its "
            "command again with --resume"
        )
    if not os.path.isfile(part.file) or os.path.getsize(part.file) != part.record.get("bytes"):
        return f"{part.file}: part {part.shard} has been changed since it was complete; make it again with --overwrite"
    return ""


def _join_text(parts: Iterable[Path], output: Path, *, headed: bool) -> None:
    """Write files one after the other; headed: whether each begins with a header, of which the first is kept."""
    with atomic_write(output) as temporary, open(temporary, "wb") as sink:
        for number, part in enumerate(parts):
            try:
                source = open(part, "rb")
            except OSError as error:
                raise DataError(f"{part}: cannot be read: {error.strerror or error}") from None
            with source:
                if headed and number:
                    source.readline()
                shutil.copyfileobj(source, sink, 1 << 20)
