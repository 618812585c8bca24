"""The registry of models: one way to name one, one object that knows its classes, preprocessing and layers.

A name is `cifarnet` (the embedded network), a torchvision classifier (`resnet50`), the folder of a run, or `sobel`, an
edge detector without classes, to look at beside what was learned.
"""

import difflib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mlcli.engine import images
from mlcli.engine.preprocessing import Preprocessing
from mlcli.engine.runtime import Runtime
from mlcli.engine.weight_files import download, fill, read_tensors, weights_path
from mlcli.errors import ImageError, UsageError, WeightsError
from mlcli.networks.translated import Translated
from mlcli.networks.unet import Segmenter, fitting_depth

EMBEDDED, SOBEL = "cifarnet", "sobel"
SMALLNET, SEGMENTER = "smallnet", "unet"
SMALL = (SMALLNET, "lenet", "digits")  # trained from scratch alone, as the segmenter is
TRANSLATED = "translated"  # one of the others behind a generator
CLASSIFIER, SEGMENTATION = "classifier", "segmenter"  # kinds of a file of weights


@dataclass
class Model:
    """A classifier with everything that belongs to it."""

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str
    weights_file: Path | None = None
    options: dict = field(default_factory=dict)

    def __call__(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> logits (N, classes). Raises UsageError without classes."""
        self.require_classes()
        return logits(self.network(self.normalised(pictures)))

    def to(self, runtime: Runtime) -> "Model":
        """The model with its network on the runtime's device, in its memory format."""
        self.network.to(runtime.device, memory_format=runtime.memory_format)
        return self

    def prepared(self, pictures: Tensor) -> Tensor:
        """Gray or colour pictures (N, 1 or 3, H, W) of any size, as the model takes them, of the same dtype."""
        return torch.stack([self.preprocessing.prepare(picture) for picture in pictures.expand(-1, 3, -1, -1)])

    def normalised(self, pictures: Tensor) -> Tensor:
        """What the network itself is given, in the memory format of its weights."""
        pictures = self.preprocessing.normalise(pictures)
        weights = next((p for p in self.network.parameters() if p.ndim == 4), None)
        if weights is not None and weights.is_contiguous(memory_format=torch.channels_last):
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        return pictures

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
            raise UsageError(f"--model {self.name}: knows no classes; take a classifier (see `mlcli models`)")

    def class_index(self, name: str) -> int:
        """Index of a class by its name or number. Raises UsageError with the nearest names."""
        if name in self.classes:
            return self.classes.index(name)
        if name.isascii() and name.isdigit() and int(name) < len(self.classes):
            return int(name)
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
            "preprocessing": asdict(self.preprocessing),
        }


def logits(output) -> Tensor:
    """The logits of a network's output (GoogLeNet and Inception in training return auxiliary ones as well)."""
    return output if isinstance(output, Tensor) else output[0]


# -- by name -------------------------------------------------------------------------------------------------


def load(name: str = EMBEDDED, weights: str | Path | None = None, *, untrained: bool = False) -> Model:
    """The model of this name, on the CPU, in evaluation mode.

    weights: a .safetensors or .pth file that takes the place of the model's own weights.
    untrained: random weights will do where the model's own are not on this disk (to list its layers).
    Raises UsageError for an unknown name, WeightsError for weights that are absent or do not fit.
    """
    run = os.path.join(name, "model.safetensors")
    if os.path.isfile(run):
        model = from_file(run, name)
    elif os.path.isfile(os.path.join(name, "config.json")):
        raise WeightsError(f"{name}: this run has no model yet; let its training end (--resume)")
    elif name == EMBEDDED:
        with resources.as_file(resources.files("mlcli") / "weights" / "cifarnet.safetensors") as file:
            model = from_file(file, name)
    elif name == SOBEL:
        model = _sobel()
    elif name in torchvision_names():
        model = _torchvision(name)
        if weights is None and not (untrained and not weights_path(name).is_file()):
            model = _with_weights(model, download(name))
    else:
        raise UsageError(f"--model {name}: neither a run folder nor a known model{nearest(name, names())}")
    if weights is not None:
        model = _with_weights(model, weights)
    model.network.eval().requires_grad_(False)
    return model


def names() -> list[str]:
    """Every model that can be named, the embedded one first."""
    return [EMBEDDED, SOBEL, *torchvision_names()]


def torchvision_names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def create(architecture: str, classes: Sequence[str], size: int, channels: int = 3) -> Model:
    """A new model with random weights, for training from scratch on pictures of (size, size).

    Raises UsageError for an unknown architecture, or one that cannot be built for this size or these channels.
    """
    options: dict = {}
    trainable = [EMBEDDED, *SMALL, SEGMENTER, *torchvision_names()]
    if architecture == EMBEDDED:
        smallest = 16
        if size < smallest:
            raise UsageError(f"--size {size}: {architecture} needs at least {smallest} pixels")
        if channels != 3:
            options["channels"] = channels
    elif architecture in SMALL:
        options = {"channels": channels} | ({} if architecture == "digits" else {"size": size})
    elif architecture == SEGMENTER:
        options = {"channels": channels, "depth": min(4, fitting_depth(size, size))}
    elif architecture not in trainable:
        raise UsageError(f"--model {architecture}: unknown architecture{nearest(architecture, trainable)}")
    elif channels != 3:
        raise UsageError(f"--gray: {architecture} takes colour pictures; leave --gray out, or take {EMBEDDED}")
    else:
        options = _sized(architecture, size)
    try:
        network = _network(architecture, len(classes), options)
    except (ValueError, AssertionError) as error:
        raise UsageError(f"--size {size}: {architecture} cannot be built for it ({error})") from None
    _try(network, architecture, size, channels)
    # 0.5 and 0.25 bring [0, 1] to about unit variance whatever the pictures are; batch norm does the rest.
    preprocessing = Preprocessing(crop=size, mean=(0.5,) * channels, std=(0.25,) * channels, channels=channels)
    return Model(architecture, network, tuple(classes), preprocessing, architecture, options=options)


def untrained(model: Model, classes: Sequence[str]) -> Model:
    """A model of the same architecture and preprocessing for these classes, with random weights."""
    options = dict(model.options)
    if "aux_logits" in options:
        options["aux_logits"] = False  # heads of training, and of other classes
    network = _network(model.architecture, len(classes), options)
    return replace(model, network=network, classes=tuple(classes), weights_file=None, options=options)


def with_classes(model: Model, classes: Sequence[str]) -> Model:
    """The model with a last layer for these classes, of random weights; below it the model's own."""
    result = untrained(model, classes)
    fresh = result.network.state_dict()
    kept = {name: t for name, t in model.network.state_dict().items() if name in fresh and t.shape == fresh[name].shape}
    result.network.load_state_dict(fresh | kept)
    return result


def _try(network: nn.Module, architecture: str, size: int, channels: int) -> None:
    """Raise UsageError where pictures of this size do not pass through the network. Shapes alone are computed."""
    weights = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    try:
        functional_call(network.eval(), weights, torch.empty(1, channels, size, size, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(f"--size {size}: does not suit {architecture} ({str(error).splitlines()[0]})") from None


def _sized(architecture: str, size: int) -> dict:
    """The options of those torchvision architectures that are built for one size of pictures."""
    if architecture.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if architecture.startswith("maxvit") else {}


def _network(architecture: str, classes: int, options: Mapping) -> nn.Module:
    """The network of an architecture; `options` are what its constructor takes besides."""
    if architecture == EMBEDDED:
        from mlcli.networks.cifarnet import CifarNet

        return CifarNet(classes, **options)
    if architecture == SMALLNET:
        from mlcli.networks.smallnet import SmallNet

        return SmallNet(classes, **options)
    if architecture in SMALL:
        from mlcli.networks.lenet import DigitsNet, LeNet

        return (LeNet if architecture == "lenet" else DigitsNet)(classes, **options)
    if architecture == SEGMENTER:
        return Segmenter(classes, **options)
    if architecture == TRANSLATED:
        from mlcli.engine import translators

        inner = _network(options["architecture"], classes, options["options"])
        return Translated(translators.network(options["generator"]), inner, options["mean"], options["std"])
    import torchvision

    if architecture in ("googlenet", "inception_v3"):
        # Stated, since torchvision warns of both. The auxiliary heads serve training of days on ImageNet.
        options = {"aux_logits": False, "init_weights": True, **options}
    return torchvision.models.get_model(architecture, weights=None, num_classes=classes, **options)


def default_size(architecture: str, paths: Sequence[Path]) -> int:
    """The side to train at when none is given: the short side of the first readable picture, at most what suits."""
    if architecture not in (EMBEDDED, *SMALL):
        return 224
    for path in paths:
        try:
            return max(16, min(64, *images.read(path).shape[1:]))
        except ImageError:
            continue
    return 32


def from_file(file: str | Path, name: str | None = None, kind: str = CLASSIFIER) -> Model:
    """The model of a kind in a safetensors file that this tool wrote. Raises WeightsError."""
    return described(*read_tensors(file), file, name or str(file), kind)


def file_of(run: str | Path) -> Path:
    """The file of weights of a run folder; a file as it is. Raises WeightsError where the run has none yet."""
    file = Path(run) / "model.safetensors" if os.path.isdir(run) else Path(run)
    if (file.parent / "config.json").is_file() and not file.exists():
        raise WeightsError(f"{run}: this run has no model yet; let its training end (--resume)")
    return file


def described(
    tensors: Mapping[str, Tensor], description: Mapping, file: str | Path, name: str, kind: str = CLASSIFIER
) -> Model:
    """The model that a file describes itself as. Raises WeightsError where it is of another kind or damaged."""
    if description.get("kind") != kind:
        other = description.get("kind", "file without a description")
        raise WeightsError(f"{file}: holds a {other}, not a {kind} that this tool trained")
    try:
        architecture, classes = description["architecture"], tuple(description["classes"])
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in description["preprocessing"].items()}
        options = dict(description["options"])
        network = _network(architecture, len(classes), options)
        model = Model(name, network, classes, Preprocessing(**settings), architecture, Path(file), options)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise WeightsError(f"{file}: its description is damaged or of another version ({error!r})") from None
    fill(network, tensors, file)
    return model


def _with_weights(model: Model, file: str | Path) -> Model:
    """The model with the weights of a file: a classifier of its architecture that this tool wrote, or plain tensors."""
    tensors, description = read_tensors(file)
    if not description:
        if model.architecture in ("googlenet", "inception_v3"):
            # Some files carry the auxiliary heads of training and some do not.
            model.options["aux_logits"] = any(key.lower().startswith("aux") for key in tensors)
            model.network = _network(model.architecture, len(model.classes), model.options)
        fill(model.network, tensors, file)
        model.weights_file = Path(file)
        return model
    other = described(tensors, description, file, model.name)
    if other.architecture != model.architecture:
        raise WeightsError(f"{file}: weights of {other.architecture}, not of {model.architecture}")
    return other


def _sobel() -> Model:
    from mlcli.networks.sobel import Sobel

    return Model(SOBEL, Sobel(), (), Preprocessing(crop=128, mean=(0.0,) * 3, std=(1.0,) * 3), SOBEL)


def _torchvision(name: str) -> Model:
    """A torchvision classifier as its ImageNet weights want it, with random weights."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    classes, transforms = tuple(weights.meta["categories"]), weights.transforms()
    options = _sized(name, transforms.crop_size[0])
    if name in ("googlenet", "inception_v3"):
        options["transform_input"] = True  # their weights expect inputs scaled as their first authors did
    preprocessing = Preprocessing(
        transforms.resize_size[0],
        transforms.crop_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation.value,
    )
    return Model(name, _network(name, len(classes), options), classes, preprocessing, name, options=options)


def catalogue() -> list[dict]:
    """What `mlcli models` lists: name, parameters in millions, input size, ImageNet top-1, weights on this disk."""
    import torchvision

    entries = []
    for own in (load(EMBEDDED), load(SOBEL)):
        million = sum(p.numel() for p in own.network.parameters()) / 1e6
        entries.append(_entry(own.name, million, own.preprocessing.crop, len(own.classes), None, True))
    for name in torchvision_names():
        weights = torchvision.models.get_model_weights(name).DEFAULT
        meta = weights.meta
        top1 = meta["_metrics"].get("ImageNet-1K", {}).get("acc@1")
        size, here = weights.transforms().crop_size[0], weights_path(name).is_file()
        entries.append(_entry(name, meta["num_params"] / 1e6, size, len(meta["categories"]), top1, here))
    return entries


def _entry(name: str, million: float, size: int, classes: int, top1: float | None, here: bool) -> dict:
    return {
        "name": name,
        "million_parameters": round(million, 1),
        "size": size,
        "classes": classes,
        "weights_on_disk": here,
        "imagenet_top1": top1,
    }


def nearest(name: str, known: Sequence[str]) -> str:
    """'; did you mean …?' with the known names closest to this one, for an error message."""
    lower = {other.lower(): other for other in known}
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
