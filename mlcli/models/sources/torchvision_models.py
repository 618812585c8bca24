"""torchvision's classifiers, by their torchvision names; the weights are those that torchvision calls the default."""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mlcli.data.class_names import ClassNames, imagenet
from mlcli.data.preprocessing import LARGEST, Preprocessing
from mlcli.errors import UsageError
from mlcli.io import schema
from mlcli.models.fitting import fitted
from mlcli.models.sources import Blueprint, Entry
from mlcli.models.weight_files import download, fill, read_tensors, weights_path

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


def names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def has(name: str) -> bool:
    return name in names()


def blueprint(name: str) -> Blueprint:
    import torchvision

    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    options = _sized(name, transforms.crop_size[0])
    if name in INCEPTIONS:
        options["transform_input"] = True  # their weights expect inputs scaled as their first authors did
    preprocessing = Preprocessing(
        transforms.resize_size[0],
        transforms.crop_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation.value,
    )
    return Blueprint(ClassNames.of(imagenet()), preprocessing, options)


def build(name: str, classes: int, options: dict) -> nn.Module:
    import torchvision

    if not has(name):
        raise ValueError(f"{name}: not a classifier of torchvision")
    OPTIONS(options)
    if name in INCEPTIONS:
        options = {"aux_logits": False, "init_weights": True, **options}  # stated, since torchvision warns of both
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **options)


def sized(name: str, size: int, channels: int) -> dict:
    if channels != 3:
        raise UsageError(f"--gray: {name} takes color images; leave --gray out, or take cifarnet")
    return _sized(name, size)


def _sized(name: str, size: int) -> dict:
    """The options of those architectures that are built for one size of images."""
    if name.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if name.startswith("maxvit") else {}


def stored(name: str) -> Path | None:
    file = weights_path(name)
    return file if os.path.isfile(file) else None


def fetch(name: str, network: nn.Module) -> Path:
    """Load torchvision's weights, downloaded once. Raises WeightsError."""
    file = download(name)
    tensors, _ = read_tensors(file)
    fill(network, fitted(tensors, network, file), file)
    return file


def converted(name: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    return None


def entry(name: str) -> Entry:
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    meta = weights.meta
    return Entry(
        name,
        round(meta["num_params"] / 1e6, 1),
        weights.transforms().crop_size[0],
        len(meta["categories"]),
        meta["_metrics"].get("ImageNet-1K", {}).get("acc@1"),
        meta.get("license"),
        stored(name) is not None,
    )
