"""Classifiers, segmenters and translators as subjects of an export."""

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.imaging import image_io
from mlcli.models.artifacts import CLASSIFIER, SEGMENTER
from mlcli.models.exports.preprocessing_graph import PreprocessingGraph
from mlcli.models.exports.subject import CLASSES, FEATURES, IMAGES, INSIDE, LOGITS, PIXELS, Subject, batches
from mlcli.models.model import Model, logits
from mlcli.models.structure import features
from mlcli.models.structure.graph import graph_of
from mlcli.models.translators import TRANSLATOR, Translator

ANY_SIZE = {0: "batch", 2: "height", 3: "width"}


class ClassifierOutputs(nn.Module):
    """Normalized images (N, C, crop, crop) -> (logits (N, K), features (N, D)), or those of them that there are.

    The features are the last hidden layer, a map averaged over its positions, as `mlcli neighbors` compares them.
    names: of the outputs.  layer: the address of the last hidden layer; "" where there is none to be found.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.network, self.layer = model.network, ""
        self.traced: fx.GraphModule | None = None
        self.names: tuple[str, ...] = (LOGITS,) if model.classes else (FEATURES,)
        try:
            graph, self.hidden = graph_of(model), features.hidden(model)
        except UsageError:  # it cannot be traced, or has no hidden layer: what it gives is all there is
            return
        end = graph.trace.graph.output_node().args[0]
        end = end[0] if isinstance(end, (tuple, list)) else end  # GoogLeNet gives auxiliary logits too
        node = next(node for node, layer in graph.layer_of.items() if layer is self.hidden)
        if model.classes and isinstance(end, fx.Node):
            self.traced, self.names = graph.trace.module({LOGITS: end, FEATURES: node}), (LOGITS, FEATURES)
            self.layer = self.hidden.address

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.traced is None:
            return (logits(self.network(images)),)
        values = self.traced.forward(images)
        return values[LOGITS], features.vectors(values[FEATURES], self.hidden)


class SegmenterOutputs(nn.Module):
    """Normalized images (N, C, side, side) -> (logits (N, K, side, side),)."""

    def __init__(self, model: Model):
        super().__init__()
        self.network = model.network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (logits(self.network(images)),)


class TranslatorOutputs(nn.Module):
    """The generator between images: (N, C, H, W) in [0, 1] (of maps one-hot) -> ((N, C', H, W) in [0, 1],)."""

    def __init__(self, translator: Translator):
        super().__init__()
        self.network, self.maps_in = translator.network, bool(translator.source.labels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.network(images if self.maps_in else images * 2 - 1) * 0.5 + 0.5,)


def of_classifier(model: Model, *, inside: bool = False) -> Subject:
    """A classifier, or a network without classes, which gives features alone.

    inside: whether the file preprocesses images itself, which are bytes of any size then.
    """
    outputs = ClassifierOutputs(_plain(model))
    description = _description(model, model.preprocessing, inside) | {"features_layer": outputs.layer}
    made = _of_images(CLASSIFIER.name, outputs, outputs.names, description, model.preprocessing, inside)
    return replace(made, measure=CLASSES if model.classes else made.measure)


def of_segmenter(model: Model, *, inside: bool = False) -> Subject:
    """A segmenter, which gives the logits of the classes at each pixel of the image resized to its own size."""
    whole = replace(model.preprocessing, squash=True, resize=None, interpolation="bicubic", resampling="torch")
    outputs, description = SegmenterOutputs(_plain(model)), _description(model, whole, inside)
    return replace(_of_images(SEGMENTER.name, outputs, (LOGITS,), description, whole, inside), measure=PIXELS)


def of_translator(translator: Translator, direction: str | None = None) -> Subject:
    """A generator. Height and width are free; sides are multiples of `translator.multiple`."""
    # In plain fp32 and contiguous memory, which is what the file holds
    network = TranslatorOutputs(translator).to("cpu").to(memory_format=torch.contiguous_format).eval()
    height, width = (max(side, translator.smallest) for side in translator.size)
    example = torch.rand(1, translator.source.width, height, width, generator=torch.Generator().manual_seed(0))

    def read(path: Path) -> Tensor:
        image = translator.source.resize(translator.source.read(path), (height, width))
        given = translator.source.normalized_input(image[None])[0]
        return given if translator.source.labels else given * 0.5 + 0.5

    description = {
        "direction": direction,
        "source": asdict(translator.source),
        "target": asdict(translator.target),
        "size": [height, width],
        "multiple": translator.multiple,
    }
    free = {IMAGES: ANY_SIZE, "translated": ANY_SIZE}
    pair = torch.cat([example, example.flip(2, 3)]).repeat(1, 1, 1, 2)
    return Subject(TRANSLATOR.name, network, {IMAGES: pair}, ("translated",), free, description, read)


def _plain(model: Model) -> Model:
    """A copy on the CPU, in evaluation mode and contiguous memory; the model itself stays as it is."""
    network = copy.deepcopy(model.network).to("cpu").to(memory_format=torch.contiguous_format).eval()
    return replace(model, network=network)


def _description(model: Model, preprocessing: Preprocessing, inside: bool) -> dict[str, Any]:
    return {
        "model": model.name,
        "architecture": model.architecture,
        "weights_sha256": model.hash,
        "classes": list(model.classes),
        **({"wnids": list(model.wnids)} if model.wnids else {}),
        "preprocessing": asdict(preprocessing),
        INSIDE: inside,
    }


def reader(preprocessing: Preprocessing, inside: bool) -> Callable[[Path], Tensor]:
    """What reads the file of an image as the network takes it, without the batch."""

    def read(path: Path) -> Tensor:
        image = image_io.read(path)
        return image_io.to_bytes(image) if inside else preprocessing.normalize(preprocessing.prepare(image)[None])[0]

    return read


def _of_images(
    kind: str,
    outputs: nn.Module,
    names: tuple[str, ...],
    description: dict[str, Any],
    preprocessing: Preprocessing,
    inside: bool,
) -> Subject:
    random, size = torch.Generator().manual_seed(0), preprocessing.crop
    if inside:
        network: nn.Module = nn.Sequential(PreprocessingGraph(preprocessing), outputs)
        height, width = size + 21, size + 40
        example = torch.randint(0, 256, (2, 3, height, width), generator=random, dtype=torch.uint8)
    else:
        network = outputs
        example = torch.randn(2, preprocessing.channels, size, size, generator=random)
    free = {**batches((IMAGES, *names)), **({IMAGES: ANY_SIZE} if inside else {})}
    read = reader(preprocessing, inside)
    return Subject(kind, network.eval(), {IMAGES: example}, names, free, description, read)
