"""TIFF files of every layout of samples: the right pixels, or a refusal that says what would read them."""

import importlib.util
import itertools
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from mlcli.errors import ImageError
from mlcli.imaging import image_io, reading, tiff
from mlcli.io import tally
from tests import tiff_files
from tests.odd_images import encoded
from tests.written_bytes import profile

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
HEIGHT, WIDTH = 21, 45  # neither is a multiple of a strip or a tile
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
UNIT = np.stack(  # four samples that differ in every pixel, each from 0 to 1
    [COLUMNS / (WIDTH - 1), ROWS / (HEIGHT - 1), (COLUMNS + 2 * ROWS) % 17 / 16, 1 - COLUMNS * ROWS % 23 / 22], -1
)
KINDS = {  # name: (samples, photometric, extra)
    "gray": (1, 1, None),
    "white is zero": (1, 0, None),
    "gray alpha": (2, 1, 2),
    "rgb": (3, 2, None),
    "rgb and more": (4, 2, 0),
    "premultiplied": (4, 2, 1),
    "rgba": (4, 2, 2),
    "cmyk": (4, 5, None),
}
TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")


def samples(kind: str, dtype: str) -> np.ndarray:
    """(H, W, samples) of a type over its range from 0 on."""
    values = UNIT[..., : KINDS[kind][0]]
    if kind == "premultiplied":
        values = np.concatenate([values[..., :3] * values[..., 3:], values[..., 3:]], -1)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.round(values * np.iinfo(dtype).max).astype(dtype)


def seen(kind: str, values: np.ndarray) -> np.ndarray:
    """What a reader finds, (H, W, 3) in [0, 1], from the definition of each kind."""
    unit = values.astype(np.float64)
    if values.dtype.kind != "f":
        unit /= np.iinfo(values.dtype).max
    if kind == "white is zero":
        unit = 1 - unit
    elif kind == "cmyk":
        unit = (1 - unit[..., :3]) * (1 - unit[..., 3:])
    elif kind in ("gray alpha", "rgba"):
        unit = unit[..., :-1] * unit[..., -1:] + 1 - unit[..., -1:]
    elif kind == "premultiplied":
        unit = unit[..., :3] + 1 - unit[..., 3:]
    return np.broadcast_to(unit[..., :3], (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_layout_gives_its_pixels(tmp_path, kind, dtype):
    count, photometric, extra = KINDS[kind]
    values = samples(kind, dtype)
    # 8 bits of 16, and colors laid over white in 8 bits: at most two levels off
    near = 2.6 / 255 if dtype in ("u1", "u2") and kind not in ("gray", "white is zero") else 0.6 / 255
    near = max(near, 2e-3 if dtype == "f2" else 0)
    path = tmp_path / "a.tif"
    layouts = itertools.product([False, True], [False, True], "<>", tiff_files.COMPRESSIONS)
    for planar, tiled, endian, compression in layouts:
        if planar and count == 1:
            continue
        layout = {"planar": planar, "tiled": tiled, "endian": endian, "compression": compression}
        data = tiff_files.tiff(values, photometric=photometric, extra=extra, **layout)
        path.write_bytes(data)
        if compression in ("none", "deflate"):  # an independent reader agrees that this is the file meant
            stored = tifffile.imread(path)
            assert np.array_equal(np.moveaxis(stored, 0, -1) if planar else stored, values.squeeze()), layout
        try:
            got = image_io.to_unit(image_io.read(path)).permute(1, 2, 0).numpy()
        except ImageError as error:
            assert "imagecodecs" in str(error) and compression in ("lzw", "packbits"), (layout, error)
            assert dtype != "u1" or (kind == "gray alpha" and planar), layout
            assert importlib.util.find_spec("imagecodecs") is None, layout
            continue
        assert got.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(got - seen(kind, values)).max() <= near, layout


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_gray(tmp_path, bits, photometric):
    values = np.round(UNIT[..., 2] * (2**bits - 1)).astype("u2")
    expected = values / (2**bits - 1) if photometric else 1 - values / (2**bits - 1)
    for endian, tiled in itertools.product("<>", [False, True]):
        data = tiff_files.tiff(values, photometric=photometric, bits=bits, endian=endian, tiled=tiled)
        (tmp_path / "a.tif").write_bytes(data)
        try:
            got = image_io.to_unit(image_io.read(tmp_path / "a.tif"))[1].numpy()
        except ImageError as error:
            assert "imagecodecs" in str(error) and importlib.util.find_spec("imagecodecs") is None and bits > 8
            continue
        assert np.abs(got - expected).max() < 0.6 / 255, (endian, tiled)


def test_big_tiff_palettes_and_predictors(tmp_path):
    path, rng = tmp_path / "a.tif", np.random.default_rng(0)
    rgb = np.round(UNIT[..., :3] * 255).astype("u1")
    for endian, dtype in itertools.product("<>", ("u1", "u2")):
        tifffile.imwrite(path, rgb.astype(dtype), photometric="rgb", bigtiff=True, byteorder=endian)
        got = image_io.read(path).permute(1, 2, 0).numpy()
        assert np.array_equal(got, rgb if dtype == "u1" else rgb >> 8)
        for planar in ("contig", "separate"):
            values = rgb.astype(dtype) * (257 if dtype == "u2" else 1)
            given = values if planar == "contig" else np.moveaxis(values, -1, 0)
            tifffile.imwrite(path, given, photometric="rgb", planarconfig=planar, compression="zlib", predictor=2)
            assert np.array_equal(image_io.read(path).permute(1, 2, 0).numpy(), rgb), (dtype, planar)
    for dtype in ("u1", "u2"):
        colors = rng.integers(0, 65536, (3, 256 ** np.dtype(dtype).itemsize)).astype("u2")
        tifffile.imwrite(path, rgb[..., 0].astype(dtype), photometric="palette", colormap=colors)
        expected = (colors.T[rgb[..., 0]] >> 8).astype("u1")
        assert np.array_equal(image_io.read(path).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("dtype", ["u4", "i4", "f4", "f8"])
def test_numbers_without_a_scale(tmp_path, dtype):
    """Of 32 bits and more: 0 to 65535 is taken for that range, all else is stretched."""
    words = np.round(UNIT[..., 0] * 65535).astype(dtype)
    for values in (words, words * np.dtype(dtype).type(30_000) + np.dtype(dtype).type(10**6)):
        (tmp_path / "a.tif").write_bytes(tiff_files.tiff(values, photometric=1))
        got = image_io.read(tmp_path / "a.tif")
        assert np.abs(got[0].numpy() - UNIT[..., 0]).max() < 1e-4, values.max()


def test_profiles_and_orientation_hold_in_every_layout(tmp_path):
    linear = list(profile(b"RGB "))
    values = np.round(UNIT[..., :3] * 255).astype("u2") * 257
    expected = encoded(values / 65535).transpose(2, 0, 1)
    for planar in (False, True):
        path = tmp_path / f"{planar}.tif"
        path.write_bytes(_with_profile(tiff_files.tiff(values, photometric=2, planar=planar, tags={274: [6]}), linear))
        got = image_io.read(path).numpy()
        assert np.abs(got - np.rot90(expected, -1, (1, 2))).max() < 2.1, planar


def _with_profile(data: bytes, icc: list[int]) -> bytes:
    """A little-endian TIFF with one tag more, the profile behind its end."""
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    entries = data[start + 2 : start + 2 + 12 * count]
    new = (count + 1).to_bytes(2, "little") + entries
    offset = len(data) + len(new) + 16
    new += (34675).to_bytes(2, "little") + b"\7\0" + len(icc).to_bytes(4, "little") + offset.to_bytes(4, "little")
    return data[:4] + len(data).to_bytes(4, "little") + data[8:] + new + bytes(4) + bytes(icc)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({257: [60_000]}, "cut off or damaged"),  # more rows than it has strips
        ({257: [60_000], 278: [60_000]}, "cannot hold 45 x 60000 pixels"),  # or than its bytes hold
        ({256: [60_000]}, "cannot hold"),
        ({273: [8, 9, 10**9]}, "beyond its end"),
        ({258: [64] * 3}, "cannot hold|broken"),
        ({262: [8]}, "photometric interpretation 8|broken|not an image"),
        ({277: [40]}, "broken|not an image|cannot hold|photometric"),
    ],
)
def test_false_sizes_are_refused_before_anything_is_decoded(tmp_path, monkeypatch, change, words):
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("tifffile.TiffPage.asarray", lambda self, **_: pytest.fail("decoded"))
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_files.tiff(samples("rgb", "u2"), photometric=2, planar=262 in change, tags=change))
    if 262 in change:
        monkeypatch.undo()  # what kind of values they are is known after decoding
    with pytest.raises(ImageError, match=words):
        image_io.read(path)


def test_a_false_height_of_a_compressed_file(tmp_path):
    for compression in ("deflate", "lzw", "packbits"):
        for height, words in [(10_000, "cut off or damaged"), (2_000_000, "more than an image file holds")]:
            data = tiff_files.tiff(samples("gray", "u1"), photometric=1, compression=compression, tags={257: [height]})
            (tmp_path / "a.tif").write_bytes(data)
            with pytest.raises(ImageError, match=words):
                image_io.read(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "jpeg"])
def test_a_false_height_that_libtiff_would_fill(tmp_path, compression):
    image = Image.fromarray(np.round(UNIT[..., 0] * 255).astype("u1")).convert("L" if compression == "jpeg" else "1")
    image.save(tmp_path / "a.tif", compression=compression)
    data = (tmp_path / "a.tif").read_bytes()
    assert image_io.read(tmp_path / "a.tif").shape == (3, HEIGHT, WIDTH)
    start = int.from_bytes(data[4:8], "little")
    for height in (5_000, 300_000):
        changed = bytearray(data)
        for entry in range(start + 2, start + 2 + 12 * int.from_bytes(data[start : start + 2], "little"), 12):
            if int.from_bytes(data[entry : entry + 2], "little") in (257, 278):
                changed[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, height)
        (tmp_path / "b.tif").write_bytes(changed)
        with pytest.raises(ImageError, match="cut off or damaged: .* rows in a strip that holds"):
            image_io.read(tmp_path / "b.tif")


def test_sensors_of_fewer_bits_are_named_and_stretched(tmp_path):
    path = tmp_path / "a.tif"
    for bits, (kind, planar) in itertools.product([8, 10, 12, 14], [("gray", False), ("rgb", False), ("rgb", True)]):
        values = samples(kind, "u2") >> (16 - bits)
        path.write_bytes(tiff_files.tiff(values, photometric=KINDS[kind][1], planar=planar))
        expected = np.broadcast_to(values / (2**bits - 1), (HEIGHT, WIDTH, 3))
        counted = tally.begin()
        assert image_io.to_unit(image_io.read(path)).max() < 0.26
        assert reading.DARK in counted.summary() or (kind == "rgb" and not planar)
        counted = tally.begin()
        with reading.using(reading.Reading(stretch=True)):
            got = image_io.to_unit(image_io.read(path)).permute(1, 2, 0).numpy()
        assert np.abs(got - expected).max() < 1.01 / 255 and reading.DARK not in counted.summary(), (bits, kind, planar)


def test_labels_of_what_pillow_cannot_read_are_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_files.tiff(samples("rgb", "f4"), photometric=2))
    with pytest.raises(ImageError, match="not a map of classes"):
        image_io.read_labels(tmp_path / "a.tif")


def test_misread_names_layouts_by_their_tags():
    assert tiff.misread({258: (16, 16, 16), 277: 3, 284: 2, 259: 1})
    assert not tiff.misread({258: (16, 16, 16), 277: 3, 284: 1})
    assert not tiff.misread({258: (8, 8, 8), 277: 3, 284: 2, 259: 1})
    assert Image.MAX_IMAGE_PIXELS  # and Pillow's own limit stays on
