"""A small network with a known answer, and the scorer of its targets."""

from pathlib import Path

import pytest
import torch

from mlcli.imaging import image_io
from mlcli.methods.explanation.layer_maps import last_layer
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Targets
from mlcli.models import registry
from mlcli.runtime.device import Runtime

PHOTOS = Path("samples/photos")
CPU = Runtime(torch.device("cpu"), "fp32")


@pytest.fixture(scope="package")
def cifarnet():
    return registry.load("cifarnet").to(CPU)


@pytest.fixture(scope="package")
def images(cifarnet):
    """Two normalized photographs (2, 3, 32, 32)."""
    photos = [image_io.read(PHOTOS / name) for name in ("cat.jpg", "astronaut.jpg")]
    return cifarnet.normalized(torch.stack([cifarnet.preprocessing.prepare(photo) for photo in photos]))


@pytest.fixture(scope="package")
def scored():
    """(model, texts of targets) -> (scorer, the targets of an image of any answer)."""

    def make(model, *texts):
        targets = Targets(model, texts)
        return Scorer(model, targets.objectives, CPU, last_layer(model)), targets.of(None)

    return make
