"""A Siamese network as the subject of an export: images to points, whose distance tells identities apart."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.data.distortions import sampled
from mlcli.errors import UsageError
from mlcli.imaging import image_io
from mlcli.methods.metric_learning.embedder import EMBEDDER, VIEWS, Siamese, preparation
from mlcli.methods.metric_learning.losses import Space
from mlcli.models.exports.model_subjects import ANY_SIZE
from mlcli.models.exports.preprocessing_graph import PreprocessingGraph
from mlcli.models.exports.subject import IMAGES, INSIDE, Subject, batches

POINTS = "points"


class EmbedderOutputs(nn.Module):
    """Images (N, C, crop, crop) in [0, 1] -> (points (N, D),), the mean over the views, as `Siamese.points` has it."""

    space: Space
    encode: Callable[[Tensor], Tensor]
    grids: Tensor  # (views beyond the first, crop, crop, 2)

    def __init__(self, siamese: Siamese):
        super().__init__()
        self.network, self.space = siamese.model.network, siamese.space
        self.encode, self.flip = siamese.encode, siamese.flip
        crop = siamese.model.preprocessing.crop
        self.register_buffer("grids", VIEWS.grid(VIEWS.around(siamese.views)[1:], (crop, crop)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        views = [images]
        for grid in self.grids.unbind(0):
            views.append(sampled(images, grid[None] + 0 * images[:, 0, :, :, None]))  # a grid for each image
        if self.flip:
            views += [view.flip(-1) for view in views]
        return (self.space(torch.stack([self.encode(view) for view in views]).mean(0)),)


def subject(siamese: Siamese, *, inside: bool = False) -> Subject:
    """The encoder with its space; the distance, the threshold and the calibration are in the description.

    Raises UsageError where the preprocessing is to be inside and begins with a crop to the content, which has no form
    in ONNX.
    """
    if inside and siamese.content:
        raise UsageError("--preprocessing-inside: this network crops images to their content first; leave it out")
    model = siamese.model
    channels, size = model.preprocessing.channels, model.preprocessing.crop
    plain = replace(model.preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels)  # the network normalizes
    outputs = EmbedderOutputs(siamese).to("cpu").to(memory_format=torch.contiguous_format).eval()
    random, prepare = torch.Generator().manual_seed(0), preparation(model, siamese.content)
    if inside:
        network: nn.Module = nn.Sequential(PreprocessingGraph(plain), outputs).eval()
        example = torch.randint(0, 256, (2, 3, size + 21, size + 40), generator=random, dtype=torch.uint8)
    else:
        network, example = outputs, torch.rand(2, channels, size, size, generator=random)

    def read(path: Any) -> Tensor:
        image = image_io.read(path)
        return image_io.to_bytes(image) if inside else image_io.to_unit(prepare(image))

    calibration = siamese.calibration
    description = {
        "model": model.name,
        "architecture": model.architecture,
        "weights_sha256": siamese.hash,
        "preprocessing": asdict(plain),
        INSIDE: inside,
        "content": siamese.content,
        "norm": siamese.space.norm,
        "threshold": None if calibration is None else calibration.threshold,
        "probability": None if calibration is None else asdict(calibration.probability),
    }
    free = {**batches((IMAGES, POINTS)), **({IMAGES: ANY_SIZE} if inside else {})}
    return Subject(EMBEDDER.name, network, {IMAGES: example}, (POINTS,), free, description, read)
