"""`mlcli.classify`: what images show."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, engines
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, Task
from mlcli.api.inputs import class_folder, listed, named
from mlcli.api.row_stream import RowStream, WritesRows
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.options import DATA, METHOD, option, same

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.imaging.memory_images import MemoryImage
    from mlcli.methods.evaluation.classification import Evaluation
    from mlcli.models.model import Model

    Answers = Callable[[Sequence[Path | MemoryImage]], Iterator[tuple[Path | MemoryImage, Tensor | ImageError]]]

COLUMNS = {
    "image": "text",
    "rank": "integer",
    "label": "text",
    "wnid": "text",
    "index": "integer",
    "probability": "number",
    "error": "text",
}
UNKNOWN = "unknown"  # in place of the class of an image whose best class is too improbable


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(common.UsesClasses, common.ReadsImages, common.ComputesExactly, WritesRows):
    images: common.Images = common.images()
    model: str = same(common.UsesModel, "model", help=common.RUNNABLE_HELP)
    top_k: int = option(5, "Number of classes to name.", minimum=1, panel=METHOD)
    min_probability: float = option(
        0.0,
        "Smallest probability of the top class; an image below it is reported as unknown.",
        minimum=0,
        maximum=1,
        panel=METHOD,
    )
    evaluate: bool = option(
        False, "Measure the accuracy on IMAGES, which must then be a folder of class folders.", panel=DATA
    )
    flip: bool = option(
        False,
        "Average over an image and its flipped copy: slightly more accurate, twice the time.",
        "--flip",
        panel=METHOD,
    )
    engine: str = common.engine()
    batch_size: int = common.batch_size(32)


@dataclass(frozen=True)
class Prediction:
    """The predictions for one image: (label, WordNet id or "", index, probability) of each class, best first.

    unknown: whether the best class has less than the wanted probability; `classes` are mere candidates then.
    error: why there are none.
    """

    image: str
    classes: tuple[tuple[str, str, int, float], ...] = ()
    error: str = ""
    unknown: bool = False

    @property
    def answers(self) -> tuple[tuple[str, str, int | None, float], ...]:
        """The classes that are reported; of an unknown image UNKNOWN alone, with the probability of its best class."""
        return ((UNKNOWN, "", None, self.classes[0][3]),) if self.unknown else self.classes

    def as_json(self) -> dict[str, Any]:
        if self.error:
            return {"image": self.image, "error": self.error}
        predictions = [_entry(*answer) for answer in self.answers]
        candidates = {"candidates": [_entry(*candidate) for candidate in self.classes]} if self.unknown else {}
        return {"image": self.image, "predictions": predictions, **candidates}


def _entry(label: str, wnid: str, index: int | None, probability: float) -> dict[str, Any]:
    """A class as JSON has it."""
    return {"label": label, **({"wnid": wnid} if wnid else {}), "index": index, "probability": probability}


@dataclass(frozen=True)
class Classification:
    """What a model says of images.

    predictions: of each image, in order; none where they are in a file.  evaluation: how accurate they are, in place of
    the predictions.
    failures: number of images and folders that could not be read.
    """

    model: "Model"
    predictions: tuple[Prediction, ...] = ()
    evaluation: "Evaluation | None" = None
    flipped: bool = False
    failures: int = 0

    def as_json(self) -> Any:
        """What `mlcli classify --format json` prints."""
        if self.evaluation is None:
            return [prediction.as_json() for prediction in self.predictions]
        report = {"model": self.model.name, "flipped": self.flipped, **self.evaluation.as_json()}
        for label, wnid in zip(self.model.classes, self.model.wnids, strict=False):
            if label in report["per_class"]:
                report["per_class"][label] = {"wnid": wnid, **report["per_class"][label]}
        return report


@function(ClassifyConfig)
def classify(call: Call[ClassifyConfig]) -> Classification:
    """Name what images show: the most probable classes of each.

    The default model knows the 1,000 classes of ImageNet. With `evaluate`, images is one folder with one folder of
    images per class, named by label, WordNet id, synonym or number of a class.

        >>> import mlcli
        >>> result = mlcli.classify("samples/photos/coffee.jpg", top_k=1)
        >>> result.predictions[0].classes[0][0]
        'espresso'

    Images that cannot be read have an `error` in place of their predictions. Those whose best class has less than
    `min_probability` are `unknown`, and with `evaluate` they are counted apart. With `output` and the `format` csv,
    jsonl or parquet, the predictions are written while they are computed, in memory that does not grow with the number
    of images, and `resume` resumes what was interrupted; they are not in the result then.

    Raises DataError where there is no image, UsageError for options that do not go together and for an output that
    exists, WeightsError for a model that cannot be had, BusyError where another process writes the output.
    """
    from mlcli.api.outputs import determining, record
    from mlcli.io.row_formats import Columns
    from mlcli.methods.evaluation.classification import probabilities
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

    config = call.config
    runtime = Runtime.choose(config.device, config.precision)
    processes = Processes(runtime.device)
    runtime = replace(runtime, device=processes.device)
    stream = None if config.evaluate else RowStream(call, processes)
    model = engines.opened(config.model, config.weights, runtime, config.engine, classes=config.classes)
    model.require_classes()

    def answers(count: int) -> "Answers":
        """What computes the probabilities of images, of a set of so many: by that, `auto` takes an engine."""
        return partial(
            probabilities,
            engines.accelerated(model, runtime, config.engine, count),
            runtime=runtime,
            flipped=config.flip,
            batch_size=1 if getattr(model, "one_at_a_time", False) else config.batch_size,
            workers=config.workers,
        )

    if stream is None:
        return _evaluated(config, model, answers)
    paths, failures = processes.by_first(lambda: named(config.images))
    answer = answers(len(paths))

    def rows(some: "Sequence[Path | MemoryImage]") -> Iterator[Prediction]:
        for path, row in answer(some):
            if isinstance(row, ImageError):
                yield Prediction(str(path), error=str(row))
            else:
                best = _best(model, row, config.top_k)
                yield Prediction(str(path), best, unknown=best[0][3] < config.min_probability)

    engine = engines.taken(model, runtime, config.engine, len(paths))  # another one gives other bits
    described = record("classify", determining(config, precision=runtime.precision, engine=engine), model)
    stream.fill(paths, rows, Columns(COLUMNS, _lines), described, batch_size=config.batch_size)
    processes.close()
    return Classification(model, tuple(stream.kept), failures=failures + stream.errors)


def _lines(prediction: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    """The lines of a table for a prediction as JSON has it: one for each class, or for the error."""
    if "error" in prediction:
        return [(prediction["image"], None, None, None, None, None, prediction["error"])]
    return [
        (prediction["image"], rank, found["label"], found.get("wnid"), found["index"], found["probability"], None)
        for rank, found in enumerate(prediction["predictions"], 1)
    ]


def _best(model: "Model", row: "Tensor", count: int) -> tuple[tuple[str, str, int, float], ...]:
    best = row.topk(min(count, len(row)))
    return tuple(
        (model.classes[index], model.wnids[index] if model.wnids else "", index, probability)
        for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


def _evaluated(config: ClassifyConfig, model: "Model", answers: "Callable[[int], Answers]") -> Classification:
    """The accuracy on a folder of class folders."""
    from mlcli.methods.evaluation import classification

    if config.format in ("jsonl", "parquet") or config.resume or config.shard:
        raise UsageError("--evaluate: gives one result; take --format table, json or csv, without --resume and --shard")
    images = listed(config.images)
    if len(images) != 1 or not isinstance(images[0], (str, os.PathLike)):
        raise UsageError("--evaluate takes one folder, with one folder of images for each class")
    folder = class_folder(Path(images[0]), model.names, learns=False)
    failures = sum(isinstance(problem, ImageError) for problem in folder.problems)

    answer = answers(len(folder.paths))

    def labeled(bar: Task) -> Iterator[tuple[int, "Tensor"]]:
        nonlocal failures
        for done, (label, (_, row)) in enumerate(zip(folder.labels, answer(folder.paths), strict=True), 1):
            bar.to(done)
            if isinstance(row, ImageError):
                failures += 1
                bar.complain(row)
            else:
                yield label, row

    with Progress(len(folder.paths), "evaluate") as bar:
        evaluation = classification.evaluate(model.classes, labeled(bar), config.min_probability)
    if not evaluation.count:
        raise DataError(f"{folder.root}: no readable image in it")
    return Classification(model, evaluation=evaluation, flipped=config.flip, failures=failures)
