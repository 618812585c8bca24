"""Work over folders of images, file by file: what is out of date is made, and the rest is left alone."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlcli.api.call import Call
from mlcli.api.events import Progress, Task, complain, say
from mlcli.api.inputs import modified, results
from mlcli.api.outputs import claim_results, read_record, record, refuse_existing
from mlcli.counting import counted
from mlcli.errors import DataError, ImageError, Interrupted, MlcliError, UsageError
from mlcli.io import files, input_files, locks, tally
from mlcli.io.output_paths import names_image
from mlcli.runtime.batch_division import Shard

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.runtime.processes import Processes


def up_to_date(made: Iterable[Path], inputs: Iterable[Path], since: float = float("-inf")) -> bool:
    """Whether all of these files are there, and newer than all of the inputs and than the time `since`."""
    made = list(made)
    if not all(os.path.isfile(file) for file in made):
        return False
    return min(file.stat().st_mtime for file in made) >= max([since, *(modified(file) for file in inputs)])


def each_outdated(
    call: Call[Any],
    command: str,
    done: str,
    given: Sequence[str],
    output: Path,
    options: Mapping[str, Any],
    *,
    made_by: Mapping[str, Any],
    name: Callable[[Path], Path],
    read: Callable[[Path], "Tensor"],
    make: Callable[["Tensor"], "Sequence[Any] | Tensor"],
    save: Callable[[Any, "Tensor", Path, Path], None],
    whole: Callable[[Path], bool] = lambda result: True,
    endings: Sequence[str],
    batch_size: int,
    workers: int | None,
    overwrite: bool,
    processes: "Processes",
    part: Shard,
) -> tuple[dict[Path, Path], int]:
    """Make a result of each image in the folder `output`; ({current result: its image}, how many failed).

    A result by the same weights that is newer than its image is left alone. COMMAND.json in the folder keeps the
    `options`, and a folder of results with other options is refused. The folder's lock is held until the call ends.
    For one image `output` can be the result itself, whose name may end as one of `endings`; its record is beside it.

    done: what was done to an image, as a participle for the message.  made_by: what the record says of the weights, of
    which their `sha256` tells whether they are the same.  name: the file name of a result, given that of its image.
    make: images (N, C, H, W) of one size and depth -> N results.  save: called with a result, its image, the file of
    the image and the file to write.  whole: whether a result that is there has all that was written with it.
    processes: that divide the images.  part: of the images, which a job of an array makes beside others.
    Raises UsageError, DataError; Interrupted after a signal, when the results in work are written.
    """
    from mlcli.imaging.decoding import decode
    from mlcli.runtime import signals

    single = names_image(output)
    record_file = output.with_name(f"{output.name}.json") if single else output / f"{command}.json"

    def begin() -> tuple[dict[Path, Path], list[Job], int]:
        """(images by their results, what is to be made, number of problems)."""
        if single:
            call.hold(locks.file_locked(output))
            refuse_existing(output, overwrite)
        else:
            claim_results(call, output, record_file, options, overwrite, part)
        images, problems = results(given, output, name)
        if not images and not problems:
            raise DataError(f"{' '.join(given)}: no images there")
        if single and images:
            images = {output: _only(images, given, output, endings)}
        own = part.items(len(images), 1)
        images = dict(list(images.items())[own.start : own.stop])
        recorded = os.path.isfile(record_file) and not (single or overwrite)
        same = recorded and read_record(record_file).get("sha256") == made_by["sha256"]
        # The record is written when a model first works here: what is older was made by another model
        since = modified(record_file) if same else float("inf")
        jobs = []
        for result, image in images.items():
            if os.path.exists(result) and os.path.exists(image) and os.path.samefile(result, image):
                problems.append(UsageError(f"{image}: its result would replace it; name another folder"))
            elif single or not (up_to_date([result], [image], since) and whole(result)):
                jobs.append(Job(image, result))
        for problem in problems:
            complain(problem)
        if jobs and not same and not single:
            files.write_json(record_file, record(command, options, **made_by))
        return images, jobs, len(problems)

    images, all_jobs, problems = processes.by_first(begin)
    jobs = all_jobs[processes.rank :: processes.count]
    # Each file waits for the disk, and waits alongside the others of its batch
    with signals.noted() as caught, Progress(len(jobs), str(output)) as bar, ThreadPoolExecutor(8) as pool:
        batches = Batches(make, save, batch_size, pool, bar)
        for number, pixels in decode([job.image for job in jobs], read=read, workers=workers, window=2 * batch_size):
            if isinstance(pixels, ImageError):
                batches.fail(jobs[number], pixels)
            else:
                batches.add(jobs[number], pixels)
            bar.to(number + 1)
            if caught:
                batches.flush()
                raise Interrupted(
                    f"interrupted after {number + 1} of {counted(len(jobs), 'image')}; the same command resumes",
                    caught[0],
                )
        batches.flush()
    failed: dict[Path, str] = {}
    for number, each in enumerate(processes.gather(batches.failed)):
        failed |= each
        if number:  # the first process has said its own
            for told in each.values():
                complain(told)
    if single and all_jobs and not failed and processes.main:
        files.write_json(record_file, record(command, {"image": images[output], **options}, **made_by))
    say(f"{output}: {len(all_jobs) - len(failed)} {done}, {len(images) - len(all_jobs)} up to date")
    return {result: image for result, image in images.items() if result not in failed}, problems + len(failed)


def weights_of_run(weights: Path) -> dict[str, Any]:
    """What a record says of the file of weights of a run. Raises MlcliError where it cannot be read."""
    return {"run": str(weights), "sha256": files.file_hash(weights)}


class Job(NamedTuple):
    """An image file, and the file of the result that is to be made of it."""

    image: Path
    result: Path


class Batches:
    """Makes results batch by batch and writes them.  failed: the results that are not written, and why.

    A batch holds images of one size and depth.
    """

    def __init__(
        self,
        make: Callable[["Tensor"], "Sequence[Any] | Tensor"],
        save: Callable[[Any, "Tensor", Path, Path], None],
        batch_size: int,
        pool: Executor,
        bar: Task,
    ) -> None:
        self.make, self.save, self.batch_size, self.pool, self.bar = make, save, batch_size, pool, bar
        self.waiting: list[tuple[Job, Tensor]] = []
        self.failed: dict[Path, str] = {}

    def add(self, job: Job, image: "Tensor") -> None:
        """Take an image (C, H, W) into a batch, after making the results of the one before if it does not fit."""
        if self.waiting:
            first = self.waiting[0][1]
            fits = (first.shape, first.dtype) == (image.shape, image.dtype)
            if not fits or len(self.waiting) == self.batch_size:
                self.flush()
        self.waiting.append((job, image))

    def flush(self) -> None:
        """Make and write the results of the images that wait."""
        import torch

        if not self.waiting:
            return
        made = self.make(torch.stack([image for _, image in self.waiting]))
        saved = [
            self.pool.submit(copy_context().run, self.save, result, image, job.image, job.result)
            for (job, image), result in zip(self.waiting, made, strict=True)
        ]
        for (job, _), writing in zip(self.waiting, saved, strict=True):
            try:
                writing.result()
            except MlcliError as problem:
                tally.current().leave_out(job.image, "image{s} whose result cannot be written")
                self.fail(job, problem)
        self.waiting.clear()

    def fail(self, job: Job, problem: MlcliError) -> None:
        """Name what stands in the way of a result."""
        self.failed[job.result] = str(problem)
        self.bar.complain(problem)


def _only(images: Mapping[Path, Path], given: Sequence[str], output: Path, endings: Sequence[str]) -> Path:
    """The one image whose result `output` is to be. Raises UsageError where there are more, or for its ending."""
    if len(images) > 1 or input_files.is_folder(given[0]):
        raise UsageError(f"{output}: one image, where the results of a folder or of several go; {output}/ is a folder")
    if output.suffix.lower() not in endings:
        raise UsageError(f"{output}: take one of {', '.join(endings)}")
    return next(iter(images.values()))
