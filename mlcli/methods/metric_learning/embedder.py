"""A Siamese network: one encoder for both images, a distance, and a threshold that was calibrated on unseen pairs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.data.content import cut_to_content
from mlcli.data.distortions import Distortion
from mlcli.errors import ImageError, UsageError
from mlcli.io.decoding import map_images
from mlcli.io.files import file_hash
from mlcli.io.image_io import to_unit
from mlcli.io.schema import Invalid, boolean, choice, integer, items, mapping, number, optional, record, text
from mlcli.methods.metric_learning.losses import Sphere, WeightedL1, Whitened
from mlcli.methods.metric_learning.roc import Logistic, Roc, platt
from mlcli.models import pretrained, registry
from mlcli.models.features import Activations, resolve
from mlcli.models.registry import Model
from mlcli.models.weight_files import damaged, model_file, read_tensors
from mlcli.runtime.device import Runtime

KIND = "Siamese network"
SPACES = {"sphere": Sphere, "weighted-l1": WeightedL1, "whitened": Whitened}
PLACES = 3  # along each side, to which maps are averaged: fewer than they have, since no two faces lie alike
VIEWS = Distortion(rotation=8.0, scale=0.1)  # of an image, over which f is averaged
SPACE = "space."  # how the names of the tensors of the space begin, in the file
DESCRIPTION = record(  # what a file says besides what it says of its model
    {
        "layer": text(500),
        "space": choice(*SPACES),
        "views": integer(1, 100),
        "mirrored": boolean,
        "content": boolean,
        "calibration": record(
            {
                "threshold": number(),
                "asked": optional(number(0, 1)),
                "equal_error": number(0, 1),
                "auc": number(0, 1),
                "probability": record({"slope": number(), "offset": number()}, closed=True),
            },
            {"pairs": mapping(integer(0, 1 << 62)), "curve": mapping(items(number()))},
            closed=True,
        ),
    }
)


@dataclass(frozen=True)
class Calibration:
    """What was learned from the pairs of identities that the network has not seen.

    asked: the false accept rate that the threshold is for; None for that of equal error. curve: of `Roc.points`.
    """

    threshold: float
    asked: float | None
    equal_error: float
    auc: float
    probability: Logistic
    pairs: dict[str, int] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, roc: Roc, asked: float | None) -> "Calibration":
        equal_error, threshold = roc.equal_error()
        if asked is not None:
            threshold = roc.at_false_accept(asked)
        pairs = {"same": len(roc.same), "different": len(roc.different)}
        return cls(threshold, asked, equal_error, roc.auc, platt(roc), pairs, roc.points())


@dataclass
class Siamese:
    """f and d: a model whose outputs are the encoder's, and the space in which they are compared.

    With a `layer` its maps take the place of the outputs (see `places`). f is the mean over so many `views` of an
    image, slightly turned and scaled, and over their mirror images if `mirrored`. content: it sees the part of an
    image that stands out from the border.
    """

    model: Model
    space: nn.Module
    views: int
    mirrored: bool
    content: bool
    runtime: Runtime
    calibration: Calibration | None = None
    layer: str = ""

    @torch.inference_mode()
    def points(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> (N, D) float32 on the CPU. WeightsError where one is no number."""
        return self.model.finite(self.space(self.seen(images).mean(0)).cpu(), self.runtime)

    @torch.inference_mode()
    def seen(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> (V, N, D) float32, what the encoder makes of each view."""
        images = to_unit(images).to(self.runtime.device)
        seen = [images]
        for view in VIEWS.around(self.views)[1:].to(images.device):
            seen.append(VIEWS.apply(images, view.expand(len(images), -1)))
        if self.mirrored:
            seen += [view.flip(-1) for view in seen]
        with self.runtime.autocast():
            return torch.stack([self.encode(view).float() for view in seen])

    @cached_property
    def encode(self) -> Callable[[Tensor], Tensor]:
        """(N, C, H, W) in [0, 1] -> (N, D)."""
        if not self.layer:
            return self.model
        activations = Activations(self.model, [self.layer])
        return lambda images: places(activations(images)[self.layer])

    def of_files(
        self, paths: Sequence[Path], *, batch_size: int = 100, workers: int | None = None
    ) -> Iterator[tuple[Path, Tensor | ImageError]]:
        """(path, point (D,)) for each image in order; an ImageError in place of a bad one's."""
        prepare = preparation(self.model, self.content)
        return map_images(paths, prepare, self.points, batch_size=batch_size, workers=workers)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """d of each of (N, D) and each of (M, D): (N, M)."""
        # By differences, not by products, which would cost near pairs their digits
        return torch.cdist(a, b, p=self.space.norm, compute_mode="donot_use_mm_for_euclid_dist")

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """d of each pair of rows of (N, D) and (N, D): (N,)."""
        return torch.linalg.vector_norm(a - b, ord=self.space.norm, dim=1)

    def state(self) -> dict[str, Tensor]:
        own = {SPACE + name: tensor for name, tensor in self.space.state_dict().items()}
        return {**self.model.network.state_dict(), **own}

    def describe(self) -> dict:
        """What a file of weights has to say of itself to be opened again."""
        space = next(name for name, kind in SPACES.items() if isinstance(self.space, kind))
        calibration = None if self.calibration is None else asdict(self.calibration)
        own = {"kind": KIND, "space": space, "views": self.views, "mirrored": self.mirrored, "content": self.content}
        return self.model.describe() | own | {"layer": self.layer, "calibration": calibration}

    @cached_property
    def hash(self) -> str:
        """sha256 of the file that it was read from."""
        return file_hash(self.model.weights_file)


def places(maps: Tensor) -> Tensor:
    """Maps of a layer (N, C, H, W), at least 0 -> (N, C * 9), of length 1: roots of their means over 3 x 3 regions.

    Roots keep a few strong places from deciding alone (Arandjelovic and Zisserman 2012).
    """
    means = F.adaptive_avg_pool2d(maps.float(), PLACES).clamp_min(0)
    return F.normalize(means.sqrt().flatten(1))


def preparation(model: Model, content: bool) -> Callable[[Tensor], Tensor]:
    """From an image as read to what the model takes; with `content`, of the part that stands out from the border."""
    prepare = model.preprocessing.prepare
    return (lambda image: prepare(cut_to_content(image))) if content else prepare


def learned(name: str, weights: Path | None) -> Model:
    """A model that has learned of other things. Raises UsageError for one that knows no classes, as `sobel`."""
    model = registry.load(name, weights)
    model.require_classes()
    return model


def encoder(model: Model | None, dimension: int, size: int, channels: int) -> Model:
    """An encoder with `dimension` outputs, for images of (channels, size, size).

    It keeps what `model` has learned, its preprocessing included where the size is the model's own, and has a new last
    layer; without a model it is a new `smallnet`. Raises UsageError where the network takes no such size.
    """
    outputs = [str(number) for number in range(dimension)]
    if model is None:
        return registry.create(registry.SMALLNET, outputs, size, channels)
    result = pretrained.learner(model, outputs, None if size == model.preprocessing.crop else size)
    result.network.requires_grad_(True)
    return result


def up_to(model: Model, layer: str, size: int | None) -> Model:
    """The model, to be used up to a layer of maps, and for images of another `size` if given.

    Raises UsageError where it has no such layer, or one without maps.
    """
    if size is not None:
        model.preprocessing = replace(model.preprocessing, resize=None, crop=size)
    if not (found := resolve(model, layer)).is_map or found.channels_last:
        raise UsageError(f"--layer {layer}: {found.kind} without maps; take a convolutional layer (see `mlcli layers`)")
    return model


def load(run: str | Path, runtime: Runtime) -> Siamese:
    """The network of a run of `mlcli siamese-train`, or of its model.safetensors. WeightsError where that is none."""
    file = model_file(run, "siamese-train")
    tensors, description = read_tensors(file)
    own = {name.removeprefix(SPACE): tensors.pop(name) for name in list(tensors) if name.startswith(SPACE)}
    if description.get("kind") == KIND:
        try:
            DESCRIPTION(description)
        except Invalid as error:
            raise damaged(file, error) from None
    model = registry.described(tensors, description, file, str(run), KIND)
    try:
        layer = description["layer"]
        space = SPACES[description["space"]](len(own["center"]) if layer else len(model.classes))
        space.load_state_dict(own)
        calibration = _calibration(description["calibration"])
        seeing = int(description["views"]), bool(description["mirrored"]), bool(description["content"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise damaged(file, error) from None
    try:
        if layer:
            resolve(model, layer)
        else:
            registry.check_size(
                model.network, model.architecture, model.preprocessing.crop, model.preprocessing.channels
            )
    except UsageError as error:
        raise damaged(file, str(error)) from None
    model.network.eval().requires_grad_(False)
    return Siamese(model.to(runtime), space.to(runtime.device), *seeing, runtime, calibration, layer)


def _calibration(description: Mapping) -> Calibration:
    return Calibration(**{**description, "probability": Logistic(**description["probability"])})
