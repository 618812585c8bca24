"""A result that is an image, with the record that reproduces it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api.outputs import refuse_existing
from mlcli.options import OUTPUT, option

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def image_output() -> Any:
    """The option for an image to write, which the command line must name."""
    help = "Image to write: .png, .jpg, .webp or .tif; the record goes beside it, as .json."
    return option(None, help, "-o", "--output", path="file", panel=OUTPUT, cli_required=True)


def require_writable(output: Path | None, *, overwrite: bool) -> None:
    """Raise UsageError, before any work, where the image cannot be written to this path; None is no path."""
    from mlcli.imaging import image_io

    if output is not None:
        refuse_existing(output, overwrite)
        image_io.output_format(output)


@dataclass(frozen=True)
class ImageResult:
    """image: of Pillow, which a notebook shows.  record: what reproduces it.  output: where it was written, or None."""

    image: "Image.Image"
    record: Mapping[str, Any]
    output: Path | None

    @classmethod
    def written(cls, image: "Tensor | Image.Image", record: Mapping[str, Any], output: Path | None, **more: Any) -> Any:
        """A result, written to `output` and its record beside it, if there is a path.

        image: of Pillow, or a tensor (C, H, W), uint8 or float in [0, 1].  more: fields of a subclass.
        """
        from torch import Tensor

        from mlcli.imaging import image_io
        from mlcli.io.files import write_json

        if output is not None:
            image_io.write(image, output)
            write_json(output.with_name(output.name + ".json"), record)
        return cls(image_io.to_pillow(image) if isinstance(image, Tensor) else image, record, output, **more)

    def as_json(self) -> dict[str, Any]:
        """The record, as it is written beside the image."""
        return dict(self.record)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()
