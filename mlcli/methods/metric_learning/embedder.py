"""A Siamese network: one encoder for both images, a distance, and a threshold calibrated on unseen identities."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.content import cut_to_content
from mlcli.data.distortions import Distortion
from mlcli.errors import ImageError, UsageError
from mlcli.imaging.decoding import map_images
from mlcli.imaging.image_io import to_unit
from mlcli.imaging.memory_images import MemoryImage
from mlcli.io.files import file_hash
from mlcli.io.schema import boolean, choice, integer, items, mapping, number, optional, record, text
from mlcli.methods.metric_learning.losses import Space, Sphere, WeightedL1, Whitened
from mlcli.methods.metric_learning.roc import Logistic, Roc, platt
from mlcli.models import artifacts, building, model_files, pretrained, registry
from mlcli.models.artifacts import MODEL_DESCRIPTION, ArtifactKind
from mlcli.models.model import Model
from mlcli.models.sources.builtin import SMALLNET
from mlcli.models.structure.features import Activations, resolve
from mlcli.runtime.device import Runtime

SPACES: dict[str, type[Space]] = {"sphere": Sphere, "weighted-l1": WeightedL1, "whitened": Whitened}
REGIONS = 3  # along each side, over which maps are averaged: few, since no two faces are aligned exactly
VIEWS = Distortion(rotation=8.0, scale=0.1)  # the range of the views over which f is averaged
SPACE = "space."  # prefix of the names of the space's tensors in a file
DESCRIPTION = record(  # the metadata of a file, beyond that of its model
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


def _check_description(description: Mapping[str, Any]) -> None:
    MODEL_DESCRIPTION(description)
    DESCRIPTION(description)


EMBEDDER = ArtifactKind("Siamese network", "siamese-train", _check_description)


@dataclass(frozen=True)
class Calibration:
    """The threshold and error rates on pairs of identities that the network was not trained on.

    asked: the false accept rate that the threshold is set for; None for the threshold of equal error. curve: as
    `Roc.points` returns it.
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
        """The calibration by the ROC curve of some pairs."""
        equal_error, threshold = roc.equal_error()
        if asked is not None:
            threshold = roc.at_false_accept(asked)
        pairs = {"same": len(roc.same), "different": len(roc.different)}
        return cls(threshold, asked, equal_error, roc.auc, platt(roc), pairs, roc.points())


@dataclass
class Siamese:
    """The encoder f and the distance d: a model, and the space in which its outputs are compared.

    layer: where given, the maps of this layer are used instead of the outputs (see `regional`). f is the mean over
    `views` slightly rotated and scaled views of an image, and over their flipped copies if `flip`. content: images are
    cropped to what stands out from their border.
    """

    model: Model
    space: Space
    views: int
    flip: bool
    content: bool
    runtime: Runtime
    calibration: Calibration | None = None
    layer: str = ""

    @torch.inference_mode()
    def points(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> (N, D) float32 on the CPU. WeightsError for values not finite."""
        return self.model.finite(self.space(self.encoded_views(images).mean(0)).cpu(), self.runtime)

    @torch.inference_mode()
    def encoded_views(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> (V, N, D) float32, the encoder's output for each view."""
        images = to_unit(images).to(self.runtime.device)
        views = [images]
        for view in VIEWS.around(self.views)[1:].to(images.device):
            views.append(VIEWS.apply(images, view.expand(len(images), -1)))
        if self.flip:
            views += [view.flip(-1) for view in views]
        with self.runtime.autocast():
            return torch.stack([self.encode(view).float() for view in views])

    @cached_property
    def encode(self) -> Callable[[Tensor], Tensor]:
        """(N, C, H, W) in [0, 1] -> (N, D)."""
        if not self.layer:
            return self.model
        activations = Activations(self.model, [self.layer])
        return lambda images: regional(activations(images)[self.layer])

    def of_files(
        self, paths: Sequence[Path | MemoryImage], *, batch_size: int = 100, workers: int | None = None
    ) -> Iterator[tuple[Path | MemoryImage, Tensor | ImageError]]:
        """(path, point (D,)) for each image in order; an ImageError instead of the point for an unreadable image."""
        prepare = preparation(self.model, self.content)
        return map_images(paths, prepare, self.points, batch_size=batch_size, workers=workers)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (N, M) between all points of (N, D) and of (M, D)."""
        # By differences, not by products, which are inaccurate for near pairs.
        return torch.cdist(a, b, p=self.space.norm, compute_mode="donot_use_mm_for_euclid_dist")

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (N,) between corresponding points of (N, D) and (N, D)."""
        return torch.linalg.vector_norm(a - b, ord=self.space.norm, dim=1)

    def state(self) -> dict[str, Tensor]:
        """The tensors for a file of weights."""
        own = {SPACE + name: tensor for name, tensor in self.space.state_dict().items()}
        return {**self.model.network.state_dict(), **own}

    def describe(self) -> dict[str, Any]:
        """The metadata that a file of weights needs to be opened again."""
        space = next(name for name, space_type in SPACES.items() if isinstance(self.space, space_type))
        calibration = None if self.calibration is None else asdict(self.calibration)
        own = {"space": space, "views": self.views, "mirrored": self.flip, "content": self.content}
        own |= {"kind": EMBEDDER.name, "layer": self.layer, "calibration": calibration}
        return self.model.describe() | own

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file that it was read from; it must have been read from one."""
        assert self.model.weights_file is not None
        return file_hash(self.model.weights_file)


def regional(maps: Tensor) -> Tensor:
    """Maps of a layer (N, C, H, W) -> unit vectors (N, C * 9): square roots of the means over 3 x 3 regions.

    Negative means count as 0. The roots keep a few strong activations from dominating (Arandjelovic and Zisserman
    2012).
    """
    pool = _pooled_by_products if torch.onnx.is_in_onnx_export() else F.adaptive_avg_pool2d
    return F.normalize(pool(maps.float(), REGIONS).clamp_min(0).sqrt().flatten(1))


def _pooled_by_products(maps: Tensor, regions: int) -> Tensor:
    """`adaptive_avg_pool2d` by matrix products, since ONNX has none for regions of unequal sizes."""
    rows, columns = (_averages(int(side), regions) for side in maps.shape[2:])
    return rows @ maps @ columns.T


def _averages(side: int, regions: int) -> Tensor:
    """(regions, side): the weights of the pixels along a side in the mean of each region, as torch divides it."""
    bounds = [(i * side // regions, -(-(i + 1) * side // regions)) for i in range(regions)]
    return torch.tensor([[(a <= pixel < b) / (b - a) for pixel in range(side)] for a, b in bounds])


def preparation(model: Model, content: bool) -> Callable[[Tensor], Tensor]:
    """The preprocessing of an image as read; with `content` it is cropped to what stands out from the border first."""
    prepare = model.preprocessing.prepare
    return (lambda image: prepare(cut_to_content(image))) if content else prepare


def pretrained_model(name: str, weights: Path | None) -> Model:
    """A model trained on other data. Raises UsageError for one without classes, as `sobel`."""
    model = registry.load(name, weights)
    model.require_classes()
    return model


def encoder(model: Model | None, dimension: int, size: int, channels: int) -> Model:
    """An encoder with `dimension` outputs, for images of (channels, size, size).

    It starts from the weights of `model`, with its preprocessing where the size is the model's own, and has a new last
    layer; without a model it is a new `smallnet`. Raises UsageError where the network does not take this size.
    """
    outputs = [str(number) for number in range(dimension)]
    if model is None:
        return registry.create(SMALLNET, outputs, size, channels)
    result = pretrained.learner(model, outputs, None if size == model.preprocessing.crop else size)
    result.network.requires_grad_(True)
    return result


def up_to(model: Model, layer: str, size: int | None) -> Model:
    """The model for use up to a layer of maps, and for images of another `size` if given.

    Raises UsageError where it has no such layer, or the layer has no maps.
    """
    if size is not None:
        model.preprocessing = replace(model.preprocessing, resize=None, crop=size)
    if not (found := resolve(model, layer)).is_map or found.channels_last:
        raise UsageError(f"--layer {layer}: {found.kind} without maps; take a convolutional layer (see `mlcli layers`)")
    return model


def load(run: str | Path, runtime: Runtime) -> Siamese:
    """The network of a run of `mlcli siamese-train`, or of its model.safetensors. WeightsError for any other file."""
    artifact = artifacts.read_run(run, EMBEDDER)
    tensors, description = dict(artifact.tensors), artifact.description
    own = {name.removeprefix(SPACE): tensors.pop(name) for name in artifact.tensors if name.startswith(SPACE)}
    model = model_files.described(replace(artifact, tensors=tensors), str(run), EMBEDDER)
    with artifact.description_checked():
        layer = description["layer"]
        space = SPACES[description["space"]](len(own["center"]) if layer else len(model.classes))
        space.load_state_dict(own)
        calibration = _calibration(description["calibration"])
        views, flip, content = int(description["views"]), description["mirrored"], description["content"]
        if layer:
            resolve(model, layer)
        else:
            building.check_size(
                model.network, model.architecture, model.preprocessing.crop, model.preprocessing.channels
            )
    model.network.eval().requires_grad_(False)
    space = space.to(runtime.device)
    return Siamese(model.to(runtime), space, views, bool(flip), bool(content), runtime, calibration, layer)


def _calibration(description: Mapping[str, Any]) -> Calibration:
    return Calibration(**{**description, "probability": Logistic(**description["probability"])})
