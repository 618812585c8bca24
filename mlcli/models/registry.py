"""The registry of models: one way to name one, one object that knows its classes, preprocessing and layers.

A name is `efficientnet_lite0` (ImageNet, from a package), `cifarnet` (the embedded network), a classifier of
torchvision (`resnet50`) or of timm (`timm/resnet50`, or `resnet50d`, which torchvision has not), the folder of a run,
or `sobel`, an edge detector without classes, to look at beside what was learned.
"""

import difflib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mlcli.data.class_names import ClassNames, read_class_file
from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import ImageError, UsageError, WeightsError, reason
from mlcli.io import image_io
from mlcli.io.schema import Invalid, items, mapping, number, record, text
from mlcli.models import lookalikes
from mlcli.models.fitting import Misfit, advice, classes_of, fitted
from mlcli.models.sources import Entry, builtin, lite, timm_models, torchvision_models
from mlcli.models.sources.builtin import EMBEDDED, SEGMENTER, SMALL, SMALLNET, SOBEL
from mlcli.models.weight_files import built, damaged, fill, read_tensors
from mlcli.networks.translated import Translated
from mlcli.runtime.device import Runtime

__all__ = ["EMBEDDED", "SEGMENTER", "SMALL", "SMALLNET", "SOBEL"]  # as others here name them

SOURCES: tuple[ModuleType, ...] = (lite, builtin, torchvision_models, timm_models)
TRANSLATED = "translated"  # one of the others behind a generator
CLASSIFIER, SEGMENTATION = "classifier", "segmenter"  # kinds of a file of weights
CLASSES = items(text(500), 0, 1_000_000)
# What a file of weights says of its model; the options are checked by the source of the architecture
DESCRIPTION = record(
    {"architecture": text(200), "options": mapping(), "classes": CLASSES, "preprocessing": mapping()},
    {"wnids": CLASSES},
)
BEHIND = record(  # the options of a model behind a generator
    {
        "generator": mapping(),
        "architecture": text(200),
        "options": mapping(),
        "mean": items(number(), 1, 3),
        "std": items(number(1e-6), 1, 3),
    },
    closed=True,
)


@dataclass
class Model:
    """A classifier with everything that belongs to it.

    classes: their labels, no two equal.  wnids: their WordNet ids; empty where classes are no synsets.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str
    weights_file: Path | None = None
    options: dict = field(default_factory=dict)
    wnids: tuple[str, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> logits (N, classes). Raises UsageError without classes."""
        self.require_classes()
        return logits(self.network(self.normalized(images)))

    def to(self, runtime: Runtime) -> "Model":
        """The model with its network on the runtime's device, in its memory format."""
        self.network.to(runtime.device, memory_format=runtime.memory_format)
        return self

    def prepared(self, images: Tensor) -> Tensor:
        """Gray or color images (N, 1 or 3, H, W) of any size, as the model takes them, of the same dtype."""
        return torch.stack([self.preprocessing.prepare(image) for image in images.expand(-1, 3, -1, -1)])

    def normalized(self, images: Tensor) -> Tensor:
        """What the network itself is given, in the memory format of its weights."""
        images = self.preprocessing.normalize(images)
        weights = next((p for p in self.network.parameters() if p.ndim == 4), None)
        if weights is not None and weights.is_contiguous(memory_format=torch.channels_last):
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def finite(self, values: Tensor, runtime: Runtime) -> Tensor:
        """The values that the network computed. Raises WeightsError where one of them is no number."""
        if not values.isfinite().all():
            advice = ", or try --precision fp32" if runtime.precision != "fp32" else ""
            raise WeightsError(
                f"{self.name}: answers with no number in {runtime.precision}; its weights are damaged{advice}"
            )
        return values

    def require_classes(self) -> None:
        """Raise UsageError where the model is no classifier."""
        if not self.classes:
            lacking = f" by the weights of {self.weights_file}; finetune it, or" if self.weights_file else ";"
            raise UsageError(f"--model {self.name}: knows no classes{lacking} take a classifier (see `mlcli models`)")

    @property
    def names(self) -> ClassNames:
        return ClassNames(self.classes, self.wnids)

    def class_index(self, name: str) -> int:
        """Index of a class by its label, WordNet id, synonym or number.

        Raises UsageError with the nearest names for an unknown one, with the ids for one that stands for several.
        """
        names = self.names
        found = names.matches(name)
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(names.ambiguity(name, found))
        raise UsageError(f"{name}: no class of {self.name}{nearest(name, self.classes)}")

    @cached_property
    def hash(self) -> str:
        """sha256 of the weights (names, shapes and values); what a result is reproduced by."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()

    @property
    def has_batch_norm(self) -> bool:
        return any(isinstance(module, nn.BatchNorm2d) for module in self.network.modules())

    def describe(self) -> dict:
        """What a file of weights has to say of itself to be opened again."""
        return {
            "kind": SEGMENTATION if SEGMENTER in (self.architecture, self.options.get("architecture")) else CLASSIFIER,
            "architecture": self.architecture,
            "options": self.options,
            "classes": list(self.classes),
            **({"wnids": list(self.wnids)} if self.wnids else {}),
            "preprocessing": asdict(self.preprocessing),
        }


def logits(output) -> Tensor:
    """The logits of a network's output (GoogLeNet and Inception in training return auxiliary ones as well)."""
    return output if isinstance(output, Tensor) else output[0]


# -- by name -------------------------------------------------------------------------------------------------


def load(
    name: str,
    weights: str | Path | None = None,
    *,
    classes: str | Path | None = None,
    untrained: bool = False,
) -> Model:
    """The model of this name, on the CPU, in evaluation mode.

    weights: a .safetensors or .pth file that takes the place of the model's own weights.
    classes: a file with the names of the classes, in the order of the outputs, for `weights` that do not bring them.
    untrained: random weights will do where the model's own are not on this disk (to list its layers).
    Raises UsageError for an unknown name, WeightsError for weights that are absent or do not fit.
    """
    if os.path.isfile(os.path.join(name, "model.safetensors")):
        model = from_file(os.path.join(name, "model.safetensors"), name)
    elif os.path.isfile(os.path.join(name, "config.json")):
        raise WeightsError(f"{name}: this run has no model yet; let its training end (--resume)")
    elif (
        (architecture := resolved(name)) is not None
        and architecture not in builtin.BUILDERS
        or name in (EMBEDDED, SOBEL)
    ):
        model = _of_source(architecture, name)
        if weights is None and not (untrained and _stored(architecture) is None):
            model.weights_file = source(architecture).fetch(architecture, model.network)
    else:
        raise UsageError(f"--model {name}: neither a run folder nor a known model{nearest(name, nameable())}")
    if weights is not None:
        model = _with_weights(model, weights, classes)
    elif classes is not None:
        model = _named(model, read_class_file(classes), classes)
    model.network.eval().requires_grad_(False)
    return model


def source(architecture: str) -> ModuleType:
    """The module of `mlcli.models.sources` that has this architecture. Raises ValueError where none has."""
    for module in SOURCES:
        if module.has(architecture):
            return module
    raise ValueError(f"{architecture}: unknown architecture")


def resolved(name: str) -> str | None:
    """The architecture that a name stands for; a bare name that timm alone has is timm's. None for an unknown name."""
    if any(module.has(name) for module in SOURCES[:-1]):
        return name
    return name if timm_models.has(name) else timm_models.full_name(name)


def nameable() -> list[str]:
    """Every model that can be named, the default first, those of timm last."""
    return [name for module in SOURCES for name in module.names()]


def _of_source(architecture: str, name: str) -> Model:
    """The model as its own weights want it, with random weights."""
    known = source(architecture).blueprint(architecture)
    network = _network(architecture, len(known.names.labels), known.options)
    labels, wnids = known.names.labels, known.names.wnids
    return Model(name, network, labels, known.preprocessing, architecture, options=dict(known.options), wnids=wnids)


def _stored(architecture: str) -> Path | None:
    return source(architecture).stored(architecture)


def create(architecture: str, classes: Sequence[str], size: int, channels: int = 3) -> Model:
    """A new model with random weights, for training from scratch on images of (size, size).

    Raises UsageError for an unknown architecture, or one that cannot be built for this size or these channels.
    """
    known = resolved(architecture)
    if known is None or known == SOBEL:
        trainable = [name for name in (*builtin.trainable(), *nameable()) if name != SOBEL]
        raise UsageError(f"--model {architecture}: unknown architecture{nearest(architecture, trainable)}")
    options = source(known).sized(known, size, channels)
    try:
        network = _network(known, len(classes), options)
    except (ValueError, AssertionError, TypeError) as error:
        raise UsageError(f"--size {size}: {architecture} cannot be built for it ({reason(error)})") from None
    shape = check_size(network, architecture, size, channels)
    if shape[:2] != (1, len(classes)):
        values = " x ".join(map(str, shape[1:]))
        raise UsageError(f"--model {architecture}: is no classifier, it gives {values} values; take another model")
    # 0.5 and 0.25 bring [0, 1] to about unit variance whatever the images are; batch norm does the rest.
    preprocessing = Preprocessing(crop=size, mean=(0.5,) * channels, std=(0.25,) * channels, channels=channels)
    names = ClassNames.of(classes)
    return Model(architecture, network, names.labels, preprocessing, known, options=options, wnids=names.wnids)


def untrained(model: Model, classes: Sequence[str]) -> Model:
    """A model of the same architecture and preprocessing for these classes, with random weights."""
    options = {name: value for name, value in model.options.items() if name != "num_classes"}
    if "aux_logits" in options:
        options["aux_logits"] = False  # heads of training, and of other classes
    network, names = _network(model.architecture, len(classes), options), ClassNames.of(classes)
    return replace(model, network=network, classes=names.labels, wnids=names.wnids, weights_file=None, options=options)


def with_classes(model: Model, classes: Sequence[str]) -> Model:
    """The model with a last layer for these classes, of random weights; below it the model's own."""
    result = untrained(model, classes)
    fresh = shapes = result.network.state_dict()
    if len(classes) == len(model.classes):  # which may be others all the same: shapes alone do not tell the last layer
        shapes = untrained(model, [*classes, "one more"]).network.state_dict()
    known = model.network.state_dict()
    kept = {name: t for name, t in known.items() if name in shapes and t.shape == shapes[name].shape}
    result.network.load_state_dict(fresh | kept)
    return result


def check_size(network: nn.Module, architecture: str, size: int, channels: int) -> tuple[int, ...]:
    """The shape of what the network gives for one image of this size. Shapes alone are computed.

    Raises UsageError where such an image does not pass through it.
    """
    weights = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    try:
        result = functional_call(network.eval(), weights, torch.empty(1, channels, size, size, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(f"--size {size}: does not suit {architecture} ({reason(error)})") from None
    return tuple(logits(result).shape)


def _check_options(architecture: str, options: Mapping, depth: int = 3) -> None:
    """Raise Invalid, or ValueError for an unknown architecture, where a file names options that none of ours have."""
    if architecture != TRANSLATED:
        source(architecture).OPTIONS(options)
        return
    if not depth:
        raise Invalid("stands behind too many generators", ("architecture",))
    BEHIND(options)
    _check_options(options["architecture"], options["options"], depth - 1)


def _network(architecture: str, classes: int, options: Mapping) -> nn.Module:
    """The network of an architecture; `options` are what its constructor takes besides."""
    if architecture == TRANSLATED:
        from mlcli.models import translators

        inner = _network(options["architecture"], classes, options["options"])
        return Translated(translators.network(options["generator"]), inner, options["mean"], options["std"])
    return source(architecture).build(architecture, classes, dict(options))


def default_size(architecture: str, paths: Sequence[Path]) -> int:
    """The side to train at when none is given: the short side of the first readable image, at most what suits."""
    return first_side(paths, 16, 64) if architecture in (EMBEDDED, *SMALL) else 224


def first_side(paths: Sequence[Path], least: int, most: int) -> int:
    """The short side of the first readable image, within these bounds; 32 or `least` where there is none."""
    for path in paths:
        try:
            return max(least, min(most, *image_io.read(path).shape[1:]))
        except ImageError:
            continue
    return max(least, 32)


def from_file(file: str | Path, name: str | None = None, kind: str = CLASSIFIER) -> Model:
    """The model of a kind in a safetensors file that this tool wrote. Raises WeightsError."""
    return described(*read_tensors(file), file, name or str(file), kind)


def described(
    tensors: Mapping[str, Tensor], description: Mapping, file: str | Path, name: str, kind: str = CLASSIFIER
) -> Model:
    """The model that a file describes itself as. Raises WeightsError where it is of another kind or damaged."""
    if description.get("kind") != kind:
        other = description.get("kind", "file without a description")
        raise WeightsError(f"{file}: holds a {other}, not a {kind} that this tool trained")
    try:
        DESCRIPTION(description)
        architecture, classes = description["architecture"], tuple(description["classes"])
        wnids, options = tuple(description.get("wnids", ())), dict(description["options"])
        if wnids and len(wnids) != len(classes):
            raise Invalid(f"are {len(wnids)} for {len(classes)} classes", ("wnids",))
        preprocessing = Preprocessing.of(description["preprocessing"])
        _check_options(architecture, options)
        network = built(lambda: _network(architecture, len(classes), options), tensors, file)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise damaged(file, error) from None
    if kind in (CLASSIFIER, SEGMENTATION):
        try:
            shape = check_size(network, architecture, preprocessing.crop, preprocessing.channels)
        except UsageError as error:
            raise damaged(file, f"crop {preprocessing.crop}, channels {preprocessing.channels}: {error}") from None
        if classes and shape[:2] != (1, len(classes)):
            values = " x ".join(map(str, shape[1:]))
            raise damaged(file, f"crop {preprocessing.crop}: gives {values} values for {len(classes)} classes")
    return Model(name, network, classes, preprocessing, architecture, Path(file), options, wnids)


def _with_weights(model: Model, file: str | Path, classes: str | Path | None) -> Model:
    """The model with the weights of a file: a classifier of its architecture that this tool wrote, or plain tensors.

    Of plain tensors the number of classes is read from the last layer. Their names are those of the file `classes`;
    without one, the model's own where there are as many, else numbers. Tensors without a last layer make a model
    without classes, to be finetuned or looked at, whose last layer is zero.
    """
    tensors, description = read_tensors(file)
    if description:
        model = _described_weights(model, tensors, description, file)
        return model if classes is None else _named(model, read_class_file(classes), classes)
    tensors = _converted(model, fitted(tensors, model.network, file))
    outputs = model.options.get("num_classes", len(model.classes))
    count = classes_of(tensors, model.network.state_dict(), outputs)
    if count == 1:
        raise WeightsError(f"{file}: its last layer has one output, as of a yes or no; a classifier has one a class")
    if count is not None:
        model, outputs = untrained(model, [str(number) for number in range(count)]), count
    own = model.network.state_dict()
    misfit = Misfit.between(tensors, own)
    if misfit:
        wider = untrained(model, [str(number) for number in range(outputs + 1)]).network.state_dict()
        head = [key for key in own if own[key].shape != wider[key].shape]
        if misfit.unknown or misfit.shapes or set(misfit.missing) != set(head):
            reason = advice(tensors, misfit, head) or lookalikes.advice(tensors, model.architecture)
            raise WeightsError(f"{file}: does not fit {model.name}: {misfit}{reason}")
        tensors |= {key: torch.zeros_like(own[key]) for key in head}
        model = replace(model, classes=(), wnids=())
    if classes is not None:
        model = _named(model, read_class_file(classes), classes)
    fill(model.network, tensors, file)
    return replace(model, weights_file=Path(file))


def _converted(model: Model, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are where they have the network's names, else converted, where a way is known."""
    misfit = Misfit.between(tensors, model.network.state_dict())
    if not (misfit.missing and misfit.unknown) or model.architecture == TRANSLATED:
        return tensors
    return source(model.architecture).converted(model.architecture, model.network, tensors) or tensors


def _described_weights(model: Model, tensors: Mapping, description: Mapping, file: str | Path) -> Model:
    """The model of a file that this tool wrote. Raises WeightsError where its network is built otherwise."""
    other = described(tensors, description, file, model.name)
    # Names that differ may stand for one architecture: timm/resnet50, and timm/resnet50.a1_in1k
    misfit = Misfit.between(other.network.state_dict(), model.network.state_dict())
    if other.architecture != model.architecture and not misfit.fits_but_for_classes():
        known = f"; take --model {other.architecture}" if resolved(other.architecture) else ""
        raise WeightsError(f"{file}: weights of {other.architecture}, not of {model.architecture}{known}")
    return other


def _named(model: Model, classes: Sequence[str], file: str | Path) -> Model:
    """The model with other names for its classes. Raises UsageError where there are not as many."""
    if len(classes) != len(model.classes):
        raise UsageError(f"--classes {file}: holds {len(classes)} names, the model has {len(model.classes)} classes")
    names = ClassNames.of(classes)
    return replace(model, classes=names.labels, wnids=names.wnids)


def count_of_timm() -> int:
    """How many architectures the catalog leaves out without a pattern."""
    return len(timm_models.names())


def catalog(pattern: str | None = None) -> list[Entry]:
    """What `mlcli models` lists: those whose name fits the pattern (* and ?), or all but timm's."""
    modules = SOURCES if pattern else SOURCES[:-1]
    return [
        module.entry(name) for module in modules for name in module.names() if not pattern or fnmatchcase(name, pattern)
    ]


def nearest(name: str, known: Sequence[str]) -> str:
    """'; did you mean …?' with the known names closest to this one, for an error message."""
    lower = {other.lower(): other for other in known}
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
