import numpy as np
from PIL import Image

from mlcli.reporting import legend


def test_a_bar_from_black_to_white_below_the_image():
    image = Image.new("RGB", (400, 50), (10, 200, 10))
    pixels = np.asarray(legend.with_gray_scale(image, "-1", "0", "+1", "One scale for all.")).astype(int)
    assert pixels.shape[1] == 400 and (pixels[:50] == (10, 200, 10)).all()
    bar = pixels[50 + legend.MARGIN + 2, legend.MARGIN : legend.WIDTH - legend.MARGIN]
    assert (bar[0] == 0).all() and (bar[-1] == 255).all() and abs(bar[len(bar) // 2] - 128).max() <= 1
    assert (np.diff(bar[:, 0]) >= 0).all()
    below = pixels[50 + legend.MARGIN + legend.BAR + 2 :, :, 0] < 100
    thirds = [below[:14, part].any() for part in (slice(0, 100), slice(120, 200), slice(220, 330))]
    assert thirds == [True] * 3 and below[16:].any()  # a value at each end and in the middle, and the note


def test_a_narrow_image_is_widened_for_its_legend():
    drawn = legend.with_gray_scale(Image.new("RGB", (20, 10)), "-1", "0", "+1", "word " * 40)
    assert drawn.width == legend.WIDTH and drawn.height > 120
