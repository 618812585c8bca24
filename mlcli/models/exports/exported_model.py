"""A classifier in an ONNX or OpenVINO file, which `classify` and `neighbors` run."""

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.counting import counted
from mlcli.data.class_names import ClassNames, read_class_file
from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError, WeightsError
from mlcli.imaging import image_io
from mlcli.imaging.memory_images import MemoryImage
from mlcli.io.files import file_hash
from mlcli.io.schema import Invalid, items, text
from mlcli.models.artifacts import CLASSIFIER
from mlcli.models.exports.files import OPENVINO
from mlcli.models.exports.onnx_file import OnnxRunner
from mlcli.models.exports.openvino_file import OpenVinoRunner, weights_beside
from mlcli.models.exports.quantization import weight_bits_here
from mlcli.models.exports.subject import FEATURES, INSIDE, LOGITS
from mlcli.models.model import Model
from mlcli.models.structure.graph import Layer
from mlcli.models.structure.receptive_fields import ALL
from mlcli.runtime import optional_packages
from mlcli.runtime.device import Runtime

FOREIGN_SIDE = 224  # pixels, of a file without a description whose input has any size


class RunsFile(nn.Module):
    """Normalized images (N, C, crop, crop), on any device -> logits (N, classes) on the processor.

    of_probabilities: whether the file gives probabilities, whose logarithm is taken.
    """

    def __init__(self, run: OnnxRunner | OpenVinoRunner, *, of_probabilities: bool = False):
        super().__init__()
        self.run, self.of_probabilities = run, of_probabilities

    def forward(self, images: Tensor) -> Tensor:
        (values,) = self.run(images.cpu(), outputs=[LOGITS if LOGITS in self.run.names else self.run.names[0]])
        return values.clamp_min(1e-12).log() if self.of_probabilities else values

    def features(self, images: Tensor) -> Tensor:
        """(N, D) the last hidden layer, for the same images."""
        return self.run(images.cpu(), outputs=[FEATURES])[0]


@dataclass(frozen=True)
class PreprocessedInside(Preprocessing):
    """The preprocessing of a file that does it itself: it takes the bytes of an image of any size, one at a time."""

    def read(self, path: str | Path | MemoryImage) -> Tensor:
        """The image at its size: what the file does with it is not known."""
        return image_io.read(path)

    def prepare(self, image: Tensor) -> Tensor:
        return image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)

    def normalize(self, images: Tensor) -> Tensor:
        return images


@dataclass
class ExportedModel(Model):
    """A classifier that a file holds.

    assumed: what was assumed of a file without a description, in words; empty for one of `mlcli export`.
    """

    assumed: str = field(default="", kw_only=True)

    @property
    def one_at_a_time(self) -> bool:
        """Whether a batch is one image, since they have many sizes."""
        return isinstance(self.preprocessing, PreprocessedInside)

    @property
    def engine(self) -> str:
        """The library that runs it."""
        return "openvino" if isinstance(self.runs.run, OpenVinoRunner) else "onnxruntime"

    @property
    def overflows(self) -> bool:
        """Whether it has 8-bit weights whose sums ONNX Runtime cuts off on this processor."""
        bits = self.runs.run.description.get("weight_bits", 0)
        return self.engine == "onnxruntime" and isinstance(bits, int) and bits > weight_bits_here()

    @property
    def runs(self) -> RunsFile:
        assert isinstance(self.network, RunsFile)
        return self.network

    @property
    def hidden(self) -> Layer:
        """The last hidden layer, whose values `features` are."""
        address = self.runs.run.description.get("features_layer") or FEATURES
        return Layer(str(address), "exported", (), ALL, 0, False)

    def require_features(self) -> None:
        """Raise UsageError where the file does not give the last hidden layer."""
        if FEATURES not in self.runs.run.names:
            raise UsageError(
                f"--model {self.name}: gives no features, which `mlcli export` writes as its second output; take a "
                "file that it wrote"
            )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file, and of the weights beside an .xml."""
        assert self.weights_file is not None
        files = [self.weights_file]
        if self.engine == "openvino":
            files.append(weights_beside(self.weights_file))
        return hashlib.sha256(" ".join(map(file_hash, files)).encode()).hexdigest()


def load(name: str, classes: str | Path | None, runtime: Runtime) -> ExportedModel:
    """The classifier in a file. classes: a file of names, in place of the file's own.

    Raises UsageError for a file without classes, for what only a CPU computes, and where a package is missing;
    WeightsError for a file that is damaged, or holds no classifier.
    """
    file = Path(name)
    if not os.path.isfile(file):
        raise WeightsError(f"{name}: no such file")
    if runtime.device.type != "cpu":
        raise UsageError(f"--model {name}: an exported file is computed on the processor; take --device cpu")
    run = _runner(file, runtime)
    if run.description.get("kind", CLASSIFIER.name) not in (CLASSIFIER.name,):
        raise WeightsError(f"{name}: holds a {run.description['kind']}, not a classifier")
    names = None if classes is None else read_class_file(classes)
    return _described(name, run, names) if run.description else _foreign(name, run, names)


def _runner(file: Path, runtime: Runtime) -> OnnxRunner | OpenVinoRunner:
    if file.suffix.lower() == OPENVINO:
        optional_packages.require("openvino", f"--model {file.name}")
        return OpenVinoRunner(file, runtime.precision)
    optional_packages.require("onnx", f"--model {file.name}")
    if runtime.precision != "fp32":
        raise UsageError(
            f"--precision {runtime.precision}: ONNX Runtime computes a file in its own precision; take fp32"
        )
    return OnnxRunner(file)


def _described(name: str, run: OnnxRunner | OpenVinoRunner, names: list[str] | None) -> ExportedModel:
    """The model of a file that this tool wrote."""
    description = run.description
    try:
        own = items(text(500), 0, 1_000_000)
        labels, wnids = list(description.get("classes", [])), list(description.get("wnids", []))
        own(labels)
        own(wnids)
        preprocessing = Preprocessing.of(description["preprocessing"])
    except (Invalid, LookupError, TypeError) as error:
        raise WeightsError(f"{name}: its description is damaged ({error})") from None
    if description.get(INSIDE):
        preprocessing = PreprocessedInside(**vars(preprocessing))
    if names is not None and len(names) != len(labels):
        raise _other_number(names, len(labels))
    known = ClassNames.of(names) if names is not None else ClassNames(tuple(labels), tuple(wnids))
    return ExportedModel(name, RunsFile(run), known.labels, preprocessing, "exported", Path(name), wnids=known.wnids)


def _foreign(name: str, run: OnnxRunner | OpenVinoRunner, names: list[str] | None) -> ExportedModel:
    """The model of a file that says nothing of itself: ImageNet's usual preprocessing is assumed."""
    if names is None:
        raise UsageError(
            f"--model {name}: says nothing of its classes and preprocessing, as the files of `mlcli export` do; give "
            "the names of its classes, --classes FILE, and the usual preprocessing of ImageNet is assumed"
        )
    if len(run.shapes) != 1:
        raise WeightsError(f"{name}: has {counted(len(run.shapes), 'input')}, a classifier of images has one")
    (shape,) = run.shapes.values()
    sides = shape[2:]
    square = len(shape) == 4 and all(isinstance(side, str) or side == sides[0] for side in sides)
    (kind,) = run.types.values()
    if not square or shape[1] not in (1, 3) or kind not in ("f32", "tensor(float)"):
        told = " x ".join(map(str, shape))
        raise WeightsError(
            f"{name}: takes {told} of {kind}; a classifier takes batch x 3 x side x side in 32-bit floats"
        )
    side = sides[0] if isinstance(sides[0], int) else FOREIGN_SIDE
    preprocessing = Preprocessing(resize=side * 256 // 224, crop=side)
    if shape[1] == 1:
        preprocessing = Preprocessing(resize=side * 256 // 224, crop=side, mean=(0.5,), std=(0.5,), channels=1)
    random = torch.randn(1, shape[1], side, side, generator=torch.Generator().manual_seed(0))
    values = run(random)[0]
    if values.ndim != 2 or not values.is_floating_point():
        told = " x ".join(map(str, values.shape))
        raise WeightsError(f"{name}: its first output is {told} for one image, and a classifier gives a row of values")
    if values.shape[1] != len(names):
        raise _other_number(names, values.shape[1])
    of_probabilities = bool((values >= 0).all()) and abs(values.sum().item() - 1) < 1e-3
    known = ClassNames.of(names)
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    assumed = (
        f"{name}: says nothing of its preprocessing; the short side is resized to {preprocessing.resize}, the center "
        f"{side} x {side} is normalized by mean {mean} and standard deviation {std}; its output is taken for "
        f"{'probabilities' if of_probabilities else 'logits'}"
    )
    network = RunsFile(run, of_probabilities=of_probabilities)
    return ExportedModel(
        name, network, known.labels, preprocessing, "exported", Path(name), wnids=known.wnids, assumed=assumed
    )


def _other_number(names: list[str], outputs: Any) -> UsageError:
    return UsageError(f"--classes: holds {counted(len(names), 'name')}, the model has {counted(int(outputs), 'class')}")
