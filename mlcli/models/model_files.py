"""Models from files of weights: from those that describe themselves, and from plain tensors for a known network."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.data.class_names import ClassNames, read_class_file
from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError, WeightsError
from mlcli.io.schema import Invalid
from mlcli.models import artifacts, building, catalog, lookalikes
from mlcli.models.artifacts import CLASSIFIER, SEGMENTER, Artifact, ArtifactKind
from mlcli.models.fitting import Misfit, advice, built, classes_of, fill, fitted
from mlcli.models.last_layer import untrained
from mlcli.models.model import Model


def from_file(file: str | Path, name: str | None = None) -> Model:
    """The classifier in a file that this tool wrote. Raises WeightsError."""
    return described(artifacts.read(file), name or str(file))


def described(artifact: Artifact, name: str, kind: ArtifactKind = CLASSIFIER) -> Model:
    """The model that a file describes itself as. Raises WeightsError where it is of another kind or damaged."""
    artifact.require(kind)
    description = artifact.description
    with artifact.description_checked():
        architecture, classes = description["architecture"], tuple(description["classes"])
        wnids, options = tuple(description.get("wnids", ())), dict(description["options"])
        if wnids and len(wnids) != len(classes):
            raise Invalid(f"are {len(wnids)} for {counted(len(classes), 'class')}", ("wnids",))
        preprocessing = Preprocessing.of(description["preprocessing"])
        building.check_options(architecture, options)
        network = built(lambda: building.network(architecture, len(classes), options), artifact.tensors, artifact.file)
    model = Model(name, network, classes, preprocessing, architecture, artifact.file, options, wnids)
    if kind in (CLASSIFIER, SEGMENTER):
        with artifact.description_checked():
            _check_outputs(model)
    return model


def _check_outputs(model: Model) -> None:
    """Raise Invalid where the network does not give one value for each class of the images that it is said to take."""
    crop, channels, classes = model.preprocessing.crop, model.preprocessing.channels, len(model.classes)
    try:
        shape = building.check_size(model.network, model.architecture, crop, channels)
    except UsageError as error:
        raise Invalid(f"crop {crop}, channels {channels}: {error}") from None
    if classes and shape[:2] != (1, classes):
        values = " x ".join(map(str, shape[1:]))
        raise Invalid(f"crop {crop}: the output is {values} for {counted(classes, 'class')}")


def with_weights(model: Model, file: str | Path, classes: str | Path | None) -> Model:
    """The model with the weights of a file: a classifier of its architecture that this tool wrote, or plain tensors.

    Of plain tensors the number of classes is read from the last layer. Their names are those of the file `classes`;
    without one, the model's own where there are as many, else numbers. Tensors without a last layer make a model
    without classes, to be fine-tuned or visualized, whose last layer is zero.
    """
    artifact = artifacts.read(file)
    if artifact.description:
        model = _described_weights(model, artifact)
        return model if classes is None else named(model, classes)
    tensors = _converted(model, fitted(artifact.tensors, model.network, file))
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
            remedy = advice(tensors, misfit, head) or lookalikes.advice(tensors, model.architecture)
            raise WeightsError(f"{file}: does not fit {model.name}: {misfit}{remedy}")
        tensors |= {key: torch.zeros_like(own[key]) for key in head}
        model = replace(model, classes=(), wnids=())
    if classes is not None:
        model = named(model, classes)
    fill(model.network, tensors, file)
    return replace(model, weights_file=Path(file))


def _converted(model: Model, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are where they have the network's names, else converted, where a way is known."""
    misfit = Misfit.between(tensors, model.network.state_dict())
    if not (misfit.missing and misfit.unknown) or model.architecture == building.TRANSLATED:
        return tensors
    return catalog.source(model.architecture).converted(model.architecture, model.network, tensors) or tensors


def _described_weights(model: Model, artifact: Artifact) -> Model:
    """The model of a file that this tool wrote. Raises WeightsError where its network is built otherwise."""
    other = described(artifact, model.name)
    # Names that differ may stand for one architecture: timm/resnet50, and timm/resnet50.a1_in1k
    misfit = Misfit.between(other.network.state_dict(), model.network.state_dict())
    if other.architecture != model.architecture and not misfit.fits_but_for_classes():
        known = f"; take --model {other.architecture}" if catalog.resolved(other.architecture) else ""
        raise WeightsError(f"{artifact.file}: weights of {other.architecture}, not of {model.architecture}{known}")
    return other


def named(model: Model, file: str | Path) -> Model:
    """The model with the names of its classes from a file. Raises UsageError where there are not as many."""
    classes = read_class_file(file)
    if len(classes) != len(model.classes):
        raise UsageError(
            f"--classes {file}: holds {counted(len(classes), 'name')}, the model has "
            f"{counted(len(model.classes), 'class')}"
        )
    names = ClassNames.of(classes)
    return replace(model, classes=names.labels, wnids=names.wnids)
