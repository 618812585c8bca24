"""What Pillow gets wrong of BMP, TGA and PNG files, put right."""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from mlcli.imaging import reading, srgb
from mlcli.io import tally

# Of these an alpha of 0 everywhere means that their writer did not use it.
ALPHA_OFTEN_UNUSED = frozenset({"BMP", "DIB", "TGA", "ICO", "CUR", "DDS"})
METADATA_BYTES = 16_000_000  # of one text or profile in a PNG, inflated
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = frozenset({b"tRNS", b"iCCP", b"eXIf"})  # that are not critical, and yet change pixels


def opaque(image: Image.Image, stream: BinaryIO) -> Image.Image:
    """The image without an alpha that its writer did not mean: all of it 0, or, in a TGA, said to be none."""
    if image.format not in ALPHA_OFTEN_UNUSED:
        return image
    alpha = image.mode in ("RGBA", "LA") or (image.mode == "P" and image.has_transparency_data)
    if not alpha:
        return image
    unused = False
    if image.format == "TGA":
        stream.seek(17)
        unused = stream.read(1)[0] & 15 == 0  # attribute bits
    colors = image.convert("RGBA") if image.mode == "P" else image
    if not unused and colors.getchannel("A").getextrema() != (0, 0):
        return image
    plain = colors.convert(colors.mode.removesuffix("A"))
    plain.info.pop("transparency", None)
    return plain


def bits_of_gray_bmp(image: ImageFile.ImageFile, stream: BinaryIO) -> int:
    """4 or 8 bits of an uncompressed BMP whose palette is so gray that Pillow takes its pixels for others; else 0."""
    if image.format not in ("BMP", "DIB") or image.mode not in ("1", "L"):
        return 0
    if image.tile[0][0] != "raw":
        return 0
    start = 14 if image.format == "BMP" else 0
    stream.seek(start)
    short = stream.read(4) == b"\x0c\0\0\0"
    stream.seek(start + (10 if short else 14))
    bits = struct.unpack("<H", stream.read(2))[0]
    return bits if bits == 4 or (bits == 8 and image.mode == "1") else 0


def gray_bmp(image: ImageFile.ImageFile, stream: BinaryIO, bits: int) -> Image.Image:
    """The pixels of such a file, of `bits` each."""
    width, height = image.size
    _, _, offset, args = image.tile[0]
    assert isinstance(args, tuple)  # (mode, stride, direction of the rows), of a raw tile
    stride = (width * bits + 31) // 32 * 4
    stream.seek(offset)
    rows = np.frombuffer(stream.read(stride * height), np.uint8)
    if rows.size < stride * height:
        raise OSError("image file is truncated")
    rows = rows.reshape(height, stride)
    if bits == 4:
        rows = np.stack([rows >> 4, rows & 15], -1).reshape(height, -1)
    values = rows[:: args[2], :width]
    return Image.fromarray(np.minimum(values, 1) * np.uint8(255) if image.mode == "1" else np.array(values))


def stretched_color(image: Image.Image, stream: BinaryIO, path: str | Path) -> Image.Image:
    """Color of 16 bits, of which Pillow gives the upper 8, brought to the full range where `reading` says so."""
    if image.format != "PNG":  # of a TIFF `tiff.read` does it
        return image
    most = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]  # a pair for each band
    if not 0 < most < 64:
        return image
    if not reading.current().stretch:
        tally.current().note(path, reading.DARK)
        return image
    stream.seek(0)
    with Image.open(stream) as lower:
        # Read as if the lower byte of each number came last, which Pillow then takes for the upper one
        lower.tile = [tile._replace(args=str(tile.args).replace(";16B", ";16L")) for tile in lower.tile]
        values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(lower)
    values[..., :3] = srgb.stretched(values[..., :3], path)
    levels = (values >> 8).astype(np.uint8)
    stretched = Image.fromarray(levels)
    stretched.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
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
