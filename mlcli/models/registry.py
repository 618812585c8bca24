"""Models by name: one way to name one, one object that knows its classes, preprocessing and layers.

A name is `efficientnet_lite0` (ImageNet, from a package), `cifarnet` (the embedded network), a classifier of
torchvision (`resnet50`) or of timm (`timm/resnet50`, or `resnet50d`, which torchvision has not), the folder of a run,
or `sobel`, an edge detector without classes, for comparison with learned filters.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from mlcli.data.class_names import ClassNames
from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError, did_you_mean, reason
from mlcli.models import artifacts, building, catalog
from mlcli.models.exports.files import is_exported
from mlcli.models.model import Model
from mlcli.models.model_files import from_file, named, with_weights
from mlcli.models.sources import builtin
from mlcli.models.sources.source import Architecture
from mlcli.runtime.device import Runtime


def load(
    name: str,
    weights: str | Path | None = None,
    *,
    classes: str | Path | None = None,
    untrained: bool = False,
    runs_on: Runtime | None = None,
) -> Model:
    """The model of this name, on the CPU, in evaluation mode.

    weights: a .safetensors or .pth file that takes the place of the model's own weights.
    classes: a file with the names of the classes, in the order of the outputs, for `weights` that do not bring them.
    untrained: random weights will do where the model's own are not on this disk (to list its layers).
    runs_on: what an exported file is to be run on; without it such a file is refused, since it has no layers.
    Raises UsageError for an unknown name, WeightsError for weights that are absent or do not fit.
    """
    if is_exported(name):
        return _exported(name, weights, classes, runs_on)
    if os.path.isfile(file := os.path.join(name, artifacts.MODEL_FILE)):
        model = from_file(file, name)
    elif artifacts.is_run(name):
        raise artifacts.no_model_yet(name)
    elif is_of_run(name):
        model = _of_weights(name)
    else:
        model = _of_source(name, wants_weights=weights is None, untrained=untrained)
    if weights is not None:
        model = with_weights(model, weights, classes)
    elif classes is not None:
        model = named(model, classes)
    model.network.eval().requires_grad_(False)
    return model


def is_of_run(name: str) -> bool:
    """Whether `load` reads the model from the folder of a run, what is left of one, or its file.

    The name of a known model stands for that model, whatever file is called so.
    """
    is_folder = os.path.isfile(os.path.join(name, artifacts.MODEL_FILE)) or artifacts.is_run(name)
    return is_folder or (os.path.isfile(name) and catalog.resolved(name) is None)


def _of_weights(file: str) -> Model:
    """The model of a file of weights that this tool wrote; others do not say of which network they are."""
    if artifacts.kind_of(Path(file)) is None:
        raise UsageError(
            f"--model {file}: a file of weights that does not say of which network; give it as --weights, and the "
            "network as --model"
        )
    return from_file(file)


def _exported(name: str, weights: str | Path | None, classes: str | Path | None, runs_on: Runtime | None) -> Model:
    """The model of an ONNX or OpenVINO file."""
    if runs_on is None:
        raise UsageError(
            f"--model {name}: an exported file, which `mlcli classify` and `mlcli neighbors` run; take the model that "
            "it was made of"
        )
    if weights is not None:
        raise UsageError(f"--weights: an exported file, {name}, has its own; leave it out")
    from mlcli.models.exports import exported_model

    return exported_model.load(name, classes, runs_on)


def _of_source(name: str, *, wants_weights: bool, untrained: bool) -> Model:
    """The model of an architecture that has pretrained weights. Raises UsageError where there is none."""
    architecture = catalog.resolved(name)
    if architecture is None or catalog.architecture(architecture).pretrained is None:
        if os.path.isdir(name):
            raise UsageError(f"--model {name}: a folder without a model; name the folder of a run")
        near = did_you_mean(name, catalog.nameable())
        raise UsageError(f"--model {name}: neither a run folder nor a known model{near}")
    model = as_pretrained(architecture, name)
    source = catalog.source(architecture)
    if wants_weights and not (untrained and source.stored(architecture) is None):
        model.weights_file = source.fetch(architecture, model.network)
    return model


def as_pretrained(architecture: str, name: str) -> Model:
    """The model as its pretrained weights want it, with random weights."""
    known = catalog.architecture(architecture)
    if known.pretrained is None:
        raise ValueError(f"{architecture}: has no pretrained weights")
    spec = known.pretrained()
    network = known.build(len(spec.names.labels), spec.options)
    labels, wnids = spec.names.labels, spec.names.wnids
    return Model(name, network, labels, spec.preprocessing, architecture, options=dict(spec.options), wnids=wnids)


def trainable(name: str) -> Architecture:
    """The architecture that a name stands for, to be trained from scratch. Raises UsageError for an unknown one."""
    resolved = catalog.resolved(name)
    if resolved is not None and (known := catalog.architecture(resolved)).trainable:
        return known
    names = [other for other, known in builtin.ARCHITECTURES.items() if known.trainable]
    names += [other for other in catalog.nameable() if other != builtin.SOBEL]
    raise UsageError(f"--model {name}: unknown architecture{did_you_mean(name, names)}")


def create(architecture: str, classes: Sequence[str], size: int, channels: int = 3) -> Model:
    """A new model with random weights, for training from scratch on images of (size, size).

    Raises UsageError for an unknown architecture, or one that cannot be built for this size or these channels.
    """
    known = trainable(architecture)
    if channels not in known.channels:
        raise UsageError(f"--gray: {architecture} takes color images; leave --gray out, or take cifarnet")
    if size < known.smallest:
        raise UsageError(f"--size {size}: {architecture} needs at least {known.smallest} pixels")
    options = known.options_for(size, channels)
    try:
        network = known.build(len(classes), options)
    except (ValueError, AssertionError, TypeError) as error:
        raise UsageError(f"--size {size}: {architecture} cannot be built for it ({reason(error)})") from None
    shape = building.check_size(network, architecture, size, channels)
    if shape[:2] != (1, len(classes)):
        values = " x ".join(map(str, shape[1:]))
        raise UsageError(f"--model {architecture}: is no classifier, its output is {values}; take another model")
    # 0.5 and 0.25 bring [0, 1] to about unit variance whatever the images are; batch norm does the rest.
    preprocessing = Preprocessing(crop=size, mean=(0.5,) * channels, std=(0.25,) * channels, channels=channels)
    names = ClassNames.of(classes)
    return Model(architecture, network, names.labels, preprocessing, known.name, options=options, wnids=names.wnids)
