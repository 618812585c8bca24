"""Image files to tensors (3, H, W) in sRGB, and back. Knows files and pixels, and no network."""

import hashlib
import io
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mlcli.errors import ImageError, MlcliError, UsageError
from mlcli.imaging import decoder, metadata, srgb, supervision
from mlcli.imaging.memory_images import MemoryImage
from mlcli.io import files, tally

MAX_PIXELS = 200_000_000  # holds what cameras and scanners make; 0.6 GB when decoded

SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels a side, at most

WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}


# ---------------------------------------------------------------------------------------------- reading


def read(path: str | Path | MemoryImage, *, max_pixels: int = MAX_PIXELS, enough: int = 0) -> Tensor:
    """Decode the first frame of an image file to (3, H, W) in sRGB.

    uint8 where the source has at most 8 bits a channel, float32 in [0, 1] where it has more: gray of 16 bits, and
    whatever has 32 bits or floating point. (Of 16-bit color the upper 8 bits: uint8.) EXIF orientation is
    applied, transparency laid over white, CMYK, palettes, YCbCr and Lab converted, an embedded ICC profile
    converted to sRGB unless it is sRGB or broken. Gray is repeated over the three channels.

    16-bit gray is divided by 65535 (12-bit by 4095). 32-bit integers and floats carry no scale of their own,
    so `srgb.unit_scale` chooses one. `reading.using` says what else is allowed.

    enough: pixels of the short side that suffice. A larger JPEG is decoded to a half, a quarter or an eighth of its
    size, with at least so many, which its coefficients give at a fraction of the time; and in memory, pixels may lie
    one after the other, as decoders give them, since resizing takes them so. 0: at its size, contiguous.

    Raises ImageError, naming the file, for everything that is no whole image of at most `max_pixels`, and for a
    decoder that exceeds the time limit; Interrupted as `supervision.watched` does.
    path: or an image in memory, which is read already.
    """
    if isinstance(path, MemoryImage):
        return _counted(path.pixels, path.name)

    def pixels() -> Tensor:
        with decoder.opened(path, max_pixels, enough) as (image, orientation):
            values = image if isinstance(image, Tensor) else srgb.from_pillow(image, path)
            values = decoder.upright(values, orientation)
            return values if enough else values.contiguous()

    return _counted(supervision.watched(pixels, path), path)


def read_labels(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The class numbers (1, H, W) uint8 that a map holds: indices of a palette, or levels of 8-bit or 1-bit gray.

    Raises what `read` raises, and ImageError for images of other kinds.
    """

    def numbers() -> Tensor:
        with decoder.opened(path, max_pixels) as (image, orientation):
            mode = "F" if isinstance(image, Tensor) else image.mode
            if mode not in ("P", "L", "1"):
                raise ImageError(
                    f"{path}: an image of mode {mode}, not a map of classes; these have a palette or 8-bit gray"
                )
            return decoder.upright(torch.from_numpy(np.array(image).astype(np.uint8))[None], orientation).contiguous()

    return _counted(supervision.watched(numbers, path), path)


def digest(path: str | Path | MemoryImage) -> str:
    """The SHA-256 of a file, or of the pixels of an image in memory."""
    if isinstance(path, MemoryImage):
        return hashlib.sha256(path.pixels.contiguous().numpy().tobytes()).hexdigest()
    return files.file_hash(path)


def _counted(image: Tensor, path: str | Path) -> Tensor:
    tally.current().add_read(path)
    return image


# ----------------------------------------------------------------------------------------------- tensors


def to_unit(image: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; what is floating point already passes through."""
    return image if image.is_floating_point() else image.to(torch.float32).div_(255)


def to_bytes(image: Tensor) -> Tensor:
    """Float in [0, 1] (clamped) to uint8, rounded to nearest; uint8 passes through."""
    return image if image.dtype == torch.uint8 else _quantized(image, 255).to(torch.uint8)


def to_gray(image: Tensor) -> Tensor:
    """(..., 3, H, W) to its ITU-R 601 luma (..., 1, H, W), in the same dtype."""
    red, green, blue = image.unbind(-3)
    if image.is_floating_point():
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
    else:  # in integers, so that gray stays the very gray it was
        luma = (red.int() * 299 + green.int() * 587 + blue.int() * 114 + 500) // 1000
    return luma.to(image.dtype).unsqueeze(-3)


def fit(image: Tensor, size: int) -> Tensor:
    """The central square of (C, H, W), resized to (C, size, size), bilinear with antialiasing; same dtype."""
    return fill(image, (size, size))


def fill(image: Tensor, size: tuple[int, int]) -> Tensor:
    """As much of the middle of (C, H, W) as has the ratio of `size`, resized to it as `fit` does.

    It is cut before resizing, which sees the same field as torchvision's resize and center crop, and does not blow a
    strip of 1 x 10000 up to a gigabyte first.
    """
    height, width = image.shape[-2:]
    if height * size[1] <= width * size[0]:
        width = max(1, round(height * size[1] / size[0]))
    else:
        height = max(1, round(width * size[0] / size[1]))
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    middle = image[:, top : top + height, left : left + width]
    if (height, width) == size:
        return middle.contiguous()
    return F.interpolate(middle[None], size=size, mode="bilinear", antialias=True)[0]


def central_square(height: int, width: int) -> tuple[int, int, int]:
    """(top, left, side) of the square that `fit` keeps of an image."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def stack(images: Sequence[Tensor]) -> Tensor:
    """Images of one size as a batch; all in [0, 1] where an image of 16 bits is among those of 8."""
    if any(image.is_floating_point() for image in images):
        images = [to_unit(image) for image in images]
    return torch.stack(list(images))


# ----------------------------------------------------------------------------------------------- writing


def write(
    image: Tensor | Image.Image,
    path: str | Path,
    *,
    quality: int = 95,
    bits: int = 8,
    flush: bool = True,
    like: str | Path | None = None,
) -> None:
    """Write an image as PNG, JPEG, WebP or TIFF by the ending of `path`; same pixels, same bytes.

    image: (3, H, W), (1, H, W) or (H, W), uint8, or float in [0, 1] (clamped, rounded to nearest); or a
    Pillow image. quality: of JPEG and WebP, 1 to 100. bits: 16 for gray PNG and TIFF, else 8. flush: of
    `files.atomic_write`. like: the file of which `image`, a tensor, was made: the result has its transparency (of any
    size; not in JPEG), EXIF data, resolution and color profile.
    Raises UsageError for another ending or for bits that the format cannot hold, MlcliError if the image is
    not finite or the file cannot be written; what stood at `path` is then still there.
    """
    kind = output_format(path)
    more: dict[str, Any] = {}
    if isinstance(image, Tensor):
        _check_depth(image, kind, bits, path)
        image, more = _made_like(image, like, kind, bits)
    elif kind == "JPEG" and image.mode not in ("L", "RGB"):
        image = to_pillow(to_bytes(srgb.from_pillow(image)))
    by_format: dict[str, dict[str, Any]] = {
        "PNG": {},
        # Full color resolution at high quality: thin colored lines and single pixels survive.
        "JPEG": {"quality": quality, "subsampling": 0 if quality >= 90 else 2},
        "WEBP": {"quality": quality},
        "TIFF": {"compression": "tiff_deflate"},
    }
    options = by_format[kind]
    if kind == "TIFF" and "exif" in more:
        options = {}  # libtiff, which compresses, cannot write directories of EXIF
    buffer = io.BytesIO()  # encoders hide a full disk behind errors of their own; a buffer has no such errors
    try:
        image.save(buffer, kind, **options, **more)
    except (OSError, ValueError, SystemError) as error:  # such as a side over the format's limit
        width, height = image.size
        raise MlcliError(f"{path}: {kind} cannot hold this {width} x {height} image: {error}") from error
    files.write_bytes(path, buffer.getvalue(), flush=flush)


def _made_like(image: Tensor, like: str | Path | None, kind: str, bits: int) -> tuple[Image.Image, dict[str, Any]]:
    """(the Pillow image to write, its options of metadata); see `write`."""
    alpha = None
    if like is not None and kind != "JPEG":
        with suppress(ImageError):  # changed since it was read
            alpha = metadata.alpha_of(like, MAX_PIXELS)
    if alpha is None:
        made = to_pillow(image, bits=bits)
    else:
        colors, alpha = metadata.with_alpha(to_unit(image.detach().cpu()).reshape(-1, *image.shape[-2:]), alpha)
        made = to_pillow(colors)
        made.putalpha(to_pillow(alpha))
    return (made, {}) if like is None else metadata.carried(like, made, kind)


def output_format(path: str | Path) -> str:
    """PNG, JPEG, WEBP or TIFF, by the ending of `path`. Raises UsageError for any other."""
    try:
        return WRITERS[Path(path).suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path}: no format has this ending; use PNG (.png), JPEG (.jpg), WebP (.webp) or TIFF (.tif)"
        ) from None


def require_room(path: str | Path, height: int, width: int) -> None:
    """Raise UsageError where `path`, by its format, cannot hold an image of this size, or `read` would not take it.

    For before the work that makes the image.
    """
    kind = output_format(path)
    size = f"{path}: the image would be of {width} x {height} pixels"
    if max(height, width) > SIDES.get(kind, math.inf):
        raise UsageError(f"{size}; {kind} holds at most {SIDES[kind]:,} a side, so make it smaller, or a PNG")
    if height * width > MAX_PIXELS:
        raise UsageError(f"{size}, more than the limit of {MAX_PIXELS:,}; make it smaller")


def to_pillow(image: Tensor, *, bits: int = 8) -> Image.Image:
    """(3, H, W), (1, H, W) or (H, W), uint8 or float in [0, 1], to a Pillow image of mode RGB, L or I;16.

    Raises ValueError for another shape, MlcliError for values that are not finite.
    """
    image = image.detach().cpu()
    if image.ndim == 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[0] != 3) or math.prod(image.shape) == 0:
        raise ValueError(f"an image has shape (3, H, W), (1, H, W) or (H, W), not {tuple(image.shape)}")
    if image.is_floating_point() and not image.isfinite().all():
        raise MlcliError("the image to write holds values that are not finite numbers")
    if bits == 16:
        return Image.fromarray(_quantized(to_unit(image), 65535).to(torch.int32).numpy().astype(np.uint16))
    if image.ndim == 3:
        image = image.permute(1, 2, 0)
    return Image.fromarray(to_bytes(image).contiguous().numpy())


def with_palette(numbers: Tensor, colors: Tensor) -> Image.Image:
    """A map of classes (H, W) uint8 as an image whose palette is their colors (K, 3) uint8; see `read_labels`."""
    image = Image.fromarray(numbers.numpy())
    image.putpalette(colors.flatten().tolist())
    return image


def _quantized(image: Tensor, levels: int) -> Tensor:
    # half precision cannot count to 255 in halves, let alone to 65535
    return image.to(torch.float32).clamp(0, 1).mul(levels).round()


def _check_depth(image: Tensor, kind: str, bits: int, path: str | Path) -> None:
    gray = image.ndim == 2 or image.shape[0] == 1
    if bits == 8 or (bits == 16 and gray and kind in ("PNG", "TIFF")):
        return
    what = f"{bits}-bit {'gray' if gray else 'color'} {kind}"
    raise UsageError(f"{path}: {what} cannot be written; 16 bits fit gray PNG and TIFF, all else takes 8")
