"""`mlcli.explain`: which parts of an image the answer of a network depends on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress
from mlcli.api.inputs import Readable, file_names, listed, named
from mlcli.errors import DataError, UsageError
from mlcli.methods.explanation.configs import BASELINES, NAMES, Explaining
from mlcli.options import METHOD, NETWORK, OUTPUT, option, same
from mlcli.runtime.batch_division import WHOLE, Shard

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.api.explanations import ExplainedImage, Explainer, Explanation
    from mlcli.methods.evaluation.faithfulness_table import FaithfulnessTable
    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

RECORD = "explain"  # the name of the record of a folder, without its ending


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(common.UsesClasses, common.ReadsImages, common.ComputesExactly):
    images: common.Images = common.images()
    output: Path | None = option(
        None, "Folder to write maps to.", "-o", "--output", path="folder", cli_required=True, panel=OUTPUT
    )
    method: Sequence[str] = option(
        ("grad-cam",),
        "Method of explanation, or several, separated by commas.",
        choices=NAMES,
        cli_type=list[str],
        panel=METHOD,
    )
    target: Sequence[str] = option(
        ("predicted",),
        "What to explain: predicted, top-3, a class, a unit such as conv4:12, or an expression as in `mlcli maximize`; "
        "can be given several times.",
        cli_type=list[str],
        panel=METHOD,
        completes="class",
    )
    against: str | None = option(
        None,
        "Class whose value is subtracted from the target: why it is the one rather than the other.",
        metavar="CLASS",
        panel=METHOD,
        completes="class",
    )
    layer: str | None = option(
        None,
        "Layer of the class-activation maps.",
        shown_default="the last one with positions",
        panel=NETWORK,
        completes="layer",
    )
    baseline: str = same(Explaining, "baseline", cli_type=str)
    path_steps: int | None = same(Explaining, "path_steps")
    samples: int = same(Explaining, "samples")
    noise: float = same(Explaining, "noise")
    window: int | None = same(Explaining, "window")
    stride: int | None = same(Explaining, "stride")
    masks: int = same(Explaining, "masks")
    faithfulness: bool = option(
        False,
        "Measure each map by deletion and insertion and by random weights, and mark those that fail; takes minutes "
        "where the maps take seconds.",
        panel=METHOD,
    )
    evaluate: bool = option(False, "Report how faithful each method is over all images.", panel=METHOD)
    batch_size: int = common.batch_size(4)
    seed: int = common.seed()
    shard: str | None = common.shard()
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Explanations:
    """What explains the answers of a model.

    images: with no output, the explanations of each image, in order.
    files: {JSON file: its image} of all images that are explained in the output folder now.
    evaluation: with `evaluate`, how faithful each method is.
    failures: number of images that could not be read or written.
    """

    model: "Model"
    images: "tuple[ExplainedImage, ...]" = ()
    files: Mapping[Path, Path] = field(default_factory=dict)
    evaluation: "FaithfulnessTable | None" = None
    failures: int = 0

    @property
    def explanations(self) -> "tuple[Explanation, ...]":
        """All maps of all images, where they are in memory."""
        return tuple(each for image in self.images for each in image.explanations)

    def as_json(self) -> Any:
        """The evaluation; without one the files, or what is told of each explanation."""
        if self.evaluation is not None:
            return {"model": self.model.name, **self.evaluation.as_json()}
        if self.files:
            return {"model": self.model.name, "files": {str(image): str(file) for file, image in self.files.items()}}
        return [{"image": each.image, **each.as_json()} for each in self.explanations]


@function(ExplainConfig)
def explain(call: Call[ExplainConfig]) -> Explanations:
    """Show which parts of an image the answer of a network depends on.

    Each method gives a map for each target of each image. With `output`, NAME.METHOD.png is the map over the image,
    NAME.METHOD.npy its numbers, and NAME.json tells the rest; where there are several, NAME.sheet.png shows all.
    Results newer than their image are left alone. Without an output, which images in memory need, the explanations are
    returned.

        >>> import mlcli
        >>> result = mlcli.explain("samples/photos/cat.jpg", model="cifarnet", target="cat")
        >>> result.explanations[0].target, result.explanations[0].map.shape
        ('cat', (4, 4))

    Raises UsageError for an unknown class, layer or unit and for options that do not go together, DataError where there
    is no image, WeightsError for a model that cannot be had, Interrupted after a signal, when the results in work are
    written.
    """
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

    config = call.config
    part = Shard.parse(config.shard)
    if config.output is None and (part != WHOLE or config.evaluate):
        raise UsageError(f"--{'evaluate' if config.evaluate else 'shard'}: needs a folder; name it with -o FOLDER")
    if config.evaluate and part != WHOLE:
        raise UsageError("--evaluate: measures all images; call it without --shard when all parts are there")
    runtime = Runtime.choose(config.device, config.precision).for_training()
    processes = Processes(runtime.device)
    runtime = replace(runtime, device=processes.device)
    model = registry.load(config.model, config.weights, classes=config.classes).to(runtime)
    explainer = _explainer(config, model, runtime)
    if config.output is None:
        return _in_memory(config, explainer)
    files, failures = _written(call, config.output, explainer, processes, part)
    evaluation = None
    if config.evaluate and processes.main:
        evaluation = _evaluated(files, config.output)
    processes.close()
    return Explanations(model, files=files, evaluation=evaluation, failures=failures)


def _explainer(config: ExplainConfig, model: "Model", runtime: "Runtime") -> "Explainer":
    from mlcli.api.explanations import Explainer
    from mlcli.methods.explanation.targets import Targets

    texts = [str(text) for text in listed(config.target)]
    if not texts or not listed(config.method):
        raise UsageError("no target or no method; name one of each, or leave the option out")
    hyperparameters = Explaining(**{name: getattr(config, name) for name in asdict(Explaining())})
    return Explainer(
        model,
        runtime,
        listed(config.method),
        Targets(model, texts, config.against),
        hyperparameters,
        layer=config.layer,
        checked=config.faithfulness or config.evaluate,
    )


def _written(
    call: Call[ExplainConfig], output: Path, explainer: "Explainer", processes: "Processes", part: Shard
) -> tuple[dict[Path, Path], int]:
    """({JSON file: its image}, number of failures)."""
    from mlcli.api import explanations
    from mlcli.api.folders import each_outdated
    from mlcli.api.outputs import determining, record
    from mlcli.imaging import image_io

    config, model = call.config, explainer.model
    sizes: dict[Path, tuple[int, int]] = {}  # (height, width) of the images in work

    def read(path: Path) -> "Tensor":
        image = image_io.read(path)
        sizes[path] = (image.shape[1], image.shape[2])
        return model.preprocessing.prepare(image)

    def save(explained: "ExplainedImage", image: "Tensor", source: Path, file: Path) -> None:
        height, width = sizes.pop(source)
        side = model.preprocessing.crop
        about = {"size": [width, height], "box": model.preprocessing.source_box((0, 0, side, side), height, width)}
        written = record("explain", {"image": source, **options}, model, **about)
        explanations.write(explained, source, file, written)

    options = determining(
        config,
        method=list(explainer.methods),
        layer=explainer.layer and explainer.layer.address,
        precision=explainer.runtime.precision,
        faithfulness=explainer.checked,
        baseline_hash=None if config.baseline in BASELINES else image_io.digest(Path(config.baseline)),
    )
    options = {name: value for name, value in options.items() if name not in ("images", "evaluate", "batch_size")}
    return each_outdated(
        call,
        RECORD,
        "explained",
        file_names(config.images),
        output,
        options,
        made_by={"sha256": model.hash},
        name=_json_name,
        read=read,
        make=lambda images: explainer(images, [""] * len(images)),
        save=save,
        whole=explanations.is_whole,
        endings=(".json",),
        batch_size=config.batch_size,
        workers=config.workers,
        overwrite=config.overwrite,
        processes=processes,
        part=part,
    )


def _json_name(path: Path) -> Path:
    """NAME.json; of an image whose name is that of the folder's record, with the ending of the image."""
    return path.with_name(f"{path.name if path.stem == RECORD else path.stem}.json")


def _in_memory(config: ExplainConfig, explainer: "Explainer") -> Explanations:
    import torch

    images, failures = named(config.images)
    found: list[ExplainedImage] = []
    with Progress(len(images), "explain") as bar:
        prepare = explainer.model.preprocessing.prepare
        readable = Readable(images, prepare, bar, window=2 * config.batch_size, workers=config.workers)
        for number, image in readable:
            found += explainer(torch.stack([image]), [str(images[number])])
    return Explanations(explainer.model, tuple(found), failures=failures + readable.failures)


def _evaluated(files: Mapping[Path, Path], output: Path) -> "FaithfulnessTable":
    """The table, of what the JSON files of all images say; it is written to the folder, too."""
    import json

    from mlcli.io.files import write_json
    from mlcli.methods.evaluation.faithfulness_table import tabulated

    def told() -> Iterator[Mapping[str, Any]]:
        for file in files:
            yield from json.loads(file.read_text("utf-8"))["explanations"]

    evaluation = tabulated(told())
    if not evaluation.rows:
        raise DataError(f"{output}: no image is explained in it; nothing can be evaluated")
    write_json(output / f"{RECORD}.evaluation.json", evaluation.as_json())
    return evaluation
