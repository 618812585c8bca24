"""Pixels of Pillow images of any mode; those of files are tested in test_images."""

import warnings

import numpy as np
import pytest
from PIL import Image

from mlcli.imaging import image_io, srgb


@pytest.mark.parametrize("mode", "1 L P LA La PA RGB RGBA RGBa RGBX CMYK YCbCr HSV LAB I F I;16 I;16B I;16L".split())
def test_every_mode_of_pillow(mode):
    white = {"1": 1, "CMYK": (0, 0, 0, 0), "HSV": (0, 0, 255), "F": 1.0, "I": 65535}
    white |= {"LAB": (255, 128, 128), "YCbCr": (255, 128, 128)}
    white |= dict.fromkeys(("I;16", "I;16B", "I;16L"), 65535)
    if mode in ("P", "PA"):
        image = Image.new("RGB", (5, 4), "white").convert("P").convert(mode)
    else:
        image = Image.new(mode, (5, 4), white.get(mode, (255,) * len(mode)))
    got = image_io.to_unit(srgb.from_pillow(image))
    assert got.shape == (3, 4, 5) and (1 - got).abs().max() <= 1.01 / 255


def test_unit_scale():
    ramp = np.array([0.0, 0.5, 1.0])
    for values, expected in [
        (ramp, ramp),
        (ramp * 1.1, [0, 0.55, 1]),
        (ramp * 255, ramp),
        (ramp * 65535, ramp),
        (ramp * 1e6 - 5, ramp),
        (ramp - 0.5, ramp),
        (np.array([0, 32768, 65535]), [0, 32768 / 65535, 1]),
        (np.array([0, 1, 2]), [0, 1 / 65535, 2 / 65535]),
        (np.array([0, 100_000, 200_000]), ramp),
        (np.array([-3.0, -3.0]), [0, 0]),
        (np.array([0.0, 0.0]), [0, 0]),
    ]:
        got = srgb.unit_scale(values)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-6)
    with pytest.raises(ValueError):
        srgb.unit_scale(np.array([1.0, np.inf]))


@pytest.mark.parametrize("kind, most", [("f4", 2e38), ("f4", 3.4e38), ("f8", 1e200), ("f8", 1.7e308), ("f4", 1e-44)])
def test_the_greatest_and_least_numbers_make_no_warning(kind, most):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sign in (1, -1):
            got = srgb.unit_scale(np.array([-most, 0, most], kind) * sign)
            expected = np.array([0, 0.5, 1])[::sign] if most > 1 else 0
            np.testing.assert_allclose(got, expected, atol=1e-6)
