"""Image files opened and decoded by Pillow, within limits; what Pillow gets wrong is put right here."""

import ctypes
import io
import logging
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from mlcli.counting import counted
from mlcli.errors import ImageError
from mlcli.imaging import formats, reading, repairs, supervision, tiff
from mlcli.io import input_files, tally

# Pillow hands these to another program, or can read the header alone.
NOT_PIXELS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC"})

ORIENTATION = 274  # tag of EXIF
SEVERAL = (b"II", b"MM", b"GIF8", b"RIFF", b"\x89PNG")  # how files begin that can hold several images
SUBFILE, REDUCED = 254, 1 | 4  # tag of TIFF that says what a page is, and its bits for smaller copies and masks
PAGES = 16  # pages of a TIFF that are checked for being more than a copy
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

_pillow_lock = threading.Lock()


@contextmanager
def opened(path: str | Path, max_pixels: int, enough: int = 0) -> Iterator[tuple[Image.Image | Tensor, int]]:
    """(the first image in a file, its orientation by EXIF): a Pillow image, decoded, that is closed afterwards.

    enough: as of `image_io.read`.

    Of a TIFF with more than 8 bits for which Pillow has no mode: its pixels, as `tiff.read` gives them.
    Raises ImageError, naming the file, for all that is no whole image of at most `max_pixels`; for what is raised
    within the block too.
    """
    prepare(max_pixels)
    try:
        with _open(path) as stream:
            try:
                loaded = _loaded(stream, path, max_pixels, enough)
            except (OSError, SyntaxError, ValueError):
                if (plain := repairs.without_metadata(stream)) is None:
                    raise
                loaded = _loaded(plain, path, max_pixels)
            image, orientation = loaded
            try:
                yield image, orientation
                _note_more(stream, path)
            finally:
                if isinstance(image, Image.Image):
                    image.close()
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: {_unidentified(path)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more pixels than the limit of {max_pixels:,}; make it smaller") from None
    except MemoryError:
        raise ImageError(f"{path}: does not fit into memory; make the image smaller") from None
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        reason = str(error) or type(error).__name__
        cut = "truncated" in reason.lower() and not reading.current().accept_truncated
        advice = ", or take what can be decoded with --accept-truncated" if cut else ""
        raise ImageError(f"{path}: broken or cut off ({reason}); replace the file{advice}") from error


def size_in_header(path: str | Path) -> tuple[int, int] | None:
    """(height, width) of an upright image as the header of its file says, without decoding; None where it cannot say.

    What is wrong with such a file is said where it is decoded.
    """
    prepare()
    try:
        with _open(path) as stream, Image.open(stream) as image:
            width, height = image.size
            return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)
    except Exception:  # decoders of broken files raise whatever they stumble over
        return None


def _loaded(stream: BinaryIO, path: str | Path, max_pixels: int, enough: int = 0) -> tuple[Image.Image | Tensor, int]:
    allowed = reading.current()
    stream.seek(0)
    head = stream.read(4)
    stream.seek(0)
    try:
        image = Image.open(stream)
    except UnidentifiedImageError:
        if head not in tiff.SIGNATURES:
            raise
        return _tiff(stream, path, max_pixels)
    _check(image, stream, path, max_pixels)
    sixteen = ";16" in str(getattr(image, "tile", "")) and image.mode in ("RGB", "RGBA", "CMYK")
    if image.format == "TIFF":
        tags = _tags(image)
        stretch = sixteen and allowed.stretch
        if tiff.misread(tags) or stretch:
            try:
                return _tiff(stream, path, max_pixels)
            except tiff.MissingCodec:
                if stretch or not tiff.right_without_codec(tags, head[:1] == b"I"):
                    raise ImageError(f"{path}: {MISSING_CODEC}") from None
                stream.seek(0)
                image = Image.open(stream)
    if bits := repairs.bits_of_gray_bmp(image, stream):
        return repairs.gray_bmp(image, stream, bits), 1
    if enough and image.format in ("JPEG", "MPO"):
        image.draft(None, (enough, enough))  # which keeps the mode of the file
    decoded: Image.Image = _decoded(image, stream, path)
    orientation = _orientation(decoded)  # now, for Pillow turns a TIFF by itself as it decodes it
    if sixteen and decoded.mode in ("RGB", "RGBA"):
        decoded = repairs.stretched_color(decoded, stream, path)
    return repairs.opaque(decoded, stream), orientation


def _tags(image: ImageFile.ImageFile) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of the current page of a TIFF."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image.tag_v2


def _decoded(image: ImageFile.ImageFile, stream: BinaryIO, path: str | Path) -> ImageFile.ImageFile:
    """The image decoded; of a file that is cut off what there is, where `reading` allows it."""
    allowed = reading.current()
    if image.format == "JPEG2000" and not _ends_whole(stream):
        raise ImageError(f"{path}: cut off; replace the file")
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError):
        if not allowed.accept_truncated:
            raise
        if image.format in ("JPEG", "MPO"):  # which gives its last lines only at the mark of the end
            stream.seek(0)
            image = Image.open(io.BytesIO(stream.read() + b"\xff\xd9"))
        else:
            if getattr(image, "_im", None) is None or image.im.getbbox() is None:
                raise  # nothing was decoded
            image.tile = []  # what is decoded stays
        image.load()
        tally.current().note(path, reading.TRUNCATED)
    return image


def _check(image: ImageFile.ImageFile, stream: BinaryIO, path: str | Path, max_pixels: int) -> None:
    """Refuse, before anything is decoded, what is too large, what the file cannot hold, and what takes forever.

    And wait until the memory for decoding it is free.
    """
    if image.format in NOT_PIXELS:
        raise ImageError(f"{path}: {image.format} files hold no pixels to read; convert it to PNG")
    size = stream.seek(0, os.SEEK_END)
    most = PIXELS_PER_BYTE_OF_BITS if image.mode == "1" else PIXELS_PER_BYTE
    _admit(path, size, max_pixels, *image.size, _bytes_a_pixel(image), most)
    if image.format == "TIFF":
        whole = not reading.current().accept_truncated
        tiff.check(_tags(image), size, path, whole=whole)
        if whole:
            tiff.check_rows(_tags(image), stream, path)
    if image.format in ("JPEG", "MPO") and (scans := _scans(stream)) > SCANS:
        raise ImageError(f"{path}: a JPEG of {scans:,} scans, which would take minutes; encoders make some ten")
    stream.seek(0)


def _admit(
    path: str | Path, size: int, max_pixels: int, width: int, height: int, memory: int, most: int = PIXELS_PER_BYTE
) -> None:
    """Refuse more pixels than `max_pixels`, or than a file of `size` bytes holds; else wait for their memory.

    memory: the bytes a pixel that decoding takes. most: pixels a byte.
    """
    pixels = width * height
    if pixels > max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} pixels are more than the limit of {max_pixels:,}; make the image smaller"
        )
    if pixels > ALWAYS_READ and pixels > size * most:
        raise ImageError(
            f"{path}: {width} x {height} pixels in {counted(size, 'byte')}, more than an image file holds; damaged, or "
            "made to fill the memory; replace the file"
        )
    supervision.claim(pixels * memory)


def _bytes_a_pixel(image: Image.Image) -> int:
    """The memory that decoding takes: Pillow's image, what the decoder holds beside it, and the tensor."""
    stored = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    tensor = 16 if image.mode[0] in "IF" else 4  # with what is computed on the way
    return stored + tensor + DECODER_BYTES.get(image.format or "", 0)


def _scans(stream: BinaryIO) -> int:
    """How many marks of a scan's start are in a JPEG."""
    stream.seek(0)
    count, last = 0, b""
    while block := stream.read(1 << 20):
        count += block.count(b"\xff\xda") + (last == b"\xff" and block[:1] == b"\xda")
        last = block[-1:]
    return count


def _tiff(stream: BinaryIO, path: str | Path, max_pixels: int) -> tuple[Image.Image | Tensor, int]:
    size = stream.seek(0, os.SEEK_END)
    try:
        return tiff.read(stream, path, partial(_admit, path, size, max_pixels))
    except tiff.MissingCodec:
        raise ImageError(f"{path}: {MISSING_CODEC}") from None


def _open(path: str | Path) -> BinaryIO:
    """Open a regular file, a member of an archive or a pipe for reading, or say in an ImageError why not."""
    try:
        try:
            mode = os.stat(path).st_mode
        except NotADirectoryError:
            return _not_empty(input_files.open_input(path), path)
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path}: a folder, not an image")
        if stat.S_ISFIFO(mode):  # a shell's <(command); decoders need to seek
            with open(path, "rb") as pipe:
                data = pipe.read(PIPE_BYTES + 1)
            if len(data) > PIPE_BYTES:
                raise ImageError(f"{path}: more than {PIPE_BYTES:,} bytes through a pipe; give the name of a file")
            return io.BytesIO(data)
        if not stat.S_ISREG(mode):
            raise ImageError(f"{path}: a device or socket, not an image")
        return _not_empty(open(path, "rb"), path)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; check the name") from None
    except PermissionError:
        raise ImageError(f"{path}: may not be read; change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise ImageError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def _not_empty(stream: BinaryIO, path: str | Path) -> BinaryIO:
    """The stream at its beginning. Raises ImageError where there is nothing in it."""
    if not stream.seek(0, os.SEEK_END):
        stream.close()
        raise ImageError(f"{path}: empty file (0 bytes); replace it")
    stream.seek(0)
    return stream


def _unidentified(path: str | Path) -> str:
    """What to say of a file that Pillow does not know: which format it is, where that is known, and what reads it."""
    kind = None
    parts = input_files.split(path)
    if parts and not parts[1]:
        return "an archive, where one image is needed; name a member of it"
    if os.path.isfile(path) or parts:  # a pipe is spent
        with suppress(OSError, ImageError):
            kind = formats.sniff(path)
    if kind is None:  # by its ending, of formats that have no mark
        kind = formats.format_of_ending(os.path.basename(path))
    if kind and kind.remedy:
        return f"an image in the format {kind.name}, which cannot be read here; {kind.remedy}"
    return "not an image that Pillow can read, or cut off; replace the file"


def _note_more(stream: BinaryIO, path: str | Path) -> None:
    """Tell the tally where a file, whose first image is read, has more: frames, or pages of a TIFF."""
    stream.seek(0)
    head = stream.read(12)
    if not head.startswith(SEVERAL) and head[4:8] != b"ftyp":
        return
    with suppress(Exception):  # what follows the first image may be broken, and that is whole
        stream.seek(0)
        with Image.open(stream) as image:
            if not getattr(image, "is_animated", False):
                return
            if image.format != "TIFF":
                tally.current().note(path, "of several frames, of which the first is read")
                return
            for page in range(1, PAGES + 1):
                image.seek(page)
                if not int(_tags(image).get(SUBFILE, 0)) & REDUCED:
                    tally.current().note(path, "of several pages, of which the first is read")
                    return


def _ends_whole(stream: BinaryIO) -> bool:
    """Whether a JPEG 2000 file is complete. Its decoder does not check that, and blurs what is missing."""
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


def prepare(max_pixels: int = 0) -> None:
    """Pillow's global settings: no warnings, and our limit on pixels instead of its own."""
    _load_plugins()
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and 2 * limit < max_pixels:  # Pillow raises above twice its limit
        with _pillow_lock:
            # Only ever raised, so threads with different limits cannot disturb each other. It stays on as
            # the guard for images inside images (icons), whose size the outer header does not tell.
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, (max_pixels + 1) // 2)


@cache
def _load_plugins() -> None:
    with _pillow_lock:
        Image.init()  # Image.open would load its plugins by and by, and two threads in there miss some
        with suppress(ImportError):  # of the extra `heif`; images are decoded in threads of our own
            from pillow_heif import register_heif_opener

            register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    PngImagePlugin.MAX_TEXT_CHUNK = repairs.METADATA_BYTES  # profiles of printers have some megabytes
    # Warnings about odd metadata are no use to the user: what matters is an ImageError. catch_warnings
    # is not thread-safe, hence a filter; and unhandled log records would land on stderr.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # libtiff writes to stderr by itself, and Pillow offers no way to tell it not to.
    with suppress(AttributeError, OSError):  # where Pillow is built otherwise, messages are all that happens
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken metadata spoils no pixel
        return 1


def upright(pixels: Tensor, orientation: int) -> Tensor:
    """Pixels (C, H, W) rotated by the EXIF orientation; an unknown one changes nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    flips = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation)
    return pixels.flip(flips) if flips else pixels
