"""A folder of odd and bad image files, with the pixels that a right reader finds in them.

Expected pixels are computed here with NumPy from the definition of each format, never with mlcli.
"""

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features

from tests.written_bytes import png, profile, tiff

# An image without symmetry (H = 16, W = 24): red grows to the right, green downwards, a blue corner.
HEIGHT, WIDTH = 16, 24
RGB = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
RGB[..., 0] = np.linspace(0, 255, WIDTH).round()
RGB[..., 1] = np.linspace(40, 220, HEIGHT).round()[:, None]
RGB[:6, 12:, 2] = 200
GRAY = np.linspace(3, 250, HEIGHT * WIDTH).round().astype(np.uint8).reshape(HEIGHT, WIDTH)
ALPHA = np.linspace(255, 0, WIDTH).round().astype(np.uint8)[None].repeat(HEIGHT, 0)
DEEP = np.linspace(0, 65535, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)
CMYK = np.stack([255 - RGB[..., 0], 255 - RGB[..., 1], 255 - RGB[..., 2], GRAY // 2], -1)

# How far a value may be off, in [0, 1]: half a level where the format is lossless, more where it is not.
EXACT = 0.51 / 255
SHARP = {"quality": 98, "subsampling": 0}
LOSSY = {".jpg": 0.05, ".avif": 0.06, ".mpo": 0.05}


def tolerance(name: str) -> float:
    special = {"ycbcr.tif": 2.1 / 255, "lab.tif": 3.1 / 255, "premultiplied.tif": 2.1 / 255}
    special |= {"key_wide.png": 1 / 255, "cmyk_adobe.jpg": 0.09, "cmyk_plain.jpg": 0.09}
    icc = 2.1 / 255 if name.startswith("icc") else EXACT
    return special.get(name, LOSSY.get(Path(name).suffix.lower(), icc))


def make(folder: Path) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Fill `folder`; return the good files' pixels, (3, H, W) float32 in [0, 1], and the bad files' names."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    good: dict[str, np.ndarray] = {}
    for part in (_plain, _transparent, _inks, _deep, _frames, _oriented, _profiled, _named):
        part(folder, good)
    expected = {name: _expected(pixels) for name, pixels in good.items()}
    return expected, _bad(folder)


def _expected(pixels: np.ndarray) -> torch.Tensor:
    """(H, W) or (H, W, 3), 0..255 or already [0, 1] float32, to (3, H, W) in [0, 1]."""
    if pixels.dtype != np.float32:
        pixels = (pixels / 255).astype(np.float32)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, -1)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha.astype(np.float64)[..., None] / 255 if color.ndim == 3 else alpha.astype(np.float64) / 255
    return color * opacity + 255 * (1 - opacity)


def encoded(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB in 0..255 (IEC 61966-2-1)."""
    light = np.asarray(light, np.float64)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _plain(folder, good):
    rgb, gray = Image.fromarray(RGB), Image.fromarray(GRAY)
    options = {"jpg": SHARP, "avif": {"quality": 95, "subsampling": "4:4:4"}}
    avif = " avif" if features.check("avif") else ""
    for ending in ("png bmp ppm tif tga pcx sgi jp2 j2k jpg" + avif).split():
        rgb.save(folder / f"rgb.{ending}", **options.get(ending, {}))
        good[f"rgb.{ending}"] = RGB
    rgb.save(folder / "rgb.webp", lossless=True)
    good["rgb.webp"] = RGB
    rgb.save(folder / "lzw.tif", compression="tiff_lzw")
    good["lzw.tif"] = RGB
    rgb.save(folder / "progressive.jpg", **SHARP, progressive=True)
    good["progressive.jpg"] = RGB
    for ending in "png pgm tif jpg".split():
        gray.save(folder / f"gray.{ending}")
        good[f"gray.{ending}"] = GRAY
    bits = GRAY > 100
    for ending in "png pbm tif".split():
        Image.fromarray(bits).save(folder / f"bits.{ending}")
        good[f"bits.{ending}"] = bits * np.uint8(255)
    palette = np.array([[0, 0, 0], [255, 0, 0], [10, 200, 30], [0, 0, 255]], np.uint8)
    indexed = Image.fromarray(GRAY // 64)
    indexed.putpalette(palette.tobytes())
    for ending in "png gif bmp".split():
        indexed.save(folder / f"palette.{ending}")
        good[f"palette.{ending}"] = palette[GRAY // 64]
    indexed.save(folder / "palette_alpha.png", transparency=bytes([0, 128, 255, 255]))
    good["palette_alpha.png"] = over_white(palette[GRAY // 64].astype(float), np.array([0, 128, 255, 255])[GRAY // 64])
    # 2 bits a sample, four samples a byte: no Pillow writer makes this
    quarter = GRAY // 64
    packed = quarter[:, 0::4] << 6 | quarter[:, 1::4] << 4 | quarter[:, 2::4] << 2 | quarter[:, 3::4]
    (folder / "two_bits.png").write_bytes(png(2, 0, packed))
    good["two_bits.png"] = quarter * np.uint8(85)


def _transparent(folder, good):
    rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
    rgba.save(folder / "rgba.png")
    rgba.save(folder / "rgba.tif")
    rgba.save(folder / "rgba.webp", lossless=True, exact=True)
    for name in ("rgba.png", "rgba.tif", "rgba.webp"):
        good[name] = over_white(RGB, ALPHA)
    Image.fromarray(np.dstack([GRAY, ALPHA]), "LA").save(folder / "gray_alpha.png")
    good["gray_alpha.png"] = over_white(GRAY, ALPHA)
    premultiplied = (RGB * (ALPHA[..., None] / 255)).round().astype(np.uint8)
    (folder / "premultiplied.tif").write_bytes(tiff(np.dstack([premultiplied, ALPHA]), 8, photometric=2, extra=1))
    good["premultiplied.tif"] = over_white(RGB, ALPHA)
    # A color key: every pixel of just that value is transparent.
    Image.fromarray(GRAY).save(folder / "key_gray.png", transparency=int(GRAY[3, 3]))
    good["key_gray.png"] = np.where(GRAY == GRAY[3, 3], 255, GRAY)
    Image.fromarray(RGB).save(folder / "key_rgb.png", transparency=tuple(map(int, RGB[2, 20])))
    good["key_rgb.png"] = np.where((RGB == RGB[2, 20]).all(-1, keepdims=True), 255, RGB)
    key = struct.pack(">H", DEEP[5, 5])
    (folder / "key_deep.png").write_bytes(png(16, 0, DEEP.astype(">u2"), (b"tRNS", key)))
    good["key_deep.png"] = np.where(DEEP == DEEP[5, 5], 1, DEEP / 65535).astype(np.float32)
    wide = RGB.astype(np.uint16) * 257
    key = struct.pack(">3H", *(256 + int(value) for value in RGB[2, 20]))  # of no pixel, but in its low bytes
    (folder / "key_wide.png").write_bytes(png(16, 2, wide.astype(">u2"), (b"tRNS", key)))
    good["key_wide.png"] = RGB


def _inks(folder, good):
    seen = (255.0 - CMYK[..., :3]) * (255 - CMYK[..., 3:]) / 255
    inks = Image.fromarray(CMYK, "CMYK")
    inks.save(folder / "cmyk.tif")
    inks.save(folder / "cmyk_adobe.jpg", **SHARP)  # Pillow inverts and says so in APP14
    data = (folder / "cmyk_adobe.jpg").read_bytes()
    at = data.index(b"\xff\xee\x00\x0eAdobe")
    plain = Image.fromarray(255 - CMYK, "CMYK")  # inverted once more, so that the file holds plain ink
    plain.save(folder / "cmyk_plain.jpg", **SHARP)
    data = (folder / "cmyk_plain.jpg").read_bytes()
    (folder / "cmyk_plain.jpg").write_bytes(data[:at] + data[at + 16 :])
    for name in ("cmyk.tif", "cmyk_adobe.jpg", "cmyk_plain.jpg"):
        good[name] = seen
    red, green, blue = RGB.astype(float).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    ycbcr = np.stack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], -1)
    Image.fromarray(ycbcr.round().clip(0, 255).astype(np.uint8), "YCbCr").save(folder / "ycbcr.tif")
    good["ycbcr.tif"] = RGB
    # a and b are signed bytes in the file.
    # Lab with a = b = 0 is gray: L* = 116 Y^(1/3) - 16, or 903.3 Y where Y is small
    lightness = np.linspace(0, 100, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    lab = np.dstack([(lightness * 2.55).round(), *[np.zeros_like(lightness)] * 2]).astype(np.uint8)
    Image.fromarray(lab, "LAB").save(folder / "lab.tif")
    lightness = lab[..., 0] / 2.55
    light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    good["lab.tif"] = encoded(light)


def _deep(folder, good):
    unit = (DEEP / 65535).astype(np.float32)
    Image.fromarray(DEEP).save(folder / "deep.png")
    Image.fromarray(DEEP).save(folder / "deep.tif")
    (folder / "deep.pgm").write_bytes(b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + DEEP.astype(">u2").tobytes())
    (folder / "deep_motorola.tif").write_bytes(tiff(DEEP, 16, endian=">"))
    for name in ("deep.png", "deep.tif", "deep.pgm", "deep_motorola.tif"):
        good[name] = unit
    (folder / "deep_inverted.tif").write_bytes(tiff(DEEP, 16, photometric=0))
    good["deep_inverted.tif"] = 1 - unit
    twelve = DEEP >> 4
    pairs = twelve.reshape(-1, 2).astype(np.uint16)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
    (folder / "twelve_bits.tif").write_bytes(tiff(packed.astype(np.uint8), 12, shape=(HEIGHT, WIDTH)))
    good["twelve_bits.tif"] = (twelve / 4095).astype(np.float32)
    (folder / "deep_rgb.png").write_bytes(png(16, 2, (RGB.astype(np.uint16) * 257).astype(">u2")))
    good["deep_rgb.png"] = RGB
    deep_alpha = np.dstack([GRAY, ALPHA]).astype(np.uint16) * 257
    (folder / "deep_gray_alpha.png").write_bytes(png(16, 4, deep_alpha.astype(">u2")))
    good["deep_gray_alpha.png"] = over_white(GRAY, ALPHA)
    Image.fromarray(DEEP.astype(np.int32)).save(folder / "integers.tif")
    good["integers.tif"] = unit
    Image.fromarray(DEEP.astype(np.int32) * 1000 - 5_000_000).save(folder / "integers_wide.tif")
    good["integers_wide.tif"] = unit
    for name, values in {
        "float_unit.tif": unit,
        "float_bytes.tif": unit * 255,
        "float_words.tif": unit * 65535,
        "float_signed.tif": unit * 30 - 20,
    }.items():
        Image.fromarray(values.astype(np.float32)).save(folder / name)
        good[name] = unit
    Image.fromarray(unit * np.float32(1.2)).save(folder / "float_overshoot.tif")
    good["float_overshoot.tif"] = np.minimum(unit * np.float32(1.2), 1)
    rows = unit[::-1].astype("<f4").tobytes()  # PFM is bottom-up
    (folder / "float.pfm").write_bytes(b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + rows)
    good["float.pfm"] = unit


def _frames(folder, good):
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    first.save(folder / "animated.png", save_all=True, append_images=[second])
    first.save(folder / "animated.webp", save_all=True, append_images=[second], lossless=True)
    first.save(folder / "pages.tif", save_all=True, append_images=[second])
    first.save(folder / "stereo.mpo", save_all=True, append_images=[second], **SHARP)
    for name in ("animated.png", "animated.webp", "pages.tif", "stereo.mpo"):
        good[name] = RGB
    Image.fromarray(GRAY).save(folder / "animated.gif", save_all=True, append_images=[Image.fromarray(255 - GRAY)])
    good["animated.gif"] = GRAY
    square = RGB[:, :16]
    Image.fromarray(square).save(folder / "icon.ico", sizes=[(16, 16)])
    good["icon.ico"] = square


def _oriented(folder, good):
    stored = {  # what a camera stores, such that the orientation brings RGB back
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: RGB.transpose(1, 0, 2)[::-1],
        7: RGB.transpose(1, 0, 2)[::-1, ::-1],
        8: RGB.transpose(1, 0, 2)[:, ::-1],
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"exif_{orientation}.jpg", exif=exif, **SHARP)
        good[f"exif_{orientation}.jpg"] = RGB
    exif = Image.Exif()
    exif[274] = 6
    rotated = Image.fromarray(np.ascontiguousarray(stored[6]))
    for ending, options in {"png": {}, "webp": {"lossless": True}, "tif": {}}.items():
        rotated.save(folder / f"exif.{ending}", exif=exif, **options)
        good[f"exif.{ending}"] = RGB
    Image.fromarray(RGB).save(folder / "exif_broken.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    good["exif_broken.png"] = RGB
    Image.fromarray(RGB).save(folder / "exif_99.png", exif=_orientation(99))
    good["exif_99.png"] = RGB


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = value
    return exif


def _profiled(folder, good):
    """Profiles of linear light: a reader that ignores them shows images far too dark."""
    linear = profile(b"RGB ")
    Image.fromarray(RGB).save(folder / "icc.png", icc_profile=linear)
    good["icc.png"] = encoded(RGB / 255)
    swapped = profile(b"RGB ", swap=True)
    Image.fromarray(RGB).save(folder / "icc_swapped.tif", icc_profile=swapped)
    good["icc_swapped.tif"] = encoded(RGB / 255)[..., ::-1]
    Image.fromarray(np.dstack([RGB, ALPHA])).save(folder / "icc_alpha.png", icc_profile=linear)
    good["icc_alpha.png"] = over_white(encoded(RGB / 255), ALPHA)
    Image.fromarray(GRAY).save(folder / "icc_gray.png", icc_profile=profile(b"GRAY"))
    good["icc_gray.png"] = encoded(GRAY / 255)
    Image.fromarray(DEEP).save(folder / "icc_deep.png", icc_profile=profile(b"GRAY"))
    good["icc_deep.png"] = encoded(DEEP / 65535)
    palette = Image.fromarray(GRAY // 64)
    colors = np.array([[0, 0, 0], [255, 0, 0], [10, 200, 30], [0, 0, 255]], np.uint8)
    palette.putpalette(colors.tobytes())
    palette.save(folder / "icc_palette.png", icc_profile=linear)
    good["icc_palette.png"] = encoded(colors / 255)[GRAY // 64]
    corners = np.where(CMYK > 127, 255, 0).astype(np.uint8)
    Image.fromarray(corners, "CMYK").save(folder / "icc_cmyk.tif", icc_profile=profile(b"CMYK"))
    # The made-up press of profile(): paper is L* 100, each of the four inks takes 25 away.
    lightness = 100 - 25 * (corners > 0).sum(-1)
    light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    good["icc_cmyk.tif"] = encoded(light)
    for name, data in {
        "icc_broken.png": b"not a profile",
        "icc_cut.png": linear[:200],
        "icc_of_gray.png": profile(b"GRAY"),
        "icc_of_inks.png": profile(b"CMYK"),
    }.items():
        Image.fromarray(RGB).save(folder / name, icc_profile=data)
        good[name] = RGB


def _named(folder, good):
    for name in ("png in disguise.jpg", "UPPER.PNG", "-o.png", "Füße 猫.png", "new\nline.png"):
        Image.fromarray(RGB).save(folder / name, "PNG")
        good[name] = RGB
    good["png in disguise.jpg"] = RGB
    Image.fromarray(RGB[:1, :1]).save(folder / "one_pixel.png")
    good["one_pixel.png"] = RGB[:1, :1]
    Image.fromarray(RGB[:1].repeat(40, 1)).save(folder / "strip.png")
    good["strip.png"] = RGB[:1].repeat(40, 1)


def _bad(folder) -> set[str]:
    def half(name: str) -> bytes:
        data = (folder / name).read_bytes()
        return data[: len(data) // 2]

    whole = (folder / "rgb.png").read_bytes()
    at = whole.index(b"IDAT") + 8
    not_finite = np.ones((4, 4), np.float32)
    not_finite[1, 1] = np.nan
    infinite = np.ones((4, 4), np.float32)
    infinite[0, 0] = np.inf
    contents = {
        "empty.jpg": b"",
        "one_byte.png": b"\x89",
        "text.jpg": b"This is not an image.\n",
        "page.png": b"<!DOCTYPE html><html><body>404</body></html>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "archive.jpg": b"PK\x03\x04" + bytes(60),
        "zeros.tif": bytes(4096),
        "signature.png": whole[:8],
        "header.jpg": (folder / "rgb.jpg").read_bytes()[:40],
        "noise.gif": b"GIF89a" + np.random.default_rng(0).bytes(300),
        "flipped.png": whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :],
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "no_pixels.png": png(8, 2, np.zeros((1, 3), np.uint8), size=(0, 0)),
        "bomb.png": png(8, 0, np.zeros((1, 1), np.uint8), size=(60000, 60000)),
        "bomb.ppm": b"P6 1000000 1000000 255\n",
        "bomb.gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
        "bomb.bmp": struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 99999, 99999, 1, 24, *[0] * 6),
        "nan.tif": tiff(not_finite.view(np.uint32), 32, sample_format=3),
        "nine_samples.tif": tiff(np.zeros((4, 4, 9), np.uint8), 8, photometric=2),
        "infinite.tif": tiff(infinite.view(np.uint32), 32, sample_format=3),
    }
    # Codes that stand for nothing yet, of which libtiff complains on stderr by itself.
    lzw = bytearray((folder / "lzw.tif").read_bytes())
    lzw[12:40] = b"\xff" * 28
    contents["broken_lzw.tif"] = bytes(lzw)
    for name in "rgb.png rgb.jpg progressive.jpg rgb.bmp rgb.ppm rgb.tif lzw.tif rgb.webp rgb.jp2 rgb.tga".split():
        contents["cut_" + name] = half(name)
    for name in "rgb.j2k rgb.sgi palette.gif deep.tif icon.ico deep.pgm float.pfm".split():
        contents["cut_" + name] = half(name)
    if features.check("avif"):
        contents["cut_rgb.avif"] = half("rgb.avif")
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "leads_nowhere.jpg").symlink_to("nothing.jpg")
    return {*contents, "leads_nowhere.jpg"}
