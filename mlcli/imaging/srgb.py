"""The pixels of Pillow images of any mode, profile and depth, in sRGB."""

import io

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from mlcli.imaging import reading
from mlcli.io import tally

TINY = float(np.finfo(np.float32).tiny)  # a range that is not divided by
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262
BAND_PIXELS = 4_000_000  # that are converted at a time, so that a large image is in memory twice and no more
DEPTHS = (8, 10, 12, 14)  # bits of sensors, whose numbers are stored in 16


def from_pillow(image: Image.Image, name: object = "") -> Tensor:
    """The pixels of a Pillow image of any mode as `image_io.read` gives them, EXIF orientation left alone.

    In memory they may lie channel by channel or pixel by pixel.

    name: of its file, for `reading`.
    Raises ValueError for floats that are not finite, and what Pillow raises for a broken image.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_gray(image, name)
    width, height = image.size
    rows = max(1, BAND_PIXELS // width)
    if rows >= height:
        values = _values(image)
        return values.contiguous() if values.stride(0) == 0 else values
    pixels = torch.empty((3, height, width), dtype=torch.uint8)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        band.format = image.format
        pixels[:, top : top + rows] = _values(band)
    return pixels


def _values(image: Image.Image) -> Tensor:
    """A view (3, H, W) of the pixels of an image of at most 8 bits, in sRGB; gray has the same memory three times."""
    values = torch.from_numpy(np.array(_over_white(_to_srgb(image))))
    return values.expand(3, -1, -1) if values.ndim == 2 else values.permute(2, 0, 1)


def stretched(values: np.ndarray, name: object) -> np.ndarray:
    """Numbers of 16 bits brought to their full range where they are of a sensor of fewer bits, if `reading` says so.

    If not, the name of their file is noted there. The bits are the fewest of DEPTHS that hold all the numbers.
    """
    most = int(values.max()) if values.size else 0
    bits = next((bits for bits in DEPTHS if most < 1 << bits), 16)
    if bits == 16 or most == 0:
        return values
    if not reading.current().stretch:
        tally.current().note(str(name), reading.DARK)
        return values
    full = (1 << bits) - 1
    return ((values.astype(np.uint32) * 65535 + full // 2) // full).astype(np.uint16)


def unit_scale(values: np.ndarray) -> np.ndarray:
    """Bring numbers of unknown scale to [0, 1] as float32.

    The divisor is the smallest of the usual full scales that holds them all: 1 or 255 (floats only), 65535.
    A float may overshoot its scale by a quarter, as resampled images do, and is clamped. Where no scale
    fits (negative or greater values: heights, temperatures), the range from least to greatest is stretched.
    Raises ValueError for NaN and infinity.
    """
    if values.size and not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite numbers")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    floating = values.dtype.kind == "f"
    slack = 1.25 if floating else 1.0
    for full in (1, 255, 65535) if floating else (65535,):
        if low >= 0 and high <= full * slack:
            return np.clip(values.astype(np.float32) / np.float32(full), 0, 1)
    values = values.astype(np.float64)  # 32-bit integers have more digits than float32
    # Of halves, since the difference of the greatest numbers that there are is none
    return ((values / 2 - low / 2) / max(high / 2 - low / 2, TINY)).astype(np.float32)


def _deep_gray(image: Image.Image, name: object) -> Tensor:
    """Gray with more than 8 bits to float32 (3, H, W) in [0, 1]."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        bits = tags.get(TIFF_BITS, (16,))[0]
        if bits == 16:
            given, values = values, stretched(values, name)
            if values is not given:
                image = Image.fromarray(values)
        unit = np.minimum(values.astype(np.float32) / np.float32(2**bits - 1), 1)
        if profile := _foreign_profile(image):
            # Color management gives 8 bits, which is less than a curve of tones that is wrong costs.
            if converted := _through_profile(image, profile):
                return from_pillow(converted).to(torch.float32) / 255
    else:
        unit = unit_scale(values)
    if tags.get(TIFF_PHOTOMETRIC) == 0 and image.mode != "I":  # white is zero; Pillow inverts 8 bits only
        unit = 1 - unit
    key = image.info.get("transparency")
    if isinstance(key, int):
        unit = np.where(values == key, np.float32(1), unit)
    return torch.from_numpy(unit).expand(3, -1, -1).contiguous()


def _to_srgb(image: Image.Image) -> Image.Image:
    """An image of at most 8 bits in mode L, LA, RGB or RGBA, its colors in sRGB."""
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, which are inverted, and inverts it back.
        image = Image.eval(image, lambda value: 255 - value)
    if image.mode == "LAB":
        return between_profiles(image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "RGB")
    image = _simple_mode(image)
    profile = _foreign_profile(image)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    converted = None
    if profile is not None:
        converted = _through_profile(image.convert(image.mode.removesuffix("A")), profile)
    if converted is None:
        return image.convert("RGB") if image.mode == "CMYK" else image
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _simple_mode(image: Image.Image) -> Image.Image:
    """Undo palettes, bits, premultiplied alpha and transparent colors: mode L, LA, RGB, RGBA or CMYK."""
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        key = None  # the key of a 16-bit image, which says nothing about the 8 bits that are left
    if image.mode == "P":
        return image.convert("RGB" if key is None else "RGBA")
    if image.mode == "PA":
        return image.convert("RGBA")
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode.upper())
    if image.mode in ("1", "L", "RGB") and key is not None:
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    plain = image.mode.removesuffix("A")
    white = Image.new(plain, image.size, (255,) * len(plain) if plain == "RGB" else 255)
    white.paste(image.convert(plain), mask=image.getchannel("A"))
    return white


def _foreign_profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The embedded ICC profile, if there is a sound one and it is not sRGB."""
    data = image.info.get("icc_profile")
    if not data:
        return None
    try:
        profile = ImageCms.getOpenProfile(io.BytesIO(data))
        return None if "srgb" in ImageCms.getProfileDescription(profile).lower() else profile
    except Exception:  # a broken profile: the pixels count as sRGB, as they do without one
        return None


def between_profiles(
    image: Image.Image,
    source: ImageCms.core.CmsProfile | ImageCms.ImageCmsProfile,
    target: ImageCms.core.CmsProfile | ImageCms.ImageCmsProfile,
    mode: str,
    flags: ImageCms.Flags = ImageCms.Flags.NONE,
) -> Image.Image:
    """A copy of `image` in this mode, converted from one ICC profile to another. Raises ImageCms.PyCMSError."""
    converted = ImageCms.profileToProfile(image, source, target, outputMode=mode, flags=flags)
    assert converted is not None  # only a conversion in place returns None
    return converted


def _through_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    """`image` converted from `profile` to sRGB (L stays L), or None: a profile of another kind of pixels."""
    source = Image.frombytes("L", (256, 1), bytes(range(256))) if image.mode == "L" else image
    # Without this, LittleCMS samples the curve of gray at so few points that dark tones are 10 levels off.
    flags = ImageCms.Flags.NOOPTIMIZE if image.mode in ("L", "I;16", "I;16B") else ImageCms.Flags.NONE
    srgb = ImageCms.createProfile("sRGB")
    try:
        converted = between_profiles(source, profile, srgb, "RGB", flags)
    except Exception:
        return None
    return image.point(converted.getchannel("R").tobytes()) if image.mode == "L" else converted
