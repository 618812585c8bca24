import io

import numpy as np
from PIL import Image

from mlcli.reporting.pendulums.animation import SIDE, Moving, gif


def test_rods_stand_where_their_angles_are():
    still = Moving("upright", [0.0] * 3, [0.0] * 3, 1.0, 0.05)
    turning = Moving("turning", [0.0, 1.57, 3.14], [1.0, 0.0, -1.0], 2.0, 0.1)
    content = gif([still, turning])
    assert content == gif([still, turning])
    frames = []
    with Image.open(io.BytesIO(content)) as animation:
        for number in range(animation.n_frames):
            animation.seek(number)
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
    assert len(frames) == 3 and frames[0].shape[1] == 2 * SIDE

    def colored(frame, x, y):
        """Whether the rod of the second panel is at this place, in units of its length from the axle."""
        pixel = frame[int(SIDE / 2 - y * 0.36 * SIDE), int(1.5 * SIDE + x * 0.36 * SIDE)]
        return pixel.max() - pixel.min() > 60

    assert colored(frames[0], 0, 0.8) and not colored(frames[0], 0, -0.8)
    assert colored(frames[1], -0.8, 0) and not colored(frames[1], 0, 0.8)  # counterclockwise
    assert colored(frames[2], 0, -0.8)
    assert (frames[0][:SIDE, :SIDE] == frames[2][:SIDE, :SIDE]).all()
