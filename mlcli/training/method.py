"""The interface between the training loop and a method of the literature."""

from collections.abc import Mapping
from typing import Any, Protocol

from PIL.Image import Image
from torch import Tensor

from mlcli.training.run_folder import Run


class Method(Protocol):
    """What a method of the literature gives to the loop."""

    @property
    def state(self) -> Mapping[str, Any]:
        """Objects with state_dict and load_state_dict, by name: networks, optimizers, image pools."""

    def load(self, indices: Tensor, step: int) -> Any:
        """The data of this process's shard of a batch. Called in a thread, ahead of the step."""

    def step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Update the networks on a batch; returns the losses by name, each a scalar."""

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        """The files of the batch of a step, for the message when a loss is no longer a finite number."""

    def evaluate(self) -> dict[str, float]:
        """Figures on validation data, by name. Called by every process, when the plan says so."""

    def warning(self, values: Mapping[str, float]) -> str:
        """What is wrong with the logged means of the losses although they are finite; empty if nothing is."""

    def samples(self) -> dict[str, Tensor | Image]:
        """Images by name, as `image_io.write` takes them, to be written to the samples of the run; may be empty."""

    def save_model(self, run: Run) -> None:
        """Write the trained model into the run folder."""
