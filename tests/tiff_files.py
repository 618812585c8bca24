"""TIFF files of every layout of samples, written byte by byte."""

import struct
import zlib
from collections.abc import Callable

import numpy as np


def lzw(data: bytes) -> bytes:
    """A valid LZW stream that compresses nothing: the table is cleared before its codes get longer."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


def packbits(data: bytes) -> bytes:
    """A valid PackBits stream of literals alone."""
    return b"".join(
        bytes([len(data[start : start + 128]) - 1]) + data[start : start + 128] for start in range(0, len(data), 128)
    )


COMPRESSIONS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (1, bytes),
    "deflate": (8, zlib.compress),
    "lzw": (5, lzw),
    "packbits": (32773, packbits),
}


def tiff(
    values: np.ndarray,
    *,
    photometric: int,
    extra: int | None = None,
    planar: bool = False,
    tiled: bool = False,
    endian: str = "<",
    compression: str = "none",
    bits: int | None = None,
    tags: dict[int, list[int]] | None = None,
) -> bytes:
    """A TIFF of (H, W) or (H, W, samples) of any number type.

    extra: the kind of the last sample (0 none, 1 premultiplied, 2 alpha). tiled: tiles of 16 x 32, else strips of 7
    rows. bits: fewer than the type has, which packs the samples. tags: more of them, or others.
    """
    values = values if values.ndim == 3 else values[..., None]
    height, width, samples = values.shape
    number, compress = COMPRESSIONS[compression]
    depth = bits or values.itemsize * 8
    planes = [values[..., each : each + 1] for each in range(samples)] if planar else [values]
    parts = []
    for plane in planes:
        if tiled:
            padded = np.pad(plane, ((0, -height % 16), (0, -width % 32), (0, 0)))
            pieces = [
                padded[top : top + 16, left : left + 32] for top in range(0, height, 16) for left in range(0, width, 32)
            ]
        else:
            pieces = [plane[top : top + 7] for top in range(0, height, 7)]
        parts += [compress(_packed(piece, bits, endian)) for piece in pieces]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    offsets = np.cumsum([8, *map(len, parts)])[:-1].tolist()
    entries = {256: [width], 257: [height], 258: [depth] * samples, 259: [number], 262: [photometric]}
    entries |= {277: [samples], 284: [2 if planar else 1], 339: [kind] * samples}
    entries |= {322: [32], 323: [16], 324: offsets, 325: [*map(len, parts)]} if tiled else {}
    entries |= {} if tiled else {278: [7], 273: offsets, 279: [*map(len, parts)]}
    entries |= {} if extra is None else {338: [extra]}
    entries |= tags or {}
    data = b"".join(parts)
    data += bytes(len(data) % 2)
    directory, tail = struct.pack(endian + "H", len(entries)), b""
    after = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, numbers in sorted(entries.items()):
        long = max(numbers) > 65535 or tag in (273, 279, 324, 325)
        body = struct.pack(f"{endian}{len(numbers)}{'I' if long else 'H'}", *numbers)
        if len(body) > 4:
            tail, body = tail + body, struct.pack(endian + "I", after + len(tail))
        directory += struct.pack(endian + "HHI", tag, 4 if long else 3, len(numbers)) + body.ljust(4, b"\0")
    start = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "I", 8 + len(data))
    return start + data + directory + bytes(4) + tail


def _packed(piece: np.ndarray, bits: int | None, endian: str) -> bytes:
    if bits is None:
        return np.ascontiguousarray(piece.astype(piece.dtype.newbyteorder(endian))).tobytes()
    rows = piece.reshape(len(piece), -1).astype(np.uint32)
    single = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(single.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()
