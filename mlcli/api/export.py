"""`mlcli.export`: a model as a file that other programs run."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, say
from mlcli.api.inputs import Readable, evenly, files_named
from mlcli.api.translate import TranslateConfig
from mlcli.errors import UsageError
from mlcli.options import DATA, METHOD, NETWORK, OUTPUT, argument, option, required, same

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.models.exports.subject import Subject
    from mlcli.models.model import Model

IN_FOLDER = "model.onnx"  # the name of the file where a folder is named


@dataclass(frozen=True, kw_only=True)
class ExportConfig(common.ReadsImages):
    model: str = argument(
        "Model to export: a name (see `mlcli models`), or the folder of a run.",
        metavar="MODEL",
        cli_type=str,
        completes="model",
    )
    output: Path = required(
        "File to write: .onnx, or .xml for OpenVINO; or a folder for model.onnx.",
        "-o",
        "--output",
        path="either",
        panel=OUTPUT,
    )
    weights: Path | None = same(common.UsesModel, "weights")
    classes: Path | None = same(common.UsesClasses, "classes")
    direction: str | None = same(TranslateConfig, "direction")
    preprocessing_inside: bool = option(
        False,
        "Put resizing, cropping and normalizing into the file, which takes images of any size then.",
        panel=NETWORK,
    )
    int8: bool = option(False, "Quantize to 8-bit integers, which many processors compute faster.", panel=METHOD)
    weight_bits: int | None = option(
        None,
        "Bits of the weights of an --int8 file: 8 where it will run on processors with VNNI, else 7.",
        minimum=7,
        maximum=8,
        shown_default="the most with which the sums of this processor are right",
        panel=METHOD,
    )
    calibrate: common.Paths = option(
        (),
        "Images to calibrate --int8 on: files, folders, or - for paths on stdin; all words up to the next option.",
        metavar="IMAGES...",
        cli_type=list[str],
        panel=DATA,
    )
    check: common.Paths = option(
        (),
        "Images to compare the file with the model on; all words up to the next option.",
        metavar="IMAGES...",
        cli_type=list[str],
        shown_default="those of --calibrate, or random inputs",
        panel=DATA,
    )
    sample: int = option(
        100, "Largest number of images to calibrate or to compare on, evenly spaced.", minimum=1, panel=DATA
    )
    least_agreement: float = option(
        0.9, "Smallest agreement of an 8-bit file with its model.", minimum=0, maximum=1, panel=METHOD
    )
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Export:
    """An exported file.

    file: it.  description: what it says of itself.  agreement: how its outputs were compared with the model's, the
    fraction that agrees and the largest difference.  bytes: of the file, and of the weights beside an .xml.
    failures: number of images that could not be read.
    """

    file: Path
    description: Mapping[str, Any]
    agreement: Mapping[str, Any]
    bytes: int
    failures: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `mlcli export --format json` prints."""
        short = {name: value for name, value in self.description.items() if name not in ("classes", "wnids", "checked")}
        return {"file": str(self.file), "bytes": self.bytes, **short, "checked": dict(self.agreement)}


@function(ExportConfig)
def export(call: Call[ExportConfig]) -> Export:
    """Write a model as an ONNX or OpenVINO file, which other programs run without torch and without this tool.

    A classifier gives `logits`, and `features`, its last hidden layer; a segmenter `logits` at each pixel; a Siamese
    network `points`; the generators of pix2pix, cyclegan and gan images. The file says what it is: classes,
    preprocessing, names of inputs and outputs. Its outputs are compared with the model's before it is written.

        >>> import mlcli
        >>> result = mlcli.export("cifarnet", output="cifarnet.onnx")  # doctest: +SKIP
        >>> result.agreement["largest_difference"] < 1e-3  # doctest: +SKIP
        True

    Raises UsageError for options that do not go together and for packages that are not installed, MlcliError for a
    network that cannot be exported, or whose file would differ from it by more than the limits.
    """
    from mlcli.api.outputs import determining, refuse_existing, write_beside
    from mlcli.models.exports import exporting, files

    config = call.config
    file = _file(config.output)
    _require_images(config)
    refuse_existing(file, config.overwrite)
    if file.suffix.lower() == files.OPENVINO:
        refuse_existing(file.with_suffix(".bin"), config.overwrite)
    exporting.require_packages(file, int8=config.int8)
    subject = _subject(config)
    if subject.read is None and (config.calibrate or config.check):
        raise UsageError(f"{config.model}: takes no images; leave out --calibrate and --check")
    calibrate, unread = _inputs(config.calibrate, config, subject.read, "calibrate")
    check, unseen = _inputs(config.check, config, subject.read, "check")
    result = exporting.export(
        subject,
        file,
        check=check or calibrate,
        calibrate=calibrate,
        weight_bits=config.weight_bits,
        least_agreement=config.least_agreement,
    )
    if not result.agreement.images:
        say(f"{file}: compared with the model on random inputs; --check IMAGES compares it on yours")
    made = Export(file, result.description, result.agreement.as_json(), result.bytes, unread + unseen)
    write_beside(file, "export", determining(config), result=made.as_json())
    return made


def _file(output: Path) -> Path:
    """The file to write: as given, or in the folder given."""
    from mlcli.io.output_paths import FolderPath
    from mlcli.models.exports.files import is_exported

    if not isinstance(output, FolderPath) and is_exported(output.name):
        return output
    return Path(output) / IN_FOLDER


def _require_images(config: ExportConfig) -> None:
    """Raise UsageError where --int8 and what serves it do not come together."""
    if config.int8 and not config.calibrate:
        raise UsageError("--int8 needs images like those that the model will see: --calibrate IMAGES")
    if config.calibrate and not config.int8:
        raise UsageError("--calibrate serves --int8; give both")
    if config.weight_bits and not config.int8:
        raise UsageError("--weight-bits serves --int8; give both")


def _inputs(
    given: common.Paths, config: ExportConfig, read: "Callable[[Path], Tensor] | None", title: str
) -> "tuple[list[Tensor], int]":
    """(images as the network takes them, each a batch; how many cannot be read)."""
    if not given or read is None:
        return [], 0
    chosen = evenly(files_named(given), config.sample, f"--{title}")
    with Progress(len(chosen), title) as bar:
        readable = Readable(chosen, None, bar, window=32, workers=config.workers, read=read)
        return [image[None] for _, image in readable], readable.failures


def _subject(config: ExportConfig) -> "Subject":
    """What the model is, by what its file says. Raises UsageError for options that are not for it."""
    from mlcli.models import artifacts, translators
    from mlcli.models.exports import model_subjects

    kind, inside = _kind(config.model), config.preprocessing_inside
    if kind not in (None, artifacts.CLASSIFIER.name):
        for name in ("weights", "classes"):
            if getattr(config, name) is not None:
                raise UsageError(f"--{name}: is for classifiers, and {config.model} holds a {kind}")
    if config.direction is not None and kind != translators.TRANSLATOR.name:
        raise UsageError(f"--direction: is for generators that translate, and {config.model} is none")
    if kind is None or kind == artifacts.CLASSIFIER.name:
        return model_subjects.of_classifier(_classifier(config), inside=inside)
    if kind == artifacts.SEGMENTER.name:
        from mlcli.methods.evaluation import segmentation

        return model_subjects.of_segmenter(segmentation.load(config.model), inside=inside)
    return _of_run(config, kind)


def _classifier(config: ExportConfig) -> "Model":
    from mlcli.models import artifacts, model_files, registry

    if os.path.isfile(config.model) and artifacts.kind_of(Path(config.model)) is not None:
        return model_files.from_file(config.model)
    if os.path.isfile(config.model):
        raise UsageError(
            f"{config.model}: a file of weights without what it belongs to; name the run folder, or the model, and "
            f"--weights {config.model}"
        )
    return registry.load(config.model, config.weights, classes=config.classes)


def _of_run(config: ExportConfig, kind: str) -> "Subject":
    """A Siamese network, or a generator."""
    from mlcli.methods.generation import sampler_export, sampling
    from mlcli.methods.metric_learning import embedder, embedder_export
    from mlcli.models import translators
    from mlcli.models.exports import model_subjects
    from mlcli.runtime.device import Runtime

    runtime = Runtime.choose("cpu", "fp32")
    if kind == embedder.EMBEDDER.name:
        return embedder_export.subject(embedder.load(config.model, runtime), inside=config.preprocessing_inside)
    if config.preprocessing_inside:
        raise UsageError(f"--preprocessing-inside: a {kind} takes images of many sizes, or none; leave it out")
    if kind == sampling.SAMPLER.name:
        return sampler_export.subject(sampling.load(config.model, runtime))
    return model_subjects.of_translator(translators.load(config.model, config.direction), config.direction)


def _kind(name: str) -> str | None:
    """What the file of a run, or a file of weights, says that it holds; None for the name of a model."""
    from mlcli.models import artifacts, translators
    from mlcli.models.exports.files import is_exported

    if is_exported(name):
        raise UsageError(f"{name}: an exported file already; name the model that it was made of")
    if os.path.isfile(name):
        return artifacts.kind_of(Path(name))
    files = [os.path.join(name, file) for file in (artifacts.MODEL_FILE, *translators.TRANSLATOR.files)]
    found = next(filter(os.path.isfile, files), None)
    if found is None and artifacts.is_run(name):
        raise artifacts.no_model_yet(name)
    return None if found is None else artifacts.kind_of(Path(found))
