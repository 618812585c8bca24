"""torchvision's classifiers, by their torchvision names; the weights are those that torchvision calls the default."""

import os
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from mlcli.data.class_names import ClassNames, imagenet
from mlcli.data.preprocessing import LARGEST, Preprocessing
from mlcli.io import schema
from mlcli.models import artifacts
from mlcli.models.fitting import fill, fitted
from mlcli.models.sources.downloads import download, weights_folder
from mlcli.models.sources.source import Architecture, Entry, Options, PretrainedSpec, Source

OPTIONS = schema.record(
    {},
    {
        "image_size": schema.integer(1, LARGEST),
        "input_size": schema.items(schema.integer(1, LARGEST), 2, 2),
        "aux_logits": schema.boolean,
        "init_weights": schema.boolean,
        "transform_input": schema.boolean,
    },
    closed=True,
)
INCEPTIONS = ("googlenet", "inception_v3")  # with auxiliary heads, which serve training of days on ImageNet


def _published(name: str) -> Any:
    """What torchvision says of the default weights of a model."""
    import torchvision

    return torchvision.models.get_model_weights(name).DEFAULT


def weights_path(name: str) -> Path:
    """The file in which torchvision's download puts the weights of this model."""
    return weights_folder() / _published(name).url.rsplit("/", 1)[-1]


def parameters(name: str) -> int:
    """The number of parameters, for the 1000 classes of ImageNet."""
    return _published(name).meta["num_params"]


def _build(name: str, classes: int, **options: Any) -> nn.Module:
    import torchvision

    if name in INCEPTIONS:
        options = {"aux_logits": False, "init_weights": True, **options}  # stated, since torchvision warns of both
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **options)


def _options_for(name: str, size: int, channels: int = 3) -> Options:
    """The options of those architectures that are built for one size of images."""
    if name.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if name.startswith("maxvit") else {}


def _pretrained(name: str) -> PretrainedSpec:
    transforms = _published(name).transforms()
    options = _options_for(name, transforms.crop_size[0])
    if name in INCEPTIONS:
        options["transform_input"] = True  # their weights expect inputs scaled as their first authors did
    preprocessing = Preprocessing(
        transforms.resize_size[0],
        transforms.crop_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation.value,
        resampling="pillow",  # by which the accuracies of these weights were measured
    )
    return PretrainedSpec(ClassNames.of(imagenet()), preprocessing, options)


class TorchvisionModels(Source):
    def names(self) -> list[str]:
        import torchvision

        return torchvision.models.list_models(module=torchvision.models)

    def resolve(self, name: str) -> str | None:
        return name if name in self.names() else None

    def architecture(self, name: str) -> Architecture:
        return Architecture(
            name, partial(_build, name), OPTIONS, partial(_options_for, name), partial(_pretrained, name)
        )

    def stored(self, name: str) -> Path | None:
        file = weights_path(name)
        return file if os.path.isfile(file) else None

    def fetch(self, name: str, network: nn.Module) -> Path:
        """Load torchvision's weights, downloaded once. Raises WeightsError."""
        file = download(name, _published(name).url)
        fill(network, fitted(artifacts.read(file).tensors, network, file), file)
        return file

    def entry(self, name: str) -> Entry:
        published = _published(name)
        meta = published.meta
        return Entry(
            name,
            round(meta["num_params"] / 1e6, 1),
            published.transforms().crop_size[0],
            len(meta["categories"]),
            meta["_metrics"].get("ImageNet-1K", {}).get("acc@1"),
            meta.get("license"),
            self.stored(name) is not None,
        )


TORCHVISION = TorchvisionModels()
