"""Draws swirls.jpg: short curved strokes of thick paint along the streams of a few whirls, night blue and yellow.

python samples/styles/swirls.py samples/styles/swirls.jpg
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE, SCALE = 512, 2  # drawn larger than saved, which smooths the edges of the strokes
DARK = [(16, 30, 72), (24, 52, 110), (36, 84, 150), (70, 130, 180), (20, 70, 90), (130, 175, 190)]
LIGHT = [(250, 214, 80), (244, 180, 50), (252, 236, 160), (226, 140, 40)]


def main(target: str) -> None:
    random = np.random.default_rng(4)
    side = SIZE * SCALE
    whirls = [
        (random.uniform(0, side, 2), random.uniform(80, 190) * SCALE / 2, random.choice([-1, 1])) for _ in range(9)
    ]
    picture = Image.new("RGB", (side, side), DARK[1])
    draw = ImageDraw.Draw(picture)
    for layer, width in enumerate((26, 18, 12, 8)):
        for _ in range(1500 * (layer + 1)):
            position = random.uniform(-20, side + 20, 2)
            glow = max(
                np.exp(-(((position - center) ** 2).sum()) / (2 * (radius / 2) ** 2)) for center, radius, _ in whirls
            )
            palette = LIGHT if random.random() < glow**1.5 else DARK
            colour = np.array(palette[random.integers(len(palette))]) + random.normal(0, 9, 3)
            points = [tuple(position)]
            for _ in range(int(random.uniform(5, 9))):
                flow = np.array([1.0, 0.35])
                for center, radius, turn in whirls:
                    away = position - center
                    strength = 3 * np.exp(-(away**2).sum() / (2 * radius**2))
                    flow = flow + turn * strength * np.array([-away[1], away[0]]) / (np.linalg.norm(away) + 1)
                position = position + 9 * flow / (np.linalg.norm(flow) + 1e-6)
                points.append(tuple(position))
            # each stroke a light ridge beside a dark one, as of bristles
            for shift, tone in ((0, 0), (-width / 4, 22), (width / 4, -22)):
                ink = tuple(int(v) for v in (colour + tone).clip(0, 255))
                shifted = [(x + shift, y + shift) for x, y in points]
                draw.line(shifted, fill=ink, width=max(2, round(width / (1 if shift == 0 else 4))), joint="curve")
    picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS).filter(ImageFilter.UnsharpMask(2, 60))
    picture.save(target, quality=82)


if __name__ == "__main__":
    main(sys.argv[1])
