"""The registry of models: one way to name one, one object that knows its classes, preprocessing and layers.

A name is `cifarnet` (the embedded network), a torchvision classifier (`resnet50`), or the folder of a run.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from mlcli.engine import images
from mlcli.engine.images import to_gray, to_unit
from mlcli.engine.runtime import Runtime
from mlcli.errors import ImageError, UsageError, WeightsError

EMBEDDED = "cifarnet"


@dataclass(frozen=True)
class Preprocessing:
    """What a picture goes through on its way into the network.

    The short side is resized to `resize` pixels, the centre (crop, crop) is kept, channels are normalised by `mean`
    and `std` (for values in [0, 1]). `channels` is 1 for networks of gray pictures.
    """

    resize: int = 32
    crop: int = 32
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    channels: int = 3

    def prepare(self, image: Tensor) -> Tensor:
        """One picture (3, H, W), uint8 or float in [0, 1] -> (channels, crop, crop) of the same type, not normalised."""
        image = resize(image, self.resize, self.interpolation)
        image = centre_crop(image, self.crop)
        return to_gray(image) if self.channels == 1 else image

    def normalise(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> float32, normalised."""
        mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (self.mean, self.std))
        return (to_unit(pictures) - mean) / std


def resize(image: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """(C, H, W) with its short side resized to `size`, antialiased, the ratio kept; values as torchvision's."""
    height, width = image.shape[1:]
    short = min(height, width)
    if short == size:
        return image
    # torchvision truncates the long side as well
    target = (size, int(size * width / height)) if height <= width else (int(size * height / width), size)
    if image.dtype == torch.uint8 or interpolation == "bilinear":
        out = nn.functional.interpolate(image[None], target, mode=interpolation, antialias=True)
    else:
        out = nn.functional.interpolate(image[None], target, mode=interpolation, antialias=True).clamp(0, 1)
    return out[0]


def centre_crop(image: Tensor, size: int) -> Tensor:
    """The middle (C, size, size); pictures that are too small are padded with black, as torchvision does."""
    height, width = image.shape[1:]
    if height < size or width < size:
        left, top = max(0, size - width) // 2, max(0, size - height) // 2
        right, bottom = max(0, size - width) - left, max(0, size - height) - top
        image = nn.functional.pad(image, (left, right, top, bottom))
        height, width = image.shape[1:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[:, top : top + size, left : left + size]


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

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> logits (N, classes)."""
        return logits(self.network(self.normalised(images)))

    def to(self, runtime: Runtime) -> "Model":
        """The model with its network on the runtime's device, in its memory format."""
        self.network.to(runtime.device, memory_format=runtime.memory_format)
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """What the network itself is given, in the memory format of its weights."""
        images = self.preprocessing.normalise(images)
        weights = next((p for p in self.network.parameters() if p.ndim == 4), None)
        if weights is not None and weights.is_contiguous(memory_format=torch.channels_last):
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def class_index(self, name: str) -> int:
        """Index of a class by its name or number; UsageError with the nearest names."""
        if name in self.classes:
            return self.classes.index(name)
        if name.isdigit() and int(name) < len(self.classes):
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

    def describe(self) -> dict:
        """What a file of weights has to say of itself to be opened again."""
        return {
            "kind": "classifier",
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
    folder = Path(name)
    if (folder / "model.safetensors").is_file() or (folder / "config.json").is_file():
        model = from_file(weights or folder / "model.safetensors", name=name)
    elif name == EMBEDDED:
        with resources.as_file(resources.files("mlcli") / "weights" / "cifarnet.safetensors") as file:
            model = from_file(weights or file, name=name)
    elif name in torchvision_names():
        absent = weights is None and not weights_path(name).is_file()
        model = create(name, range(1000), 224) if untrained and absent else _torchvision(name, weights)
    else:
        raise UsageError(f"--model {name}: neither a run folder nor a known model{nearest(name, names())}")
    model.network.eval().requires_grad_(False)
    return model


def names() -> list[str]:
    """Every model that can be named, the embedded one first."""
    return [EMBEDDED, *torchvision_names()]


def torchvision_names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def create(architecture: str, classes: Sequence[str], size: int, channels: int = 3) -> Model:
    """A new model with random weights, for training from scratch on pictures of (size, size)."""
    if architecture == EMBEDDED:
        from mlcli.networks.cifarnet import CifarNet

        network = CifarNet(len(classes), channels)
        smallest = 16
        if size < smallest:
            raise UsageError(f"--size {size}: {architecture} needs at least {smallest} pixels")
    elif architecture in torchvision_names():
        import torchvision

        if channels != 3:
            raise UsageError(f"--gray: {architecture} takes colour pictures; leave --gray out, or take {EMBEDDED}")
        network = torchvision.models.get_model(architecture, weights=None, num_classes=len(classes))
    else:
        raise UsageError(f"--model {architecture}: unknown architecture{nearest(architecture, names())}")
    # 0.5 and 0.25 bring [0, 1] to about unit variance whatever the pictures are; batch norm does the rest.
    preprocessing = Preprocessing(size, size, (0.5,) * channels, (0.25,) * channels, channels=channels)
    options = {"channels": channels} if channels != 3 else {}
    return Model(architecture, network, tuple(classes), preprocessing, architecture, options=options)


def default_size(architecture: str, paths: Sequence[Path]) -> int:
    """The side to train at when none is given: the short side of the first readable picture, at most what suits."""
    if architecture != EMBEDDED:
        return 224
    for path in paths:
        try:
            return max(16, min(64, *images.read(path).shape[1:]))
        except ImageError:
            continue
    return 32


def from_file(file: str | Path, name: str | None = None) -> Model:
    """The classifier in a safetensors file that this tool wrote."""
    tensors, description = read_tensors(file)
    if description.get("kind") != "classifier":
        kind = description.get("kind", "file without a description")
        raise WeightsError(f"{file}: holds a {kind}, not a classifier that this tool trained")
    settings = description["preprocessing"]
    settings = Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    model = create(description["architecture"], description["classes"], settings.crop, settings.channels)
    model.preprocessing, model.name, model.weights_file = settings, name or str(file), Path(file)
    _fill(model.network, tensors, file)
    return model


def _torchvision(name: str, file: str | Path | None) -> Model:
    """A torchvision classifier with its own ImageNet weights, or those of a file."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    classes, file = tuple(weights.meta["categories"]), Path(file) if file else download(name)
    tensors, description = read_tensors(file)
    classes = tuple(description.get("classes", classes))
    options = {}
    if name in ("googlenet", "inception_v3"):
        # Their published weights carry auxiliary heads and expect inputs scaled as their first authors did.
        auxiliary = any(key.lower().startswith("aux") for key in tensors)
        options = {"aux_logits": auxiliary, "transform_input": True, "init_weights": False}
    network = torchvision.models.get_model(name, weights=None, num_classes=len(classes), **options)
    _fill(network, tensors, file)
    transforms = weights.transforms()
    preprocessing = Preprocessing(
        transforms.resize_size[0],
        transforms.crop_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation.value,
    )
    return Model(name, network, classes, preprocessing, name, Path(file))


def catalogue() -> list[dict]:
    """What `mlcli models` lists: name, parameters in millions, input size, ImageNet top-1, weights on this disk."""
    import torchvision

    embedded = load()
    million = sum(p.numel() for p in embedded.network.parameters()) / 1e6
    size = embedded.preprocessing.crop
    entries = [_entry(EMBEDDED, million, size, len(embedded.classes), None, True)]
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


def weights_folder() -> Path:
    """Where torchvision's downloads go; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def weights_path(name: str) -> Path:
    """The file in which torchvision's download puts the weights of this model."""
    import torchvision

    return weights_folder() / torchvision.models.get_model_weights(name).DEFAULT.url.rsplit("/", 1)[-1]


def download(name: str) -> Path:
    """The file of a torchvision model's weights, fetched once (torch.hub draws the progress on stderr)."""
    import torchvision

    file = weights_path(name)
    if file.is_file():
        return file
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rsplit("-", 1)[-1]
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest, progress=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong digest is a RuntimeError
        raise WeightsError(
            f"{name}: its weights are not on this disk and could not be downloaded ({error}). "
            f"Put {url} at {file}, or give a file with --weights"
        ) from None
    return file


def read_tensors(file: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a .safetensors or .pth file, and the description in it (empty where there is none).

    .pth files are read with weights_only: no code in them is run.
    """
    file = Path(file)
    try:
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, "pt") as opened:
                description = json.loads((opened.metadata() or {}).get("mlcli", "{}"))
                return {key: opened.get_tensor(key) for key in opened.keys()}, description
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such file of weights") from None
    except Exception as error:  # each format has its own kinds of damage
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file}: cannot be read as weights ({reason}); .safetensors and .pth are") from None
    if isinstance(tensors, Mapping) and isinstance(tensors.get("state_dict"), Mapping):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise WeightsError(f"{file}: holds no plain mapping of names to tensors; save the network's state_dict()")
    return dict(tensors), {}


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], file: str | Path) -> None:
    own = network.state_dict()
    wrong = [key for key in own if key in tensors and own[key].shape != tensors[key].shape]
    # torchvision's own files of older models lack the batch counters
    missing = [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]
    unknown = [key for key in tensors if key not in own]
    for problem, keys in (("lacks", missing), ("has the unknown", unknown), ("has another shape for", wrong)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise WeightsError(f"{file}: {problem} {', '.join(keys[:3])}{more}; it was made for another architecture")
    network.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=False)


def nearest(name: str, known: Sequence[str]) -> str:
    """'; did you mean …?' with the known names closest to this one, for an error message."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
