"""Transparency, EXIF, resolution and color profile carried from a file to what is made of it."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from mlcli.imaging import image_io, metadata
from tests import odd_images
from tests.odd_images import ALPHA, GRAY, RGB
from tests.written_bytes import profile

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
PIXELS = torch.from_numpy(RGB.transpose(2, 0, 1).copy())
ENDINGS = ("png", "jpg", "webp", "tif")
EXACT = {"webp": {"lossless": True, "exact": True}}


def exif(orientation: int, **extra) -> Image.Exif:
    made = Image.Exif()
    made[274], made[271], made[315], made[33432] = orientation, "Maker", "Somebody", "(c) Somebody"
    inner = {36867: "2020:01:02 03:04:05", 33434: 0.01, 40962: 9999, 40963: 9999, **extra.get("inner", {})}
    made.get_ifd(34665).update(inner)
    made[34665] = made.get_ifd(34665)
    made.get_ifd(34853).update({1: "N", 2: (47.0, 22.0, 0.0)})
    made[34853] = made.get_ifd(34853)
    return made


@pytest.mark.parametrize("source", ENDINGS)
@pytest.mark.parametrize("target", ENDINGS)
def test_exif_and_resolution_go_from_any_format_to_any(tmp_path, source, target):
    content, result = tmp_path / f"a.{source}", tmp_path / f"b.{target}"
    options = {} if source == "webp" else {"dpi": (300, 200)}
    Image.fromarray(RGB).save(content, exif=exif(6).tobytes(), **options)
    image_io.write(PIXELS, result, like=content)
    with Image.open(result) as made:
        got = made.getexif()
        assert (got[271], got[315], got[33432]) == ("Maker", "Somebody", "(c) Somebody")
        assert got.get(274, 1) == 1  # the pixels are upright
        inner = got.get_ifd(34665)
        assert inner[36867] == "2020:01:02 03:04:05" and float(inner[33434]) == pytest.approx(0.01)
        assert (inner[40962], inner[40963]) == (RGB.shape[1], RGB.shape[0])
        assert got.get_ifd(34853)[1] == "N"
        if source != "webp" and target != "webp":  # which has no resolution of its own
            assert made.info["dpi"] == pytest.approx((300, 200), abs=0.1)
    assert image_io.read(result).shape == PIXELS.shape  # and is not rotated again


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_transparency_stays(tmp_path, ending):
    content, result = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    clear = np.where(ALPHA < 100, 0, ALPHA)
    Image.fromarray(np.dstack([RGB, clear])).save(content, **EXACT.get(ending, {}))
    image_io.write(image_io.read(content), result, like=content)  # nothing done to it
    with Image.open(result) as made:
        assert made.mode == "RGBA"
        got = np.array(made)
    if ending != "webp":  # which is written with loss
        assert np.array_equal(got[..., 3], clear)
        assert np.abs(got[clear > 0][:, :3].astype(int) - RGB[clear > 0]).max() <= 2
    assert (image_io.read(result).int() - image_io.read(content).int()).abs().float().mean() < 4


def test_transparency_of_every_kind(tmp_path):
    files = {
        "gray.png": (Image.fromarray(np.dstack([GRAY, ALPHA]), "LA"), {}, ALPHA),
        "key.png": (Image.fromarray(GRAY), {"transparency": int(GRAY[3, 3])}, np.where(GRAY == GRAY[3, 3], 0, 255)),
        "palette.png": (
            Image.fromarray(RGB).quantize(4), {"transparency": bytes([0, 128, 255, 255])}, None,
        ),
        "a.tga": (Image.fromarray(np.dstack([RGB, ALPHA])), {}, ALPHA),
    }  # fmt: skip
    for name, (image, options, expected) in files.items():
        image.save(tmp_path / name, **options)
        if expected is None:
            expected = np.array([0, 128, 255, 255])[np.array(image)]
        alpha = metadata.alpha_of(tmp_path / name, image_io.MAX_PIXELS)
        assert np.abs(alpha[0].numpy() * 255 - expected).max() < 0.5, name
        for made in (PIXELS, torch.from_numpy(GRAY.copy())[None]):
            image_io.write(made, tmp_path / "result.png", like=tmp_path / name)
            with Image.open(tmp_path / "result.png") as result:
                assert result.mode == ("RGBA" if made is PIXELS else "LA")
                assert np.abs(np.array(result)[..., -1].astype(int) - expected).max() <= 1, name


def test_transparency_is_rotated_and_resized(tmp_path):
    Image.fromarray(np.dstack([RGB, ALPHA])).save(tmp_path / "a.png", exif=exif(6))
    image_io.write(torch.rand(3, 48, 32), tmp_path / "b.png", like=tmp_path / "a.png")
    with Image.open(tmp_path / "b.png") as result:
        got = np.array(result)[..., 3]
    assert got.shape == (48, 32) and (np.diff(got.astype(int), axis=0) <= 0).all() and np.ptp(got, axis=1).max() == 0


def test_what_is_opaque_or_cannot_be_transparent_is_written_plain(tmp_path):
    Image.fromarray(np.dstack([RGB, ALPHA])).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([RGB, 0 * ALPHA + 255])).save(tmp_path / "opaque.png")
    image_io.write(PIXELS, tmp_path / "b.jpg", like=tmp_path / "a.png")
    image_io.write(PIXELS, tmp_path / "b.png", like=tmp_path / "opaque.png")
    for name in ("b.jpg", "b.png"):
        with Image.open(tmp_path / name) as result:
            assert result.mode == "RGB"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_profile_goes_with_the_colors_in_it(tmp_path, ending):
    swapped = profile(b"RGB ", swap=True)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    smooth = Image.fromarray(np.linspace(90, 200, RGB.size).astype(np.uint8).reshape(RGB.shape))
    for data, gray in ((swapped, False), (srgb, False), (profile(b"GRAY"), True)):
        content, result = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
        if gray and ending == "webp":
            continue
        (smooth.convert("L") if gray else smooth).save(
            content, icc_profile=data, **({"quality": 98} if ending == "jpg" else EXACT.get(ending, {}))
        )
        seen = image_io.read(content)
        image_io.write(seen[:1] if gray else seen, result, like=content)
        with Image.open(result) as made:
            assert made.info["icc_profile"] == data
        assert (image_io.read(result).int() - seen.int()).abs().float().mean() < 3, (ending, gray)


def test_a_profile_that_does_not_fit_is_said_to_be_srgb_or_left_out(tmp_path):
    for name, data in {
        "inks.tif": profile(b"CMYK"),
        "gray.png": profile(b"GRAY"),
        "broken.png": b"not a profile",
    }.items():
        mode = {"inks.tif": "CMYK", "gray.png": "L"}.get(name, "RGB")
        Image.fromarray(RGB).convert(mode).save(tmp_path / name, icc_profile=data)
        image_io.write(PIXELS, tmp_path / "color.png", like=tmp_path / name)
        image_io.write(PIXELS[:1], tmp_path / "gray-result.png", like=tmp_path / name)
        with Image.open(tmp_path / "color.png") as made:
            described = ImageCms.getOpenProfile(__import__("io").BytesIO(made.info["icc_profile"]))
            assert "srgb" in ImageCms.getProfileDescription(described).lower()
        assert torch.equal(image_io.read(tmp_path / "color.png"), PIXELS)
        if name != "gray.png":
            with Image.open(tmp_path / "gray-result.png") as made:
                assert "icc_profile" not in made.info


def test_damaged_or_large_metadata_spoil_no_result(tmp_path):
    good, bad = odd_images.make(tmp_path / "odd")
    for name in (*good, *bad):
        if len(name) < 40:
            for ending in ENDINGS:
                image_io.write(PIXELS, tmp_path / f"b.{ending}", like=tmp_path / "odd" / name)
                assert image_io.read(tmp_path / f"b.{ending}").shape == PIXELS.shape, name
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif(1, inner={37500: bytes(100_000)}))
    image_io.write(PIXELS, tmp_path / "b.jpg", like=tmp_path / "a.png")
    with Image.open(tmp_path / "b.jpg") as made:
        assert made.getexif()[271] == "Maker" and 37500 not in made.getexif().get_ifd(34665)
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif(1, inner={37510: bytes(100_000)}))
    image_io.write(PIXELS, tmp_path / "b.jpg", like=tmp_path / "a.png")
    image_io.write(PIXELS, tmp_path / "b.png", like=tmp_path / "no-such-file.png")


def test_a_thumbnail_of_the_old_pixels_is_left_out(tmp_path):
    block = b"II*\0" + struct.pack("<IHHHII", 8, 1, 271, 2, 6, 44) + struct.pack("<I", 26)
    block += struct.pack("<HHHIII", 1, 513, 4, 1, 50, 0) + b"Maker\0"
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block + b"\xff\xd8thumbnail")
    image_io.write(PIXELS, tmp_path / "b.jpg", like=tmp_path / "a.jpg")
    assert b"thumbnail" not in (tmp_path / "b.jpg").read_bytes()
    with Image.open(tmp_path / "b.jpg") as made:
        assert made.getexif()[271] == "Maker"
