"""The state of a pendulum as a classifier reads it from two images: what a camera sees in place of the sensors."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlcli.errors import UsageError
from mlcli.methods.control.equations import Control, wrapped
from mlcli.methods.evaluation.classification import predict
from mlcli.methods.synthesis.pendulum_images import drawn
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import rng


@dataclass
class Observer:
    """Reads angles from images that are drawn of them, with new noise at each call.

    model: a classifier whose classes are angles in degrees.  style: of the camera.  Raises UsageError for another
    model.
    """

    model: Model
    style: str
    runtime: Runtime
    seed: int
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        try:
            degrees = [float(name) for name in self.model.classes]
        except ValueError:
            raise UsageError(
                "--observe: the classes of this model are no angles in degrees; train one on the images of `mlcli "
                "render pendulum`"
            ) from None
        radians = torch.deg2rad(torch.tensor(degrees))
        self.directions = torch.stack([radians.cos(), radians.sin()], 1)  # (K, 2)
        self.model.network.eval()

    def angles(self, angles: Tensor) -> Tensor:
        """(N,) float64, as they are read from images of pendulums at these angles (N,).

        The mean direction of the classes, weighted by their probabilities, is finer than the classes are.
        """
        self.calls += 1
        preprocessing = self.model.preprocessing
        images = drawn(angles, rng(self.seed, "pendulum-images/observed", self.calls), preprocessing.crop, self.style)
        images = images[:, None].expand(-1, preprocessing.channels, -1, -1)
        cos, sin = (predict(self.model, images, self.runtime) @ self.directions).double().unbind(1)
        return torch.atan2(sin, cos)


def from_images(policy: Control, observer: Observer, time_step: float) -> Control:
    """The policy, which sees the pendulum in its last two images alone, `time_step` seconds apart.

    The velocity is constant between two images (`equations`), so their difference is the velocity.
    """

    def control(angle: Tensor, velocity: Tensor) -> Tensor:
        now, before = observer.angles(angle), observer.angles(angle - velocity * time_step)
        return policy(now, wrapped(now - before) / time_step)

    return control
