"""Picture files to tensors (3, H, W) in sRGB, and back. Knows files and pixels, and no network."""

import ctypes
import io
import logging
import math
import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mlcli.engine import files, srgb
from mlcli.errors import ImageError, MlcliError, UsageError

MAX_PIXELS = 200_000_000  # holds what cameras and scanners make; 0.6 GB when decoded

# What a walk through a folder counts as a picture. Pillow opens more (icons of old programs, PDF streams),
# and `read` takes them when named; these are the endings that a folder of pictures has.
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .tif .tiff .bmp .dib .gif .ppm .pgm .pbm .pnm .pfm .tga "
    ".ico .jp2 .j2k .jpx .j2c .jpf .avif .qoi .pcx .sgi .ras .psd .dds .xbm .xpm".split()
)
# Pillow hands these to another program, or can read the header alone.
NOT_PIXELS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC"})

SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels a side, at most

WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}

ORIENTATION = 274  # tag of EXIF
_pillow_lock = threading.Lock()


# ---------------------------------------------------------------------------------------------- reading


def read(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode the first frame of a picture file to (3, H, W) in sRGB.

    uint8 where the source has at most 8 bits a channel, float32 in [0, 1] where it has more: gray of 16 or 32
    bits or floating point. (Of 16-bit colour Pillow gives the upper 8 bits: uint8.) EXIF orientation is
    applied, transparency laid over white, CMYK, palettes, YCbCr and Lab converted, an embedded ICC profile
    converted to sRGB unless it is sRGB or broken. Gray is repeated over the three channels.

    16-bit gray is divided by 65535 (12-bit by 4095). 32-bit integers and floats carry no scale of their own,
    so `srgb.unit_scale` chooses one.

    Raises ImageError, naming the file, for everything that is no whole picture of at most `max_pixels`.
    """
    return _decoded(path, max_pixels, lambda picture: _upright(picture, srgb.from_pillow(picture)))


def read_labels(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The class numbers (1, H, W) uint8 that a map holds: indices of a palette, or levels of 8-bit or 1-bit gray.

    Raises ImageError as `read` does, and for pictures of other kinds.
    """

    def numbers(picture: Image.Image) -> Tensor:
        if picture.mode not in ("P", "L", "1"):
            raise ImageError(
                f"{path}: a picture of mode {picture.mode}, not a map of classes; these have a palette or 8-bit gray"
            )
        return _upright(picture, torch.from_numpy(np.array(picture).astype(np.uint8))[None])

    return _decoded(path, max_pixels, numbers)


def _decoded(path: str | Path, max_pixels: int, pixels: Callable[[Image.Image], Tensor]) -> Tensor:
    """What `pixels` makes of the first frame of a file. Raises ImageError for all that is no whole picture."""
    _prepare_pillow(max_pixels)
    try:
        with _open(path) as stream, Image.open(stream) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{path}: {width} x {height} pixels are more than the limit of {max_pixels:,}; "
                    "make the picture smaller"
                )
            if picture.format in NOT_PIXELS:
                raise ImageError(f"{path}: {picture.format} files hold no pixels to read; convert it to PNG")
            if picture.format == "JPEG2000" and not _ends_whole(stream):
                raise ImageError(f"{path}: cut off; replace the file")
            picture.load()
            return pixels(picture)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not a picture that Pillow can read, or cut off; replace the file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more pixels than the limit of {max_pixels:,}; make it smaller") from None
    except MemoryError:
        raise ImageError(f"{path}: does not fit into memory; make the picture smaller") from None
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path}: broken or cut off ({reason}); replace the file") from error


def _open(path: str | Path) -> BinaryIO:
    """Open a regular file or a pipe for reading, or say in an ImageError why not."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path}: a folder, not a picture")
        if stat.S_ISREG(mode) and os.stat(path).st_size == 0:
            raise ImageError(f"{path}: empty file (0 bytes); replace it")
        if stat.S_ISFIFO(mode):  # a shell's <(command); decoders need to seek
            return io.BytesIO(Path(path).read_bytes())
        if not stat.S_ISREG(mode):
            raise ImageError(f"{path}: a device or socket, not a picture")
        return open(path, "rb")
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; check the name") from None
    except PermissionError:
        raise ImageError(f"{path}: may not be read; change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise ImageError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def _ends_whole(stream: BinaryIO) -> bool:
    """Whether a JPEG 2000 file goes on to its end. Its decoder does not ask, and blurs what is missing."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if stream.read(2) != b"\xff\x4f":  # no bare codestream, but a chain of boxes, each led by its length
        at = 0
        while at + 8 <= size:
            stream.seek(at)
            length = struct.unpack(">I", stream.read(4))[0]
            if length == 1:  # too long for 32 bits
                stream.seek(at + 8)
                length = int.from_bytes(stream.read(8))
            if length < 8:  # 0: the codestream, up to the end of the file
                break
            at += length
        else:
            return at <= size
    stream.seek(max(0, size - 16))
    return b"\xff\xd9" in stream.read()  # the mark of the codestream's end


def _prepare_pillow(max_pixels: int) -> None:
    """Pillow's global settings: no warnings, and our limit on pixels instead of its own."""
    _load_plugins()
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and limit < max_pixels:  # Pillow raises above twice its limit
        with _pillow_lock:
            # Only ever raised, so threads with different limits cannot disturb each other. It stays on as
            # the guard for pictures inside pictures (icons), whose size the outer header does not tell.
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)


@cache
def _load_plugins() -> None:
    with _pillow_lock:
        Image.init()  # Image.open would load its plugins by and by, and two threads in there miss some
    # Warnings about odd metadata are no use to the user: what matters is an ImageError. catch_warnings
    # is not thread-safe, hence a filter; and unhandled log records would land on stderr.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # libtiff writes to stderr by itself, and Pillow offers no way to tell it not to.
    with suppress(AttributeError, OSError):  # where Pillow is built otherwise, messages are all that happens
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def _upright(picture: Image.Image, pixels: Tensor) -> Tensor:
    """Apply the EXIF orientation of `picture` to `pixels` (3, H, W)."""
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # broken metadata spoils no pixel
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    flips = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation)
    return (pixels.flip(flips) if flips else pixels).contiguous()


# ----------------------------------------------------------------------------------------------- tensors


def to_unit(image: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; what is floating point already passes through."""
    return image if image.is_floating_point() else image.to(torch.float32) / 255


def to_bytes(image: Tensor) -> Tensor:
    """Float in [0, 1] (clamped) to uint8, rounded to nearest; uint8 passes through."""
    return image if image.dtype == torch.uint8 else _quantised(image, 255).to(torch.uint8)


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

    It is cut before resizing, which sees the same field as torchvision's resize and centre crop, and does not blow a
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
    """(top, left, side) of the square that `fit` keeps of a picture."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def stack(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures of one size as a batch; all in [0, 1] where a picture of 16 bits is among those of 8."""
    if any(picture.is_floating_point() for picture in pictures):
        pictures = [to_unit(picture) for picture in pictures]
    return torch.stack(list(pictures))


# ----------------------------------------------------------------------------------------------- writing


def write(
    image: Tensor | Image.Image, path: str | Path, *, quality: int = 95, bits: int = 8, flush: bool = True
) -> None:
    """Write a picture as PNG, JPEG, WebP or TIFF by the ending of `path`; same pixels, same bytes.

    image: (3, H, W), (1, H, W) or (H, W), uint8, or float in [0, 1] (clamped, rounded to nearest); or a
    Pillow image. quality: of JPEG and WebP, 1 to 100. bits: 16 for gray PNG and TIFF, else 8. flush: of
    `files.atomic_write`.
    Raises UsageError for another ending or for bits that the format cannot hold, MlcliError if the picture is
    not finite or the file cannot be written; what stood at `path` is then still there.
    """
    kind = output_format(path)
    if isinstance(image, Tensor):
        _check_depth(image, kind, bits, path)
        image = to_pillow(image, bits=bits)
    elif kind == "JPEG" and image.mode not in ("L", "RGB"):
        image = to_pillow(to_bytes(srgb.from_pillow(image)))
    options = {
        "PNG": {},
        # Full colour resolution at high quality: thin coloured lines and single pixels survive.
        "JPEG": {"quality": quality, "subsampling": 0 if quality >= 90 else 2},
        "WEBP": {"quality": quality},
        "TIFF": {"compression": "tiff_deflate"},
    }[kind]
    buffer = io.BytesIO()  # encoders hide a full disk behind errors of their own; a buffer has no such errors
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError, SystemError) as error:  # such as a side over the format's limit
        width, height = image.size
        raise MlcliError(f"{path}: {kind} cannot hold this {width} x {height} picture: {error}") from error
    files.write_bytes(path, buffer.getvalue(), flush=flush)


def output_format(path: str | Path) -> str:
    """PNG, JPEG, WEBP or TIFF, by the ending of `path`. Raises UsageError for any other."""
    try:
        return WRITERS[Path(path).suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path}: no format has this ending; use PNG (.png), JPEG (.jpg), WebP (.webp) or TIFF (.tif)"
        ) from None


def require_room(path: str | Path, height: int, width: int) -> None:
    """Raise UsageError where `path`, by its format, cannot hold a picture of this size, or `read` would not take it.

    For before the work that makes the picture.
    """
    kind = output_format(path)
    size = f"{path}: the picture would be of {width} x {height} pixels"
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
        raise ValueError(f"a picture has shape (3, H, W), (1, H, W) or (H, W), not {tuple(image.shape)}")
    if image.is_floating_point() and not image.isfinite().all():
        raise MlcliError("the picture to write holds values that are not finite numbers")
    if bits == 16:
        return Image.fromarray(_quantised(to_unit(image), 65535).to(torch.int32).numpy().astype(np.uint16))
    if image.ndim == 3:
        image = image.permute(1, 2, 0)
    return Image.fromarray(to_bytes(image).contiguous().numpy())


def with_palette(numbers: Tensor, colours: Tensor) -> Image.Image:
    """A map of classes (H, W) uint8 as a picture whose palette is their colours (K, 3) uint8; see `read_labels`."""
    picture = Image.fromarray(numbers.numpy())
    picture.putpalette(colours.flatten().tolist())
    return picture


def _quantised(image: Tensor, levels: int) -> Tensor:
    # half precision cannot count to 255 in halves, let alone to 65535
    return image.to(torch.float32).clamp(0, 1).mul(levels).round()


def _check_depth(image: Tensor, kind: str, bits: int, path: str | Path) -> None:
    gray = image.ndim == 2 or image.shape[0] == 1
    if bits == 8 or (bits == 16 and gray and kind in ("PNG", "TIFF")):
        return
    what = f"{bits}-bit {'gray' if gray else 'colour'} {kind}"
    raise UsageError(f"{path}: {what} cannot be written; 16 bits fit gray PNG and TIFF, all else takes 8")
