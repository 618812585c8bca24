"""Reading modes of PNG, BMP and TGA, and files with damaged metadata."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mlcli.errors import ImageError
from mlcli.imaging import image_io
from tests import odd_images
from tests.odd_images import ALPHA, GRAY, RGB, over_white
from tests.written_bytes import png, png_chunks, profile

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
HEIGHT, WIDTH = GRAY.shape
PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)


def seen(path) -> np.ndarray:
    """(H, W, 3) in 0..255, as `image_io.read` has it."""
    return image_io.to_unit(image_io.read(path)).permute(1, 2, 0).numpy() * 255


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """(H, W) numbers of fewer than 8 bits, several to a byte."""
    single = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(single.reshape(len(values), -1).astype(np.uint8), axis=1)


# -------------------------------------------------------------------------------------------------- PNG


def interlaced(data: bytes, pixel_bytes: int) -> bytes:
    """A PNG of whole bytes a pixel, as `png` writes it, by the seven passes of Adam7."""
    header, stream = data[16:29], zlib.decompress(data[data.index(b"IDAT") + 4 : -16])
    lines = np.frombuffer(stream, np.uint8).reshape(HEIGHT, -1)[:, 1:].reshape(HEIGHT, WIDTH, pixel_bytes)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for t, l, down, across in passes for row in lines[t::down, l::across])  # noqa: E741
    return png_chunks((b"IHDR", header[:12] + b"\1"), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("color", [0, 2, 4, 6])
def test_png_of_whole_bytes(tmp_path, color, depth):
    alpha = {4: ALPHA, 6: ALPHA}.get(color)
    plain = GRAY if color in (0, 4) else RGB
    levels = plain if alpha is None else np.dstack([plain, alpha])
    rows = levels.astype(">u2") * 257 if depth == 16 else levels
    data = png(depth, color, rows.reshape(HEIGHT, -1))
    expected = plain.astype(float) if alpha is None else over_white(plain, alpha)
    expected = expected if expected.ndim == 3 else np.stack([expected] * 3, -1)
    each = depth // 8 * (1 if levels.ndim == 2 else levels.shape[2])
    for name, file in {"lines.png": data, "passes.png": interlaced(data, each)}.items():
        (tmp_path / name).write_bytes(file)
        assert np.abs(seen(tmp_path / name) - expected).max() < 0.6


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("color", [0, 3])
def test_png_of_few_bits(tmp_path, color, bits):
    values = GRAY >> (8 - bits)
    rows = packed(values, bits)
    chunks = [(b"PLTE", PALETTE[: 2**bits].tobytes())] if color == 3 else []
    (tmp_path / "a.png").write_bytes(png(bits, color, rows, *chunks))
    expected = PALETTE[values] if color == 3 else np.stack([values * (255 // (2**bits - 1))] * 3, -1)
    assert np.abs(seen(tmp_path / "a.png") - expected).max() < 0.6
    if color == 3:
        opacity = ALPHA[0].repeat(11)[: 2**bits]
        (tmp_path / "b.png").write_bytes(png(bits, color, rows, *chunks, (b"tRNS", opacity.tobytes())))
        assert np.abs(seen(tmp_path / "b.png") - over_white(PALETTE[values], opacity[values])).max() < 0.6


def with_chunk(kind: bytes, body: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    whole = buffer.getvalue()
    return whole[:33] + png_chunks((kind, body))[8:] + whole[33:]


LARGE = zlib.compress(bytes(40_000_000))
METADATA = {
    "iccp": with_chunk(b"iCCP", b"large\0\0" + LARGE),
    "ztxt": with_chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "itxt": with_chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "broken iccp": with_chunk(b"iCCP", b"x\0\0not deflated"),
    "bad sum": with_chunk(b"tEXt", b"Comment\0hello").replace(b"hello", b"jello"),
    "short time": with_chunk(b"tIME", b"\1"),
    "short physical": with_chunk(b"pHYs", b"\1"),
    "short chroma": with_chunk(b"cHRM", b"\1\2\3"),
    "short gamma": with_chunk(b"gAMA", b"\1"),
    "exif": with_chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_spoil_no_pixel(tmp_path, name):
    (tmp_path / "a.png").write_bytes(METADATA[name])
    assert np.array_equal(seen(tmp_path / "a.png").round(), RGB)


def test_many_texts_spoil_no_pixel(tmp_path):
    data = with_chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(15_000_000)))
    text = data[33 : data.index(b"IDAT") - 4]
    (tmp_path / "a.png").write_bytes(data[:33] + 6 * text + data[33:])
    assert np.array_equal(seen(tmp_path / "a.png").round(), RGB)


def test_a_large_profile_counts(tmp_path):
    """One of some megabytes, as of printers, is a profile like any other."""
    linear = profile(b"RGB ") + np.random.default_rng(0).bytes(3_000_000)
    linear = len(linear).to_bytes(4, "big") + linear[4:]
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=linear)
    assert np.abs(seen(tmp_path / "a.png") - odd_images.encoded(RGB / 255)).max() < 2.1


def test_damaged_pixels_are_not_saved_by_dropping_metadata(tmp_path):
    data = bytearray(METADATA["ztxt"])
    at = data.index(b"IDAT") + 30
    data[at] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="broken"):
        image_io.read(tmp_path / "a.png")


# -------------------------------------------------------------------------------------------------- BMP


def bmp(bits, rows, *, palette=None, colors=0, compression=0, masks=b"", header=40, down=False) -> bytes:
    """rows: (H, bytes) from top to bottom, without padding. palette: (K, 3) RGB. down: stored from the top."""
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    rows = rows if down else rows[::-1]
    table = b"" if palette is None else b"".join(bytes([b, g, r] + [0] * (header > 12)) for r, g, b in palette)
    if header == 12:
        head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        height = -HEIGHT if down else HEIGHT
        head = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, 0, 0, 0, colors, 0) + masks
        head = head.ljust(header, b"\0")
    start = 14 + len(head) + len(table)
    return struct.pack("<2sIHHI", b"BM", start + rows.size, 0, 0, start) + head + table + rows.tobytes()


GRAY_RAMP = np.stack([np.arange(256)] * 3, -1)
BLACK_WHITE = np.array([[0, 0, 0], [255, 255, 255]])


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("down", [False, True])
def test_bmp_with_a_palette(tmp_path, bits, down):
    palettes = {
        "colors": PALETTE,
        "ramp": GRAY_RAMP,
        "black and white": BLACK_WHITE,
        "white and black": 255 - BLACK_WHITE,
    }
    for (name, palette), header in itertools.product(palettes.items(), (12, 40, 108)):
        if header == 12 and (down or len(palette) < 2**bits):
            continue  # which that header cannot say
        palette = palette[: 2**bits]
        values = GRAY.astype(int) % len(palette)
        data = bmp(bits, packed(values, bits), palette=palette, colors=len(palette), header=header, down=down)
        (tmp_path / "a.bmp").write_bytes(data)
        assert np.abs(seen(tmp_path / "a.bmp") - palette[values]).max() < 0.6, (name, header)


def test_bmp_with_colors(tmp_path):
    b, g, r = (RGB[..., each].astype(np.uint32) for each in (2, 1, 0))
    four = 0xFF0000, 0xFF00, 0xFF, 0xFF000000
    words = {
        "24": (24, RGB[..., ::-1], 0, (), 40, RGB),
        "core": (24, RGB[..., ::-1], 0, (), 12, RGB),
        "555": (16, (r >> 3 << 10 | g >> 3 << 5 | b >> 3).astype("<u2"), 0, (), 40, (RGB >> 3) * (255 / 31)),
        "565": (16, (r >> 3 << 11 | g >> 2 << 5 | b >> 3).astype("<u2"), 3, (0xF800, 0x7E0, 0x1F), 56, None),
        "x": (32, (r << 16 | g << 8 | b | 77 << 24).astype("<u4"), 0, (), 40, RGB),
        "masks": (32, (b << 24 | g << 16 | r << 8).astype("<u4"), 3, (0xFF00, 0xFF0000, 0xFF000000), 56, None),
        "no alpha": (32, (r << 16 | g << 8 | b).astype("<u4"), 3, (*four[:3], 0), 108, RGB),
        "alpha 0": (32, (r << 16 | g << 8 | b).astype("<u4"), 3, four, 108, RGB),
        "alpha 255": (32, (r << 16 | g << 8 | b | 255 << 24).astype("<u4"), 3, four, 108, RGB),
        "alpha": (
            32,
            (r << 16 | g << 8 | b | ALPHA.astype("u4") << 24).astype("<u4"),
            3,
            four,
            124,
            over_white(RGB, ALPHA),
        ),
    }
    fine = (RGB & 248) / 248 * 255
    fine[..., 1] = (RGB[..., 1] & 252) / 252 * 255
    for (name, (bits, rows, compression, masks, header, expected)), down in itertools.product(
        words.items(), [False, True]
    ):
        rows = np.ascontiguousarray(rows).view(np.uint8).reshape(HEIGHT, -1)
        masked = struct.pack(f"<{len(masks)}I", *masks)
        data = bmp(bits, rows, compression=compression, masks=masked, header=header, down=down and header > 12)
        (tmp_path / "a.bmp").write_bytes(data)
        if name == "masks":  # a rare order, read or refused
            try:
                got = seen(tmp_path / "a.bmp")
            except ImageError as error:
                assert "bitfields" in str(error)
                continue
            expected = RGB
        else:
            got = seen(tmp_path / "a.bmp")
        assert np.abs(got - (fine if expected is None else expected)).max() < 1.1, (name, down)


# -------------------------------------------------------------------------------------------------- TGA


def tga(kind, depth, rows, *, attribute=0, palette=b"", map_depth=0, right=False, down=True) -> bytes:
    """rows: (H, W, bytes) from top left. attribute: how many bits of a pixel are alpha."""
    rows = rows[:, ::-1] if right else rows
    rows = rows if down else rows[::-1]
    count = len(palette) * 8 // map_depth if map_depth else 0
    flags = attribute | (32 if down else 0) | (16 if right else 0)
    head = struct.pack("<BBBHHBHHHHBB", 0, bool(palette), kind, 0, count, map_depth, 0, 0, WIDTH, HEIGHT, depth, flags)
    if kind < 8:
        return head + palette + np.ascontiguousarray(rows).tobytes()
    runs = []
    for row in rows:  # alternately a run and literals
        for start in range(0, WIDTH, 6):
            piece = row[start : start + 6]
            runs.append(bytes([len(piece) - 1]) + piece.tobytes())
    return head + palette + b"".join(runs)


@pytest.mark.parametrize("compressed", [0, 8])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_tga(tmp_path, compressed, right, down):
    bgr, bgra = RGB[..., ::-1], np.dstack([RGB[..., ::-1], ALPHA])
    empty = np.dstack([RGB[..., ::-1], np.zeros_like(ALPHA)])
    r, g, b = (RGB[..., each].astype(np.uint16) >> 3 for each in range(3))
    fifteen = (r << 10 | g << 5 | b).astype("<u2").view(np.uint8).reshape(HEIGHT, WIDTH, 2)
    marked = (r << 10 | g << 5 | b | 0x8000).astype("<u2").view(np.uint8).reshape(HEIGHT, WIDTH, 2)
    index, colors = (GRAY // 16)[..., None], PALETTE[:16]
    map24, map32 = (
        colors[:, ::-1].tobytes(),
        np.dstack([colors[None, :, ::-1], np.zeros((1, 16))]).astype("u1").tobytes(),
    )
    coarse = (RGB >> 3) * (255 / 31)
    cases = {
        "rgb": (tga, 2, 24, bgr, {}, RGB),
        "rgba": (tga, 2, 32, bgra, {"attribute": 8}, over_white(RGB, ALPHA)),
        "attribute bits 0": (tga, 2, 32, bgra, {}, RGB),
        "alpha 0": (tga, 2, 32, empty, {"attribute": 8}, RGB),
        "alpha and attribute bits 0": (tga, 2, 32, empty, {}, RGB),
        "15": (tga, 2, 16, fifteen, {}, coarse),
        "15 marked": (tga, 2, 16, marked, {}, coarse),
        "15 all marked": (tga, 2, 16, marked, {"attribute": 1}, coarse),
        "gray": (tga, 3, 8, GRAY[..., None], {}, GRAY),
        "gray alpha": (tga, 3, 16, np.dstack([GRAY, ALPHA]), {"attribute": 8}, over_white(GRAY, ALPHA)),
        "gray alpha 0": (tga, 3, 16, np.dstack([GRAY, 0 * ALPHA]), {"attribute": 8}, GRAY),
        "map": (tga, 1, 8, index, {"palette": map24, "map_depth": 24}, colors[index[..., 0]]),
        "map alpha 0": (tga, 1, 8, index, {"palette": map32, "map_depth": 32, "attribute": 8}, colors[index[..., 0]]),
        "map attribute 0": (tga, 1, 8, index, {"palette": map32, "map_depth": 32}, colors[index[..., 0]]),
    }
    for name, (write, kind, depth, rows, options, expected) in cases.items():
        (tmp_path / "a.tga").write_bytes(write(kind + compressed, depth, rows, right=right, down=down, **options))
        expected = expected if expected.ndim == 3 else np.stack([expected] * 3, -1)
        got = seen(tmp_path / "a.tga")
        assert np.abs(got - expected).max() < 1.1, name


def test_alpha_of_0_counts_where_a_format_is_sure_of_it(tmp_path):
    nothing = Image.fromarray(np.dstack([RGB, 0 * ALPHA]))
    for name in ("a.png", "a.tif", "a.webp"):
        nothing.save(tmp_path / name, **({"lossless": True, "exact": True} if name == "a.webp" else {}))
        assert seen(tmp_path / name).min() == 255
    nothing.save(tmp_path / "a.ico", sizes=[(16, 16)], bitmap_format="bmp")
    nothing.save(tmp_path / "a.dds")
    for name in ("a.ico", "a.dds"):
        assert seen(tmp_path / name).min() < 50
