"""The curves of a run for TensorBoard, in RUN/tensorboard."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlcli.errors import UsageError
from mlcli.io.files import cannot_be_written
from mlcli.training.run_folder import Run


class Curves:
    """Writes logged values for TensorBoard. Raises UsageError at once where it is not installed."""

    def __init__(self, run: Run) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
        self.folder, self.create = run.folder / "tensorboard", SummaryWriter
        self.writer: SummaryWriter | None = None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by name. Raises MlcliError where they cannot be written."""
        with self._told():
            if self.writer is None:  # what was written after the step that the run resumes from is dropped
                self.writer = self.create(str(self.folder), purge_step=step)
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is buffered. Raises MlcliError where it cannot be written."""
        if self.writer is not None:
            with self._told():
                self.writer.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise an OSError, which TensorBoard passes on from its own thread, as an MlcliError."""
        try:
            yield
        except OSError as error:
            raise cannot_be_written(self.folder, error) from error
