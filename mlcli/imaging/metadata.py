"""What an image file holds beside colors, carried over to a result: transparency, EXIF, resolution, color profile."""

import io
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms
from torch import Tensor

from mlcli.imaging import decoder, supervision
from mlcli.imaging.srgb import between_profiles
from mlcli.io.input_files import open_input

EXIF_BYTES = 65_000  # that a JPEG holds
MAKER_NOTE, WIDTH_IN_EXIF, HEIGHT_IN_EXIF, EXIF_IFD, GPS_IFD = 37500, 40962, 40963, 34665, 34853
# Tags of the first directory that describe what was photographed, when, how and by whom. In a TIFF the others there say
# how its pixels are stored, which is not so in the result.
DESCRIPTIVE = frozenset({270, 271, 272, 305, 306, 315, 316, 33432, 40091, 40092, 40093, 40094, 40095})

T = TypeVar("T")


def alpha_of(path: str | Path, max_pixels: int) -> Tensor | None:
    """The opacity (1, H, W) of an image as `image_io.read` turns it, in [0, 1]; None where all of it is opaque.

    Raises ImageError as `image_io.read` does. An image without transparency is not decoded.
    """

    def alpha() -> Tensor | None:
        if not _header(path, lambda image: image.has_transparency_data, False):
            return None
        with decoder.opened(path, max_pixels) as (image, orientation):
            if isinstance(image, Tensor) or not image.has_transparency_data or image.mode.startswith("I"):
                return None
            if image.mode in ("La", "RGBa"):
                image = image.convert(image.mode.upper())
            levels = np.array(image.convert("RGBA").getchannel("A"))
            return None if levels.min() == 255 else decoder.upright(torch.from_numpy(levels)[None] / 255, orientation)

    return supervision.watched(alpha, path)


def with_alpha(image: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """(colors, alpha) which, laid over white, look like `image` (C, H, W) in [0, 1] as far as its transparency allows.

    alpha: (1, h, w) of any size, which is resized.
    """
    if alpha.shape[1:] != image.shape[1:]:
        alpha = F.interpolate(alpha[None], image.shape[1:], mode="bilinear", antialias=True)[0].clamp(0, 1)
    return torch.where(alpha > 0, (image - 1 + alpha) / alpha.clamp_min(1e-6), image).clamp(0, 1), alpha


def carried(path: str | Path, image: Image.Image, kind: str) -> tuple[Image.Image, dict[str, Any]]:
    """(a result in sRGB as it is to be written, options for Pillow's `save`) with the metadata of the file `path`.

    The pixels are brought to the profile of the file; where that does not fit them, they are said to be sRGB. Its EXIF
    orientation is 1, as the pixels are upright. What is damaged, or does not fit the format `kind`, is left out.
    """
    options: dict[str, Any] = {}
    info: dict[str | tuple[int, int], Any] = _header(path, lambda opened: dict(opened.info), {})
    with suppress(KeyError, TypeError, ValueError):
        dpi = info["dpi"]
        if len(dpi) == 2 and all(math.isfinite(each) and 1 <= float(each) <= 1e5 for each in dpi):
            options["dpi"] = tuple(float(each) for each in dpi)
    if exif := _header(path, lambda opened: _exif(opened, image.size, kind), b""):
        options["exif"] = exif
    if data := info.get("icc_profile"):
        image, profile = _in_profile(image, data)
        options |= {"icc_profile": profile} if profile else {}
    return image, options


def _header(path: str | Path, ask: Callable[[Image.Image], T], default: T) -> T:
    """What `ask` says of an image that is opened, not decoded; `default` where it cannot be opened."""
    decoder.prepare()
    try:
        with open_input(path) as stream, Image.open(stream) as image:
            return ask(image)
    except Exception:  # broken metadata spoils no pixel; a file that is broken is named by whoever reads it
        return default


def _exif(image: Image.Image, size: tuple[int, int], kind: str) -> bytes:
    given = image.getexif()
    kept = Image.Exif()
    for tag in set(given) & DESCRIPTIVE:
        kept[tag] = given[tag]
    for number in (EXIF_IFD, GPS_IFD):
        if inner := given.get_ifd(number):
            kept.get_ifd(number).update(inner)
            kept[number] = kept.get_ifd(number)
    inside = kept.get_ifd(EXIF_IFD)
    for tag, side in zip((WIDTH_IN_EXIF, HEIGHT_IN_EXIF), size, strict=True):
        if tag in inside:
            inside[tag] = side
    if not len(kept):
        return b""
    kept[decoder.ORIENTATION] = 1
    data = kept.tobytes()
    if kind == "JPEG" and len(data) > EXIF_BYTES:
        inside.pop(MAKER_NOTE, None)
        data = kept.tobytes()
    return data if kind != "JPEG" or len(data) <= EXIF_BYTES else b""


def _in_profile(image: Image.Image, data: bytes) -> tuple[Image.Image, bytes | None]:
    """An image in sRGB brought to a profile, and the profile to be written with it."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    color = image.mode in ("RGB", "RGBA")
    with suppress(Exception):  # a broken profile, or one that knows no way back
        profile = ImageCms.getOpenProfile(io.BytesIO(data))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image, data if color else None
        if profile.profile.xcolor_space.strip() == ("RGB" if color else "GRAY") and image.mode != "I;16":
            flags = ImageCms.Flags.NOOPTIMIZE
            plain, mode = image.convert("RGB"), "RGB" if color else "L"
            converted = between_profiles(plain, srgb, profile, mode, flags)
            if image.mode in ("RGBA", "LA"):
                converted.putalpha(image.getchannel("A"))
            return converted, data
    return image, srgb.tobytes() if color else None
