"""The curves of a run for TensorBoard, in RUN/tensorboard."""

from collections.abc import Mapping

from mlcli.engine.runs import Run
from mlcli.errors import UsageError


class Curves:
    """Writes logged values; raises UsageError at once where TensorBoard is not installed."""

    def __init__(self, run: Run):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
        self.folder, self.create, self.writer = run.folder / "tensorboard", SummaryWriter, None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        if self.writer is None:  # what a run wrote past the step that it is resumed from is taken back
            self.writer = self.create(str(self.folder), purge_step=step)
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
