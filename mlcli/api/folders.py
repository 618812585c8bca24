"""Work over folders of images, file by file: what is out of date is made, and the rest is left alone."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api.call import Call
from mlcli.api.events import Progress, Task, complain, say
from mlcli.api.inputs import modified, results
from mlcli.api.outputs import claim_results, read_record, record, refuse_existing
from mlcli.io import locks
from mlcli.io.output_paths import names_image

if TYPE_CHECKING:
    from torch import Tensor


def each_outdated(
    call: Call,
    command: str,
    done: str,
    given: Sequence[str],
    output: Path,
    options: dict,
    *,
    weights: Path,
    name: Callable[[Path], Path],
    read: Callable[[Path], "Tensor"],
    make: Callable[["Tensor"], "Sequence | Tensor"],
    save: Callable[[Any, "Tensor", Path, Path], None],
    endings: Sequence[str],
    batch_size: int,
    workers: int | None,
    overwrite: bool,
) -> tuple[dict[Path, Path], int]:
    """Make of each image a result in the folder `output`; ({current result: its image}, how many failed).

    A result of the same `weights` that is newer than its image is left alone. COMMAND.json tells of `options`,
    with others than these the folder is refused. The folder's lock is held until the command ends.
    name: what a result is called, given its image's place.
    Of one image `output` can be the result itself, which may end as one of `endings`; its record lies beside it.
    make: images (N, C, H, W) of one size and depth -> N results.  save: (a result, its image, its file,
    where to).
    Raises UsageError, DataError; Interrupted after a signal, when what was begun is written.
    """
    import torch

    from mlcli.errors import DataError, ImageError, Interrupted, MlcliError, UsageError
    from mlcli.io import files, tally
    from mlcli.io.decoding import decode
    from mlcli.runtime import signals

    alone = names_image(output)
    begun = output.with_name(f"{output.name}.json") if alone else output / f"{command}.json"
    if alone:
        call.hold(locks.file_locked(output))
        refuse_existing(output, overwrite)
    else:
        claim_results(call, output, begun, options, overwrite)
    places, problems = results(given, output, name)
    if not places and not problems:
        raise DataError(f"{' '.join(given)}: no images there")
    if alone and places:
        places = {output: _only(places, given, output, endings)}
    told = {"run": str(weights), "sha256": files.file_hash(weights)}
    there = os.path.isfile(begun) and not (alone or overwrite)
    same = there and read_record(begun).get("sha256") == told["sha256"]
    # The record is written when a model first works here: what is older is of another
    jobs, since = [], modified(begun) if same else float("inf")
    for place, image in places.items():
        if os.path.exists(place) and os.path.exists(image) and os.path.samefile(place, image):
            problems.append(UsageError(f"{image}: its result would replace it; name another folder"))
        elif alone or not os.path.isfile(place) or place.stat().st_mtime < max(modified(image), since):
            jobs.append((image, place))
    for problem in problems:
        complain(problem)
    if jobs and not same and not alone:
        files.write_json(begun, record(command, options, **told))

    finished, failures, failed = 0, len(problems), set()
    waiting: list[tuple[Path, torch.Tensor]] = []

    def flush(bar: Task) -> None:
        """Make and write the results of the images that wait, which are of one size and depth."""
        nonlocal finished, failures
        if not waiting:
            return
        made = make(torch.stack([image for _, image in waiting]))
        saved = [
            pool.submit(copy_context().run, save, result, image, places[place], place)
            for (place, image), result in zip(waiting, made, strict=True)
        ]
        for (place, _), writing in zip(waiting, saved, strict=True):
            try:
                writing.result()
                finished += 1
            except MlcliError as problem:
                failures += 1
                failed.add(place)
                tally.current().leave_out(places[place], "image{s} whose result cannot be written")
                bar.complain(problem)
        waiting.clear()

    # Each file waits for the disk, and waits alongside the others of its batch
    with signals.noted() as caught, Progress(len(jobs), str(output)) as bar, ThreadPoolExecutor(8) as pool:
        images = [image for image, _ in jobs]
        for number, image in decode(images, read=read, workers=workers, window=2 * batch_size):
            if isinstance(image, ImageError):
                failures += 1
                failed.add(jobs[number][1])
                bar.complain(image)
            else:
                alike = waiting and (waiting[0][1].shape, waiting[0][1].dtype) == (image.shape, image.dtype)
                if waiting and (not alike or len(waiting) == batch_size):
                    flush(bar)
                waiting.append((jobs[number][1], image))
            bar.to(number + 1)
            if caught:
                flush(bar)
                raise Interrupted(
                    f"interrupted after {number + 1} of {len(jobs)} images; the same command goes on", caught[0]
                )
        flush(bar)
    if alone and finished:
        files.write_json(begun, record(command, {"image": places[output], **options}, **told))
    say(f"{output}: {finished} {done}, {len(places) - len(jobs)} up to date")
    return {place: image for place, image in places.items() if place not in failed}, failures


def _only(places: dict[Path, Path], given: Sequence[str], output: Path, endings: Sequence[str]) -> Path:
    """The one image whose result `output` is to be. Raises UsageError where there are more, or for its ending."""
    from mlcli.errors import UsageError

    if len(places) > 1 or os.path.isdir(given[0]):
        raise UsageError(f"{output}: one image, where the results of a folder or of several go; {output}/ is a folder")
    if output.suffix.lower() not in endings:
        raise UsageError(f"{output}: take one of {', '.join(endings)}")
    return next(iter(places.values()))
