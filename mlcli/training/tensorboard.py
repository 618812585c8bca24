"""The curves of a run for TensorBoard, in RUN/tensorboard."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlcli.errors import UsageError
from mlcli.io.files import cannot_be_written
from mlcli.training.run_folder import Run


class Curves:
    """Writes logged values; raises UsageError at once where TensorBoard is not installed."""

    def __init__(self, run: Run):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
        self.folder, self.create, self.writer = run.folder / "tensorboard", SummaryWriter, None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Raises MlcliError where they cannot be written."""
        with self._told():
            if self.writer is None:  # what a run wrote past the step that it is resumed from is taken back
                self.writer = self.create(str(self.folder), purge_step=step)
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Raises MlcliError where the last curves cannot be written."""
        if self.writer is not None:
            with self._told():
                self.writer.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An OSError, which TensorBoard passes on from its own thread, as an MlcliError."""
        try:
            yield
        except OSError as error:
            raise cannot_be_written(self.folder, error) from error
