"""Draws small scenes by day and by night, two sets of images for cyclegan.

    python samples/scenes.py FOLDER [--size 64] [--train 200] [--test 40] [--seed 0]

Writes FOLDER/{day,night}/{train,test}/CLASS/NNN.png. A scene shows one of four objects: boat, house, lighthouse, tree.
Those of day/train and night/train are unrelated; those of day/test and night/test are the same scenes, so that a
translation can be compared with the true image. The class shows whether a translation kept the object.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("boat", "house", "lighthouse", "tree")
FINE = 4  # drawn this much larger and then reduced, which smooths the lines
UNIT = 64  # the side in which all lengths below are given

DAY = {
    "zenith": (86, 150, 226), "horizon": (206, 228, 244), "far": (128, 158, 160), "near": (92, 140, 84),
    "grass": (116, 168, 74), "water": (58, 118, 172), "glitter": (150, 194, 220), "light": (255, 232, 120),
    "trunk": (104, 72, 44), "leaf": (44, 112, 48), "fir": (28, 84, 58), "sail": (246, 244, 236),
    "roof": (168, 62, 46), "door": (96, 58, 36), "window": (74, 96, 122), "white": (244, 242, 236),
    "red": (196, 44, 40), "lamp": (130, 150, 160),
}  # fmt: skip
NIGHT = {
    "zenith": (6, 10, 34), "horizon": (34, 42, 84), "far": (22, 28, 54), "near": (14, 24, 36),
    "grass": (16, 32, 30), "water": (14, 24, 54), "glitter": (120, 124, 140), "light": (238, 238, 220),
    "trunk": (20, 18, 22), "leaf": (22, 50, 44), "fir": (14, 40, 44), "sail": (96, 100, 126),
    "roof": (48, 24, 34), "door": (26, 20, 26), "window": (255, 206, 96), "white": (92, 96, 122), "red": (72, 24, 40),
    "lamp": (255, 240, 150),
}  # fmt: skip
WALLS = [(236, 220, 190), (214, 178, 132), (206, 206, 210), (222, 160, 140)]


class Scene:
    """An image on its way. What `random` gives is the same by day and by night; `night` is what differs."""

    def __init__(self, size: int, random: np.random.Generator, night: bool):
        self.random, self.night, self.scale = random, night, size * FINE / UNIT
        self.size, self.colors = size, NIGHT if night else DAY
        self.image = Image.new("RGB", (size * FINE, size * FINE))
        self.pen = ImageDraw.Draw(self.image)

    def color(self, color):
        """A name of the palette, or a color by day, of which the night leaves a third, and blue."""
        if isinstance(color, str):
            return self.colors[color]
        if not self.night:
            return color
        return tuple(round(0.3 * level + blue) for level, blue in zip(color, (0, 2, 24), strict=True))

    def polygon(self, color, *points) -> None:
        self.pen.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=self.color(color))

    def box(self, color, left, top, right, bottom) -> None:
        self.polygon(color, (left, top), (right, top), (right, bottom), (left, bottom))

    def disc(self, color, x, y, radius, flat=1.0) -> None:
        box = x - radius, y - flat * radius, x + radius, y + flat * radius
        self.pen.ellipse([side * self.scale for side in box], fill=self.color(color))

    # ------------------------------------------------------------------------------------------ what is around

    def sky(self, horizon: float) -> None:
        random = self.random
        top, low = np.array(self.colors["zenith"]), np.array(self.colors["horizon"])
        for line in range(self.size * FINE):
            fraction = min(1, line / (horizon * self.scale))
            color = tuple(int(v) for v in (top + (low - top) * fraction).round())
            self.pen.line((0, line, self.size * FINE, line), fill=color)
        stars = random.uniform(0, 1, (26, 3))
        x, y, radius = random.uniform(8, 56), random.uniform(6, 13), random.uniform(3.4, 4.6)
        clouds = random.uniform(0, 1, (random.integers(0, 4), 3))
        if self.night:
            for across, down, bright in stars:
                level = round(120 + 130 * bright)
                self.spot((level, level, level), across * UNIT, down * (horizon - 6), 0.25 + 0.3 * bright)
        self.disc("light", x, y, radius)
        if self.night:  # a crescent: the sky bites into the disc
            self.spot(self.colors["zenith"], x + 0.5 * radius, y - 0.2 * radius, 0.85 * radius)
        else:
            for across, down, wide in clouds:
                for puff, lift in ((-1, 0), (0, -0.7), (1, 0)):
                    at = across * UNIT + puff * (2 + 3 * wide), 4 + down * (horizon - 14) + lift
                    self.disc((252, 252, 252), *at, 2.4 + 2.4 * wide, 0.55)

    def spot(self, color, x, y, radius) -> None:
        """A disc in the very color given."""
        box = [side * self.scale for side in (x - radius, y - radius, x + radius, y + radius)]
        self.pen.ellipse(box, fill=color)

    def hills(self, name: str, horizon: float, height: float) -> None:
        random = self.random
        waves = random.uniform(0, 1, (3, 2))
        x = np.linspace(0, UNIT, 40)
        y = sum(
            np.sin((number + 1) * (1 + pace) * x / 14 + 6.3 * phase) / (number + 1)
            for number, (pace, phase) in enumerate(waves)
        )
        y = horizon - height * (0.55 + 0.3 * y)
        self.polygon(name, (0, horizon), *zip(x, y, strict=True), (UNIT, horizon))

    def water(self, top: float) -> None:
        self.box("water", 0, top, UNIT, UNIT)
        for across, down, wide in self.random.uniform(0, 1, (16, 3)):
            y = top + 1.5 + down * (UNIT - top)
            self.box("glitter", across * UNIT - 1 - 3 * wide, y, across * UNIT + 1 + 3 * wide, y + 0.45)

    # ------------------------------------------------------------------------------------------ what it shows

    def boat(self, x: float, y: float, s: float) -> None:
        side = 1 if self.random.random() < 0.5 else -1
        color = [(176, 52, 44), (46, 88, 140), (236, 232, 222), (60, 110, 70)][self.random.integers(4)]
        two = self.random.random() < 0.6
        self.box("trunk", x - 0.4, y - 22 * s, x + 0.4, y)
        self.polygon("sail", (x + side, y - 21 * s), (x + side, y - 2), (x + side * 11 * s, y - 2))
        if two:
            self.polygon("sail", (x - side, y - 17 * s), (x - side, y - 2), (x - side * 7 * s, y - 2))
        self.polygon(
            color,
            (x - 12 * s, y - 1),
            (x + 12 * s, y - 1),
            (x + (12 - 4) * s, y + 5 * s),
            (x - (12 - 4) * s, y + 5 * s),
        )
        if self.night:
            self.disc("lamp", x, y - 22 * s, 1)

    def house(self, x: float, y: float, s: float) -> None:
        random = self.random
        wall = WALLS[random.integers(len(WALLS))]
        wide, high, roof = random.uniform(9, 13) * s, random.uniform(11, 16) * s, random.uniform(8, 11) * s
        chimney = random.choice([-0.6, 0.6])
        self.box("red", x + chimney * wide - 1.5 * s, y - high - roof, x + chimney * wide + 1.5 * s, y - high)
        self.box(wall, x - wide, y - high, x + wide, y)
        self.polygon("roof", (x - wide - 2, y - high), (x, y - high - roof), (x + wide + 2, y - high))
        self.box("door", x - 2 * s, y - 7 * s, x + 2 * s, y)
        for row in range(1 + (high > 13 * s)):
            for column in (-0.58, 0.58):
                left, top = x + column * wide - 2 * s, y - high + (2 + 6 * row) * s
                self.box("window", left, top, left + 4 * s, top + 4 * s)

    def lighthouse(self, x: float, y: float, s: float) -> None:
        high, bands = self.random.uniform(24, 30) * s, self.random.integers(2, 5)
        side = 1 if self.random.random() < 0.5 else -1
        top = y - high
        if self.night:
            self.polygon((255, 255, 255), (x, top - 2), (x + side * 60, top - 12), (x + side * 60, top + 6))
            self.polygon("lamp", (x, top - 2), (x + side * 34, top - 5.5), (x + side * 34, top + 1))
        self.disc("far", x, y + 1, 9 * s, 0.4)
        parts = 2 * bands
        for part in range(parts):
            low, up = y - high * part / parts, y - high * (part + 1) / parts
            wide = [5 * s - 2 * s * (y - edge) / high for edge in (low, up)]
            points = (x - wide[0], low), (x + wide[0], low), (x + wide[1], up), (x - wide[1], up)
            self.polygon("white" if part % 2 else "red", *points)
        self.box("lamp", x - 2 * s, top - 4 * s, x + 2 * s, top)
        self.polygon("red", (x - 3 * s, top - 4 * s), (x, top - 7 * s), (x + 3 * s, top - 4 * s))

    def tree(self, x: float, y: float, s: float) -> None:
        random = self.random
        fir, high = random.random() < 0.5, random.uniform(20, 28) * s
        self.box("trunk", x - 1.3 * s, y - 0.4 * high, x + 1.3 * s, y)
        if fir:
            for tier in range(3):
                low, wide = y - high * (0.18 + 0.24 * tier), (9 - 2.2 * tier) * s
                self.polygon("fir", (x - wide, low), (x, low - 0.38 * high), (x + wide, low))
            return
        for across, down, radius in random.uniform(0, 1, (7, 3)):
            position = x + (across - 0.5) * 13 * s, y - high * (0.45 + 0.4 * down)
            self.disc("leaf", *position, (3.6 + 2.4 * radius) * s)

    def finished(self) -> Image.Image:
        return self.image.resize((self.size, self.size), Image.Resampling.BOX)


def draw(kind: str, size: int, random: np.random.Generator, night: bool) -> Image.Image:
    """One scene; the same numbers give the same scene by day and by night."""
    scene = Scene(size, random, night)
    horizon = random.uniform(32, 40)
    scene.sky(horizon)
    scene.hills("far", horizon, random.uniform(5, 12))
    scene.hills("near", horizon, random.uniform(2, 6))
    shore = kind in ("boat", "lighthouse")
    if shore:
        scene.water(horizon)
    else:
        scene.box("grass", 0, horizon, UNIT, UNIT)
    x, s = random.uniform(16, 48), random.uniform(0.8, 1.25)
    y = random.uniform(horizon + 8, 58)
    getattr(scene, kind)(x, y, s)
    return scene.finished()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="side of an image in pixels")
    parser.add_argument("--train", type=int, default=200, help="images to train on, by day and by night each")
    parser.add_argument("--test", type=int, default=40, help="scenes to test on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for part, (name, count) in enumerate((("train", arguments.train), ("test", arguments.test))):
        for number in range(count):
            kind = CLASSES[number % len(CLASSES)]
            for night in (False, True):
                numbers = (arguments.seed, part, number, night and name == "train")
                path = arguments.folder / ("night" if night else "day") / name / kind / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(kind, arguments.size, np.random.default_rng(numbers), night).save(path, optimize=True)


if __name__ == "__main__":
    main()
