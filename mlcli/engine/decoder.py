"""Image files opened and decoded by Pillow, within limits; what Pillow gets wrong is put right here."""

import ctypes
import io
import logging
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from mlcli.engine import formats, reading, srgb, supervision, tally, tiff
from mlcli.errors import ImageError

# Pillow hands these to another program, or can read the header alone.
NOT_PIXELS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC"})
# Of these an alpha of 0 everywhere means that their writer did not use it.
ALPHA_OFTEN_UNUSED = frozenset({"BMP", "DIB", "TGA", "ICO", "CUR", "DDS"})

ORIENTATION = 274  # tag of EXIF
SEVERAL = (b"II", b"MM", b"GIF8", b"RIFF", b"\x89PNG")  # how files begin that can hold several images
SUBFILE, REDUCED = 254, 1 | 4  # tag of TIFF that says what a page is, and its bits for smaller copies and masks
PAGES = 16  # pages of a TIFF that are looked at, whether one of them is more than a copy
METADATA_BYTES = 16_000_000  # of one text or profile in a PNG, inflated
PIPE_BYTES = 1_000_000_000  # of a file that comes through a pipe, and is held in memory
SCANS = 200  # of a JPEG; encoders make some ten

# An image this small is read whatever the size of its file. A larger one has to be of a file that can hold it: no
# encoder gets more pixels into a byte than a blank page of black and white has, or any other blank image.
ALWAYS_READ = 16_000_000
PIXELS_PER_BYTE, PIXELS_PER_BYTE_OF_BITS = 10_000, 100_000
# Bytes a pixel that decoders hold beside the image that they fill, as measured
DECODER_BYTES = {"WEBP": 12, "AVIF": 10, "JPEG2000": 18, "TIFF": 4, "JPEG": 6, "MPO": 6, "HEIF": 8, "GIF": 4}

MISSING_CODEC = (
    "a TIFF whose compression, or packing, of this kind of samples needs imagecodecs; pip install imagecodecs, or "
    "convert the file to PNG or to a TIFF without compression"
)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = frozenset({b"tRNS", b"iCCP", b"eXIf"})  # that are not critical, and yet change pixels

_pillow_lock = threading.Lock()


@contextmanager
def opened(path: str | Path, max_pixels: int) -> Iterator[tuple[Image.Image | Tensor, int]]:
    """(the first image in a file, its orientation by EXIF): a Pillow image, decoded, that is closed afterwards.

    Of a TIFF with more than 8 bits for which Pillow has no mode: its pixels, as `tiff.read` gives them.
    Raises ImageError, naming the file, for all that is no whole image of at most `max_pixels`; for what is raised
    within the block too.
    """
    _prepare_pillow(max_pixels)
    try:
        with _open(path) as stream:
            try:
                loaded = _loaded(stream, path, max_pixels)
            except (OSError, SyntaxError, ValueError):
                if (plain := without_metadata(stream)) is None:
                    raise
                loaded = _loaded(plain, path, max_pixels)
            picture, orientation = loaded
            try:
                yield picture, orientation
                _note_more(stream, path)
            finally:
                if isinstance(picture, Image.Image):
                    picture.close()
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: {_unidentified(path)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more pixels than the limit of {max_pixels:,}; make it smaller") from None
    except MemoryError:
        raise ImageError(f"{path}: does not fit into memory; make the picture smaller") from None
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path}: broken or cut off ({reason}); replace the file") from error


def _loaded(stream: BinaryIO, path: str | Path, max_pixels: int) -> tuple[Image.Image | Tensor, int]:
    allowed = reading.current()
    stream.seek(0)
    head = stream.read(4)
    stream.seek(0)
    try:
        picture = Image.open(stream)
    except UnidentifiedImageError:
        if head not in tiff.SIGNATURES:
            raise
        return _tiff(stream, path, max_pixels)
    _check(picture, stream, path, max_pixels)
    sixteen = ";16" in str(getattr(picture, "tile", "")) and picture.mode in ("RGB", "RGBA", "CMYK")
    if picture.format == "TIFF":
        tags = picture.tag_v2  # type: ignore[attr-defined]
        stretch = sixteen and allowed.stretch
        if tiff.misread(tags) or stretch:
            try:
                return _tiff(stream, path, max_pixels)
            except tiff.MissingCodec:
                if stretch or not tiff.right_without_codec(tags, head[:1] == b"I"):
                    raise ImageError(f"{path}: {MISSING_CODEC}") from None
                stream.seek(0)
                picture = Image.open(stream)
    if bits := _bits_of_gray_bmp(picture, stream):
        return _gray_bmp(picture, stream, bits), 1
    picture = _decoded(picture, stream, path)
    orientation = _orientation(picture)  # now, for Pillow turns a TIFF by itself as it decodes it
    if sixteen and picture.mode in ("RGB", "RGBA"):
        picture = _stretched_color(picture, stream, path)
    return _opaque(picture, stream), orientation


def _decoded(picture: Image.Image, stream: BinaryIO, path: str | Path) -> Image.Image:
    """The image decoded; of a file that is cut off what there is, where `reading` allows it."""
    allowed = reading.current()
    if picture.format == "JPEG2000" and not _ends_whole(stream):
        raise ImageError(f"{path}: cut off; replace the file")
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError, EOFError):
        if not allowed.accept_truncated:
            raise
        if picture.format in ("JPEG", "MPO"):  # which gives its last lines only at the mark of the end
            stream.seek(0)
            picture = Image.open(io.BytesIO(stream.read() + b"\xff\xd9"))
        else:
            if getattr(picture, "_im", None) is None or picture.im.getbbox() is None:
                raise  # nothing was decoded
            picture.tile = []  # type: ignore[attr-defined]  # what is decoded stays
        picture.load()
        allowed.truncated.append(str(path))
    return picture


def _check(picture: Image.Image, stream: BinaryIO, path: str | Path, max_pixels: int) -> None:
    """Refuse, before anything is decoded, what is too large, what the file cannot hold, and what takes forever.

    And wait until the memory for decoding it is free.
    """
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} pixels are more than the limit of {max_pixels:,}; make the picture smaller"
        )
    if picture.format in NOT_PIXELS:
        raise ImageError(f"{path}: {picture.format} files hold no pixels to read; convert it to PNG")
    size = stream.seek(0, os.SEEK_END)
    most = PIXELS_PER_BYTE_OF_BITS if picture.mode == "1" else PIXELS_PER_BYTE
    if width * height > ALWAYS_READ and width * height > size * most:
        raise ImageError(
            f"{path}: {width} x {height} pixels in {size:,} bytes, more than an image file holds; damaged, or made to "
            "fill the memory; replace the file"
        )
    if picture.format == "TIFF":
        whole = not reading.current().accept_truncated
        tiff.check(picture.tag_v2, size, path, whole=whole)  # type: ignore[attr-defined]
    if picture.format in ("JPEG", "MPO") and (scans := _scans(stream)) > SCANS:
        raise ImageError(f"{path}: a JPEG of {scans:,} scans, which would take minutes; encoders make some ten")
    stream.seek(0)
    supervision.claim(width * height * _bytes_a_pixel(picture))


def _bytes_a_pixel(picture: Image.Image) -> int:
    """The memory that decoding takes: Pillow's image, what the decoder holds beside it, and the tensor."""
    stored = {"1": 1, "L": 1, "P": 1}.get(picture.mode, 2 if picture.mode.startswith("I;16") else 4)
    tensor = 16 if picture.mode[0] in "IF" else 3  # with what is computed on the way
    return stored + tensor + DECODER_BYTES.get(picture.format or "", 0)


def _scans(stream: BinaryIO) -> int:
    """How many marks of a scan's start are in a JPEG."""
    stream.seek(0)
    count, last = 0, b""
    while block := stream.read(1 << 20):
        count += block.count(b"\xff\xda") + (last == b"\xff" and block[:1] == b"\xda")
        last = block[-1:]
    return count


def _tiff(stream: BinaryIO, path: str | Path, max_pixels: int) -> tuple[Image.Image | Tensor, int]:
    try:
        return tiff.read(stream, path, max_pixels)
    except tiff.MissingCodec:
        raise ImageError(f"{path}: {MISSING_CODEC}") from None


def _opaque(picture: Image.Image, stream: BinaryIO) -> Image.Image:
    """The image without an alpha that its writer did not mean: all of it 0, or, in a TGA, said to be none."""
    if picture.format not in ALPHA_OFTEN_UNUSED:
        return picture
    alpha = picture.mode in ("RGBA", "LA") or (picture.mode == "P" and picture.has_transparency_data)
    if not alpha:
        return picture
    unused = False
    if picture.format == "TGA":
        stream.seek(17)
        unused = stream.read(1)[0] & 15 == 0  # attribute bits
    colors = picture.convert("RGBA") if picture.mode == "P" else picture
    if not unused and colors.getchannel("A").getextrema() != (0, 0):
        return picture
    plain = colors.convert(colors.mode.removesuffix("A"))
    plain.info.pop("transparency", None)
    return plain


def _bits_of_gray_bmp(picture: Image.Image, stream: BinaryIO) -> int:
    """4 or 8 bits of an uncompressed BMP whose palette is so gray that Pillow takes its pixels for others; else 0."""
    if picture.format not in ("BMP", "DIB") or picture.mode not in ("1", "L"):
        return 0
    if picture.tile[0][0] != "raw":  # type: ignore[attr-defined]
        return 0
    start = 14 if picture.format == "BMP" else 0
    stream.seek(start)
    short = stream.read(4) == b"\x0c\0\0\0"
    stream.seek(start + (10 if short else 14))
    bits = struct.unpack("<H", stream.read(2))[0]
    return bits if bits == 4 or (bits == 8 and picture.mode == "1") else 0


def _gray_bmp(picture: Image.Image, stream: BinaryIO, bits: int) -> Image.Image:
    width, height = picture.size
    _, _, offset, args = picture.tile[0]  # type: ignore[attr-defined]
    stride = (width * bits + 31) // 32 * 4
    stream.seek(offset)
    rows = np.frombuffer(stream.read(stride * height), np.uint8)
    if rows.size < stride * height:
        raise OSError("image file is truncated")
    rows = rows.reshape(height, stride)
    if bits == 4:
        rows = np.stack([rows >> 4, rows & 15], -1).reshape(height, -1)
    values = rows[:: args[2], :width]
    return Image.fromarray(np.minimum(values, 1) * np.uint8(255) if picture.mode == "1" else np.array(values))


def _stretched_color(picture: Image.Image, stream: BinaryIO, path: str | Path) -> Image.Image:
    """Color of 16 bits, of which Pillow gives the upper 8, brought to the full range where `reading` says so."""
    if picture.format != "PNG":  # of a TIFF `tiff.read` does it
        return picture
    most = max(high for _, high in picture.getextrema()[:3])  # type: ignore[misc]
    if not 0 < most < 64:
        return picture
    if not reading.current().stretch:
        reading.current().dark.append(str(path))
        return picture
    stream.seek(0)
    with Image.open(
        stream
    ) as lower:  # read as if the lower byte of each number came last, which takes it for the upper
        tiles = lower.tile  # type: ignore[attr-defined]
        lower.tile = [tile._replace(args=tile.args.replace(";16B", ";16L")) for tile in tiles]  # type: ignore[attr-defined]
        values = np.asarray(picture).astype(np.uint16) << 8 | np.asarray(lower)
    values[..., :3] = srgb.stretched(values[..., :3], path)
    levels = (values >> 8).astype(np.uint8)
    stretched = Image.fromarray(levels)
    stretched.info = {key: value for key, value in picture.info.items() if key == "icc_profile"}
    return stretched


def without_metadata(stream: BinaryIO) -> BinaryIO | None:
    """A PNG without the chunks that say nothing about its pixels, or are damaged or oversized; None of other files.

    For a file that cannot be read as it is.
    """
    stream.seek(0)
    if stream.read(8) != PNG_SIGNATURE:
        return None
    kept = io.BytesIO()
    kept.write(PNG_SIGNATURE)
    while len(start := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        body, check = stream.read(length), stream.read(4)
        if kind[0] & 32:  # ancillary: what an unknown one is may be left out
            sound = len(check) == 4 and zlib.crc32(kind + body) == struct.unpack(">I", check)[0]
            if not sound or kind not in PIXEL_CHUNKS or (kind == b"iCCP" and not _inflates(body)):
                continue
        kept.write(start + body + check)
        if kind == b"IEND":
            break
    kept.seek(0)
    return kept


def _inflates(profile: bytes) -> bool:
    """Whether the body of an iCCP chunk is a profile of reasonable size."""
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(profile[profile.index(b"\0") + 2 :], METADATA_BYTES)
    except (ValueError, zlib.error):
        return False
    return decompressor.eof


def _open(path: str | Path) -> BinaryIO:
    """Open a regular file or a pipe for reading, or say in an ImageError why not."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path}: a folder, not a picture")
        if stat.S_ISREG(mode) and os.stat(path).st_size == 0:
            raise ImageError(f"{path}: empty file (0 bytes); replace it")
        if stat.S_ISFIFO(mode):  # a shell's <(command); decoders need to seek
            with open(path, "rb") as pipe:
                data = pipe.read(PIPE_BYTES + 1)
            if len(data) > PIPE_BYTES:
                raise ImageError(f"{path}: more than {PIPE_BYTES:,} bytes through a pipe; give the name of a file")
            return io.BytesIO(data)
        if not stat.S_ISREG(mode):
            raise ImageError(f"{path}: a device or socket, not a picture")
        return open(path, "rb")
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; check the name") from None
    except PermissionError:
        raise ImageError(f"{path}: may not be read; change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise ImageError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def _unidentified(path: str | Path) -> str:
    """What to say of a file that Pillow does not know: which format it is, where that is known, and what reads it."""
    kind = None
    if os.path.isfile(path):  # a pipe is spent
        with suppress(OSError):
            kind = formats.sniff(path)
    if kind is None:  # by its ending, of formats that have no mark
        kind = formats.format_of_ending(os.path.basename(path))
    if kind and kind.remedy:
        return f"an image in the format {kind.name}, which cannot be read here; {kind.remedy}"
    return "not a picture that Pillow can read, or cut off; replace the file"


def _note_more(stream: BinaryIO, path: str | Path) -> None:
    """Tell the tally where a file, whose first image is read, has more: frames, or pages of a TIFF."""
    stream.seek(0)
    head = stream.read(12)
    if not head.startswith(SEVERAL) and head[4:8] != b"ftyp":
        return
    with suppress(Exception):  # what follows the first image may be broken, and that is whole
        stream.seek(0)
        with Image.open(stream) as picture:
            if not getattr(picture, "is_animated", False):
                return
            if picture.format != "TIFF":
                tally.current().note(path, "of several frames, of which the first is read")
                return
            for page in range(1, PAGES + 1):
                picture.seek(page)
                if not int(picture.tag_v2.get(SUBFILE, 0)) & REDUCED:  # type: ignore[attr-defined]
                    tally.current().note(path, "of several pages, of which the first is read")
                    return


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
    if limit is not None and 2 * limit < max_pixels:  # Pillow raises above twice its limit
        with _pillow_lock:
            # Only ever raised, so threads with different limits cannot disturb each other. It stays on as
            # the guard for pictures inside pictures (icons), whose size the outer header does not tell.
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, (max_pixels + 1) // 2)


@cache
def _load_plugins() -> None:
    with _pillow_lock:
        Image.init()  # Image.open would load its plugins by and by, and two threads in there miss some
        with suppress(ImportError):  # of the extra `heif`; images are decoded in threads of our own
            from pillow_heif import register_heif_opener

            register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    PngImagePlugin.MAX_TEXT_CHUNK = METADATA_BYTES  # profiles of printers have some megabytes
    # Warnings about odd metadata are no use to the user: what matters is an ImageError. catch_warnings
    # is not thread-safe, hence a filter; and unhandled log records would land on stderr.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # libtiff writes to stderr by itself, and Pillow offers no way to tell it not to.
    with suppress(AttributeError, OSError):  # where Pillow is built otherwise, messages are all that happens
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception:  # broken metadata spoils no pixel
        return 1


def upright(pixels: Tensor, orientation: int) -> Tensor:
    """Pixels (C, H, W) turned as the EXIF orientation says; an unknown one is none."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    flips = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation)
    return (pixels.flip(flips) if flips else pixels).contiguous()
