"""TIFF files whose layout of samples Pillow reads wrongly or not at all, read by tifffile."""

import logging
import math
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlcli.counting import counted
from mlcli.errors import ImageError
from mlcli.imaging import srgb

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 256, 257, 258, 259, 262, 277
ROWS_PER_STRIP, PLANAR, EXTRA_SAMPLES, FORMAT = 278, 284, 338, 339
STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 273, 279, 322, 323, 324, 325
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
UNSIGNED, SIGNED, FLOATING = 1, 2, 3
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of alpha; 0 is none
FAX, JPEG = (2, 3, 4), 7  # compressions
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # marks of the header of a JPEG frame
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check(tags: Any, size: int, path: object, *, whole: bool = True) -> None:
    """Raise ImageError where a file of `size` bytes cannot hold the image that its tags promise.

    tags: {number: value or values}, as Pillow has them. whole: false where a file that is cut off is welcome.
    """
    width, height = _first(tags, WIDTH), _first(tags, HEIGHT)
    separate = _first(tags, SAMPLES, 1) if _first(tags, PLANAR, 1) == 2 else 1
    if TILES in tags:
        across, down = _first(tags, TILE_WIDTH), _first(tags, TILE_HEIGHT)
        parts, offsets, counts = math.ceil(width / across) * math.ceil(height / down), tags[TILES], tags.get(TILE_BYTES)
    else:
        across, down = width, min(_first(tags, ROWS_PER_STRIP, height) or height, height)
        parts, offsets, counts = math.ceil(height / down), tags.get(STRIPS, ()), tags.get(STRIP_BYTES)
    offsets, counts = _many(offsets), _many(counts)
    if len(offsets) < parts * separate:
        raise ImageError(
            f"{path}: cut off or damaged: {width} x {height} pixels take {counted(parts * separate, 'part')}, and it "
            f"has {len(offsets)}; replace the file"
        )
    if not whole:
        return
    if max(offsets, default=0) >= size:
        raise ImageError(f"{path}: cut off: some of its pixels lie beyond its end; replace the file")
    if _first(tags, COMPRESSION, 1) == 1 and _first(tags, PHOTOMETRIC, 1) != YCBCR:
        bits = _first(tags, BITS, 1) * _first(tags, SAMPLES, 1)
        if width * bits // 8 * height > size:
            raise ImageError(
                f"{path}: cut off or damaged: {counted(size, 'byte')} cannot hold {width} x {height} pixels; replace "
                "the file"
            )


def check_rows(tags: Any, stream: BinaryIO, path: object) -> None:
    """Raise ImageError where a strip of fax or JPEG has more rows by its tags than it can hold, or says it has.

    libtiff fills what is missing there without an error.
    """
    rows = min(_first(tags, ROWS_PER_STRIP) or _first(tags, HEIGHT), _first(tags, HEIGHT))
    compression, offsets, counts = _first(tags, COMPRESSION, 1), _many(tags.get(STRIPS)), _many(tags.get(STRIP_BYTES))
    if not offsets or not counts:
        return
    if compression in FAX:
        held = 8 * counts[0]  # each row has a bit at least
    elif compression == JPEG:
        stream.seek(offsets[0])
        held = _jpeg_height(stream.read(min(counts[0], 1 << 20)))
    else:
        return
    if rows > held:
        raise ImageError(
            f"{path}: cut off or damaged: {counted(rows, 'row')} in a strip that holds {held:,}; replace the file"
        )


def _jpeg_height(data: bytes) -> int:
    """The height that the header of a JPEG stream says; 0 where it has none."""
    at = 2
    while at + 9 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in FRAMES:
            return int.from_bytes(data[at + 5 : at + 7])
        at += 2 + length
    return 0


def misread(tags: Any) -> bool:
    """Whether Pillow gives wrong values for a layout that it opens.

    Found by comparing all layouts: tests/io/test_tiff.py.
    """
    bits, samples = _first(tags, BITS, 1), _first(tags, SAMPLES, 1)
    if _first(tags, FORMAT, UNSIGNED) != UNSIGNED or bits >= 32:
        return True
    if _first(tags, PLANAR, 1) == 1 or samples == 1:
        return False
    uncompressed = _first(tags, COMPRESSION, 1) == 1
    return samples == 2 or (uncompressed and bits == 16) or (uncompressed and EXTRA_SAMPLES in tags)


def right_without_codec(tags: Any, little_endian: bool) -> bool:
    """Whether Pillow is right about a layout that `misread` names, for files whose compression tifffile lacks."""
    gray = _first(tags, SAMPLES, 1) == 1 and _first(tags, BITS, 1) == 32 and _first(tags, PHOTOMETRIC, 1) == 1
    return gray and little_endian and _first(tags, FORMAT, UNSIGNED) in (SIGNED, FLOATING)


class MissingCodec(Exception):
    """A compression that tifffile does not decode by itself."""


def read(stream: BinaryIO, path: object, admit: Callable[[int, int, int], None]) -> tuple[Image.Image | Tensor, int]:
    """(the pixels of the first page, its orientation by EXIF).

    They are a Pillow image of 8 bits a sample where the file has integers of up to 8 bits, or color of up to 16; else
    float32 (3, H, W) in sRGB, in [0, 1]. admit: called with the width, the height, and the bytes a pixel that decoding
    takes, before it begins; raises where that is too much.
    Raises ImageError for a kind of image that is none of these, MissingCodec, and whatever tifffile stumbles over.
    """
    import tifffile  # only for the files that need it

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is raised
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages.first
        stored = page.samplesperpixel * max(1, page.bitspersample // 8)
        admit(page.imagewidth, page.imagelength, stored + (24 if page.bitspersample > 16 else 8))
        check({tag.code: tag.value for tag in page.tags}, stream.seek(0, 2), path)
        if page.imagedepth != 1 or set(page.axes) - set("YXS"):
            raise ImageError(f"{path}: a volume, not an image; convert its slices to PNG")
        try:
            values = page.asarray(maxworkers=1)
        except (KeyError, ImportError, NotImplementedError, ValueError) as error:
            if isinstance(error, ImportError) or "imagecodecs" in str(error):
                raise MissingCodec from None
            raise
        orientation = int(page.tags.valueof(274, 1))
        profile = page.tags.valueof(34675)
        if page.axes == "SYX":
            values = np.moveaxis(values, 0, -1)
        if values.ndim == 2:
            values = values[..., None]
        if page.photometric == PALETTE and page.colormap is not None and values.shape[-1] == 1:
            return Image.fromarray((page.colormap[:, values[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)), (
                orientation
            )
        pixels = _pixels(values, page.bitspersample, page.photometric, tuple(page.extrasamples), path)
    if isinstance(pixels, Image.Image) and profile:
        pixels.info["icc_profile"] = bytes(profile)
    return pixels, orientation


def _pixels(
    values: np.ndarray, bits: int, photometric: int, extra: tuple[int, ...], path: object
) -> Image.Image | Tensor:
    """(H, W, samples) of any type as `read` gives them."""
    inks = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, SEPARATED: 4}.get(photometric)
    if inks is None or values.shape[-1] - inks != len(extra) or len(extra) > 1 or values.dtype.kind not in "uif":
        raise ImageError(
            f"{path}: a TIFF of {counted(values.shape[-1], 'sample')} a pixel of type {values.dtype} (photometric "
            f"interpretation {int(photometric)}), which is not read; convert it to PNG"
        )
    alpha = extra[0] if extra and extra[0] in (ASSOCIATED, UNASSOCIATED) else 0
    values = values[..., : inks + bool(alpha)]
    if values.dtype.kind == "u" and values.itemsize <= 2 and (bits <= 8 or values.shape[-1] > 1):
        if bits == 16:
            values[..., :inks] = srgb.stretched(values[..., :inks], path)
        levels = _bytes(values, bits)
        if photometric == WHITE_IS_ZERO:
            levels[..., 0] = 255 - levels[..., 0]
        mode = {(1, 0): "L", (1, 1): "La", (1, 2): "LA", (3, 0): "RGB", (3, 1): "RGBa", (3, 2): "RGBA", (4, 0): "CMYK"}
        if (inks, alpha) not in mode:
            raise ImageError(f"{path}: inks with transparency, which are not read; convert it to PNG")
        return Image.frombytes(mode[inks, alpha], levels.shape[1::-1], np.ascontiguousarray(levels).tobytes())
    unit = _unit(values[..., :inks], bits, path)
    if photometric == WHITE_IS_ZERO:
        unit = 1 - unit
    if photometric == SEPARATED:
        unit = (1 - unit[..., :3]) * (1 - unit[..., 3:])
    if alpha:
        opacity = values[..., inks:].astype(np.float32)
        if values.dtype.kind != "f":
            opacity /= np.float32(np.iinfo(values.dtype).max)
        opacity = np.clip(opacity, 0, 1)
        unit = np.clip((unit if alpha == ASSOCIATED else unit * opacity) + 1 - opacity, 0, 1)
    pixels = torch.from_numpy(np.ascontiguousarray(unit, np.float32)).permute(2, 0, 1)
    return pixels.expand(3, -1, -1).contiguous()


def _unit(values: np.ndarray, bits: int, path: object) -> np.ndarray:
    """Samples to [0, 1] as float32, by the range of their type where that is known."""
    if values.dtype.kind == "u" and values.itemsize <= 2:
        values = srgb.stretched(values, path) if bits == 16 else values
        return values.astype(np.float32) / np.float32(2**bits - 1)
    if values.dtype.kind == "i" and values.itemsize <= 2 and values.size and values.min() >= 0:
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    return srgb.unit_scale(values)


def _bytes(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned integers to 8 bits: the upper bits of more than 8, and fewer scaled to the full range."""
    if bits > 8:
        return (values >> (bits - 8)).astype(np.uint8)
    return (values.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)


def _many(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (tuple, list)) else () if values is None else (values,)


def _first(tags: Any, number: int, default: int = 0) -> int:
    """The first value of a tag."""
    values = _many(tags.get(number))
    return int(values[0]) if values else default
