"""Files that are cut off, dark images of sensors, and false sizes."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from mlcli.errors import ImageError
from mlcli.imaging import decoder, image_io, reading
from mlcli.io import tally
from tests import odd_images
from tests.odd_images import GRAY, RGB
from tests.written_bytes import png, png_chunks

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


# ---------------------------------------------------------------------------------------------- cut off


def test_what_is_cut_off_is_taken_where_allowed(tmp_path):
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    folder = tmp_path / "odd"
    good, _ = odd_images.make(folder)
    for name in "rgb.jpg progressive.jpg rgb.png rgb.bmp rgb.tga rgb.ppm rgb.tif rgb.sgi".split():
        whole = (folder / name).read_bytes()
        path = tmp_path / name
        cut = -2 if name.endswith("jpg") else len(whole) * (6 if name == "rgb.png" else 7) // 8
        path.write_bytes(whole[:cut])
        with pytest.raises(ImageError, match=name):
            image_io.read(path)
        counted = tally.begin()
        with reading.using(reading.Reading(accept_truncated=True)):
            got = image_io.to_unit(image_io.read(path))
        assert f"1 {reading.TRUNCATED} ({path})" in counted.summary(), name
        assert got.shape == good[name].shape
        near = (got - good[name]).abs().amax(0) <= odd_images.tolerance(name)
        assert near.float().mean() > (0.99 if name.endswith("jpg") else 0.2), name
    counted = tally.begin()
    with reading.using(reading.Reading(accept_truncated=True)):
        assert image_io.read(folder / "rgb.png").shape == (3, HEIGHT, WIDTH)
        for name in ("empty.jpg", "text.jpg", "header.jpg", "one_byte.png", "bomb.png"):
            with pytest.raises(ImageError):  # of these nothing can be had
                image_io.read(folder / name)
    assert reading.TRUNCATED not in counted.summary() and not ImageFile.LOAD_TRUNCATED_IMAGES


def test_what_is_allowed_reaches_the_decoding_threads(tmp_path):
    from mlcli.imaging.decoding import decode

    Image.fromarray(RGB).save(tmp_path / "a.jpg", **odd_images.SHARP)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    counted = tally.begin()
    with reading.using(reading.Reading(accept_truncated=True)):
        taken = [image for _, image in decode([tmp_path / "b.jpg"] * 5, workers=2)]
    assert all(isinstance(image, torch.Tensor) for image in taken) and f"1 {reading.TRUNCATED}" in counted.summary()
    refused = [image for _, image in decode([tmp_path / "b.jpg"] * 3, workers=2)]
    assert all(isinstance(image, ImageError) for image in refused)


# ----------------------------------------------------------------------------------------- 16 bits, dark


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_png_of_a_sensor(tmp_path, bits):
    full = 2**bits - 1
    gray = np.round(GRAY / 250 * full).astype(">u2")
    color = np.round(RGB / 255 * full).astype(">u2")
    alpha = np.dstack([color, np.full(GRAY.shape, 65535)]).astype(">u2")
    files = {"gray": (0, gray, gray / full), "rgb": (2, color, color / full), "rgba": (6, alpha, color / full)}
    for name, (kind, rows, expected) in files.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(png(16, kind, rows.reshape(HEIGHT, -1)))
        counted = tally.begin()
        assert seen(path).max() < 64.1 and (reading.DARK in counted.summary()) == (not (bits == 8 and kind))
        counted = tally.begin()
        with reading.using(reading.Reading(stretch=True)):
            got = seen(path) / 255
        expected = expected if expected.ndim == 3 else np.stack([expected] * 3, -1)
        if not (bits == 8 and kind):  # of which Pillow sees nothing: black
            assert np.abs(got - expected).max() < 1.1 / 255 and reading.DARK not in counted.summary()


def test_stretch_leaves_the_rest_alone(tmp_path):
    good, _ = odd_images.make(tmp_path / "odd")
    with reading.using(reading.Reading(stretch=True)):
        for name in (
            "deep.png",
            "deep.tif",
            "deep_rgb.png",
            "gray.png",
            "rgb.tif",
            "float_unit.tif",
            "twelve_bits.tif",
        ):
            got = image_io.to_unit(image_io.read(tmp_path / "odd" / name))
            assert (got - good[name]).abs().max() <= odd_images.tolerance(name)


# ------------------------------------------------------------------------------------------ false sizes


WEBP = bytes.fromhex("524946461a000000574542505650384c0e0000002faff6ab0d071011fd0f4444ff03")


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times."""
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def test_tiny_files_that_would_take_gigabytes_or_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.load", lambda self: pytest.fail("decoded"))
    blank = zlib.compress(bytes(1000))
    cases = {
        "a.webp": (WEBP, "more than an image file holds"),
        "b.png": (
            png_chunks((b"IHDR", struct.pack(">IIBBBBB", 14_000, 14_000, 8, 2, 0, 0, 0)), (b"IDAT", blank)),
            "more",
        ),
        "c.jpg": (jpeg_of_scans(6000), "scans, which would take minutes"),
        "d.gif": (
            b"GIF89a"
            + struct.pack("<HH", 14_000, 14_000)
            + b"\0\0\0,"
            + struct.pack("<HHHH", 0, 0, 14_000, 14_000)
            + b"\0\2\2D\1\0;",
            "more than an image file holds",
        ),
        "e.ppm": (b"P6 14000 14000 255\n", "more than an image file holds"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=words):
            image_io.read(tmp_path / name)


def test_honest_files_are_not_taken_for_false_ones(tmp_path):
    Image.new("1", (6000, 6000), 1).save(tmp_path / "blank.tif", compression="group4")
    Image.new("L", (5000, 5000), 255).save(tmp_path / "blank.png")
    for name in ("blank.tif", "blank.png"):
        assert image_io.read(tmp_path / name).min() == 255
    (tmp_path / "a.jpg").write_bytes(jpeg_of_scans(1))
    assert image_io.read(tmp_path / "a.jpg").shape == (3, HEIGHT, WIDTH)


def test_scans_are_counted_across_blocks():
    for size in ((1 << 20) - 1, 1 << 20, 5):
        assert decoder._scans(io.BytesIO(bytes(size) + b"\xff\xda" + bytes(9) + b"\xff\xda")) == 2


def test_a_large_image_is_converted_in_bands(tmp_path, monkeypatch):
    good, _ = odd_images.make(tmp_path / "odd")
    whole = {name: image_io.read(tmp_path / "odd" / name) for name in good}
    monkeypatch.setattr("mlcli.imaging.srgb.BAND_PIXELS", 50)
    for name in good:
        assert torch.equal(image_io.read(tmp_path / "odd" / name), whole[name]), name


def test_a_pipe_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "PIPE_BYTES", 1000)
    import os

    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(bytes(5000)), daemon=True)
    writer.start()
    with pytest.raises(ImageError, match="more than 1,000 bytes through a pipe"):
        image_io.read(tmp_path / "pipe")
