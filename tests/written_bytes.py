"""PNG and TIFF files and ICC profiles written byte by byte: what Pillow does not write."""

import struct
import zlib

import numpy as np

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the color type of PNG


def png(depth: int, color: int, rows: np.ndarray, *chunks: tuple[bytes, bytes], size=None) -> bytes:
    """A PNG. color: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA. rows: bytes as they stand in each line.

    size: (width, height) that it says it has, in place of that of its rows.
    """
    lines = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    width, height = size or (lines.shape[1] * 8 // (depth * SAMPLES[color]), len(lines))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    return png_chunks((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b""))


def png_chunks(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks, each (kind, body)."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def tiff(pixels, bits, *, photometric=1, endian="<", sample_format=1, extra=None, shape=None) -> bytes:
    """An uncompressed TIFF of (H, W) or (H, W, samples). extra 1: the last is premultiplied alpha."""
    samples = 1 if pixels.ndim == 2 or shape else pixels.shape[2]
    height, width = shape or pixels.shape[:2]
    data = pixels.astype(pixels.dtype.newbyteorder(endian)).tobytes()
    tags = {256: [width], 257: [height], 258: [bits] * samples, 259: [1], 262: [photometric], 273: [8]}
    tags |= {277: [samples], 278: [height], 279: [len(data)], 339: [sample_format] * samples}
    if extra is not None:
        tags[338] = [extra]
    offset = 8 + len(data) + len(data) % 2
    directory, tail = struct.pack(endian + "H", len(tags)), b""
    after = offset + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        if len(values) <= 2:
            value = struct.pack(endian + f"{len(values)}H", *values).ljust(4, b"\0")
        else:
            value = struct.pack(endian + "I", after + len(tail))
            tail += struct.pack(endian + f"{len(values)}H", *values)
        directory += struct.pack(endian + "HHI", tag, 3, len(values)) + value
    start = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "I", offset)
    return start + data + b"\0" * (len(data) % 2) + directory + bytes(4) + tail


def profile(space: bytes, *, swap: bool = False) -> bytes:
    """A small ICC profile of linear light: RGB with the primaries of sRGB (red and blue swapped), gray, or
    CMYK whose every full ink takes 25 off the lightness of white paper."""

    def xyz(*values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    name = b"linear light\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(0.9642, 1.0, 0.8249)}
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256)  # gamma 1 as u8.8
    if space == b"RGB ":
        red, green, blue = (
            (0.43607, 0.22249, 0.01392),
            (0.38515, 0.71687, 0.09708),
            (0.14307, 0.06061, 0.7141),
        )
        tags |= {b"rXYZ": xyz(*(blue if swap else red)), b"gXYZ": xyz(*green)}
        tags |= {b"bXYZ": xyz(*(red if swap else blue)), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    elif space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        ramp = bytes(range(256))
        nodes = b"".join(bytes([round(2.55 * (100 - 25 * node.bit_count())), 128, 128]) for node in range(16))
        matrix = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
        tags[b"A2B0"] = b"mft1\0\0\0\0\x04\x03\x02\0" + matrix + ramp * 4 + nodes + ramp * 3
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    kind, meeting = (b"prtr", b"Lab ") if space == b"CMYK" else (b"mntr", b"XYZ ")
    header = struct.pack(">I4s4s4s4s4s", start + len(body), bytes(4), b"\x02\x10\0\0", kind, space, meeting)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body
