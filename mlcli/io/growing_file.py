"""A file that grows by whole pieces, and is cut back to a size at which it was whole."""

import os
from pathlib import Path

from mlcli.counting import counted
from mlcli.errors import MlcliError
from mlcli.io.files import cannot_be_written


class GrowingFile:
    """A file that is appended to. Each piece is handed to the system at once, so that who reads the file sees it.

    size: bytes to keep of what is there; what follows, such as a torn piece of a killed process, is cut off. Raises
    MlcliError where it is shorter, and where it cannot be written.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path, self.size = path, size
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            found = os.fstat(self._descriptor).st_size
            if found >= size:
                os.truncate(self._descriptor, size)
                os.lseek(self._descriptor, size, os.SEEK_SET)
                return
            os.close(self._descriptor)
        except OSError as error:
            raise cannot_be_written(path, error) from error
        raise MlcliError(
            f"{path}: has {counted(found, 'byte')}, and {size:,} were written; another program has changed it, and "
            "--overwrite makes it from scratch"
        )

    def append(self, piece: bytes) -> None:
        """Append a piece. Raises MlcliError where it cannot be written whole; a part of it may be."""
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise cannot_be_written(self.path, error) from error
        self.size += len(piece)

    def flush(self) -> int:
        """Wait until all is on the disk; the size. Raises MlcliError where it cannot be written there."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise cannot_be_written(self.path, error) from error
        return self.size

    def close(self) -> None:
        os.close(self._descriptor)
