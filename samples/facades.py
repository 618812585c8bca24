"""Draws house fronts and their label maps, aligned pairs for pix2pix: FOLDER/{train,test}/{A,B}/NNN.png.

    python samples/facades.py FOLDER [--size 128] [--train 120] [--test 24] [--seed 0]

A holds the map, an image with a palette whose index is the class (see CLASSES), B the front that is drawn from it.
Shape and position of every part are in the map; the color of the wall and what the windows reflect are not, so there is
more than one good answer, as in the facades of Isola et al. 2017.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = {
    "sky": (120, 180, 240), "wall": (200, 120, 90), "roof": (90, 60, 60), "window": (40, 60, 140),
    "door": (120, 200, 60), "balcony": (230, 200, 40), "shop": (200, 60, 160), "cornice": (240, 240, 240),
}  # fmt: skip
WALLS = [(176, 106, 82), (206, 182, 140), (150, 148, 150), (188, 128, 76), (158, 84, 72), (220, 208, 190)]
AWNINGS = [(170, 40, 44), (34, 96, 70), (40, 70, 130)]
FINE = 4  # the front is drawn this much larger and then reduced, which smooths its lines

Box = tuple[float, float, float, float]  # left, top, right, bottom, in fractions of the side


class Front:
    """A front on its way: the map and the image, drawn part by part."""

    def __init__(self, size: int, random: np.random.Generator):
        self.size, self.random = size, random
        self.map = Image.new("P", (size, size), 0)
        self.map.putpalette([level for color in CLASSES.values() for level in color])
        self.image = Image.new("RGB", (size * FINE, size * FINE))
        self.on_map, self.pen = ImageDraw.Draw(self.map), ImageDraw.Draw(self.image)
        self.wall = WALLS[random.integers(len(WALLS))]

    def part(self, name: str, box: Box) -> list[int]:
        """Enter a part in the map; its box there in pixels of the image, so that the two agree to the pixel."""
        left, top, right, bottom = (round(side * self.size) for side in box)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        self.on_map.rectangle((left, top, right - 1, bottom - 1), fill=list(CLASSES).index(name))
        return [side * FINE for side in (left, top, right, bottom)]

    def fill(self, box: Sequence[float], color) -> None:
        left, top, right, bottom = box
        if right - left >= 1 and bottom - top >= 1:
            self.pen.rectangle((left, top, right - 1, bottom - 1), fill=shade(color, 1))

    def sky(self) -> None:
        box = self.part("sky", (0, 0, 1, 1))
        for y in range(box[3]):
            fraction = y / box[3]
            self.pen.line((0, y, box[2], y), fill=(round(110 + 110 * fraction), round(165 + 60 * fraction), 235))

    def walls(self, box: Box) -> None:
        left, top, right, bottom = self.part("wall", box)
        self.fill([left, top, right, bottom], self.wall)
        course = 2 * FINE  # the height of a brick, with its mortar
        for row, y in enumerate(range(top, bottom, course)):
            for x in range(left - (row % 2) * course, right, 2 * course):
                box = max(left, x), y, min(right, x + 2 * course - 1), min(bottom, y + course - 1)
                self.fill(box, shade(self.wall, 0.9 + 0.2 * self.random.random()))

    def roof(self, box: Box) -> None:
        left, top, right, bottom = self.part("roof", box)
        self.fill([left, top, right, bottom], (74, 66, 70))
        for y in range(top, bottom, 2 * FINE):
            self.fill([left, y, right, y + FINE // 2], (52, 46, 50))

    def cornice(self, box: Box) -> None:
        left, top, right, bottom = self.part("cornice", box)
        self.fill([left, top, right, bottom], (226, 220, 208))
        self.fill([left, bottom - FINE // 2, right, bottom], (140, 132, 120))

    def window(self, box: Box) -> None:
        left, top, right, bottom = self.part("window", box)
        self.fill([left, top, right, bottom], (236, 234, 228))
        frame = FINE * self.size // 128 or 1
        height = bottom - top - 2 * frame
        reflected = self.random.random()  # the height to which the opposite house is reflected
        for y in range(height):
            color = (44, 58, 78) if y / height > reflected else (132, 164, 196)
            self.fill([left + frame, top + frame + y, right - frame, top + frame + y + 1], color)
        middle = (left + right) / 2
        self.fill([middle - frame / 2, top, middle + frame / 2, bottom], (236, 234, 228))
        third = top + (bottom - top) / 3
        self.fill([left, third - frame / 2, right, third + frame / 2], (236, 234, 228))

    def balcony(self, box: Box) -> None:
        left, top, right, bottom = self.part("balcony", box)
        self.fill([left, top, right, bottom], (58, 58, 62))
        for x in range(left + FINE // 2, right, 2 * FINE):
            self.fill([x, top + FINE // 2, min(x + FINE, right), bottom - FINE // 2], shade(self.wall, 0.75))
        self.fill([left, bottom - FINE // 2, right, bottom], (180, 176, 168))

    def door(self, box: Box) -> None:
        left, top, right, bottom = self.part("door", box)
        self.fill([left, top, right, bottom], (92, 56, 34))
        width, height = right - left, bottom - top
        for row in (0.12, 0.55):
            for column in (0.14, 0.56):
                x, y = left + column * width, top + row * height
                self.fill([x, y, x + 0.3 * width, y + 0.33 * height], (122, 78, 48))
        self.fill([left + 0.46 * width, top + 0.5 * height, left + 0.54 * width, top + 0.56 * height], (230, 200, 90))

    def shop(self, box: Box) -> None:
        left, top, right, bottom = self.part("shop", box)
        self.fill([left, top, right, bottom], (58, 70, 80))
        height = bottom - top
        self.fill([left, top + 0.9 * height, right, bottom], (96, 88, 84))
        awning = AWNINGS[self.random.integers(len(AWNINGS))]
        for number, x in enumerate(range(left, right, 3 * FINE)):
            stripe = [x, top, min(x + 3 * FINE, right), top + 0.3 * height]
            self.fill(stripe, (238, 234, 226) if number % 2 else awning)

    def finished(self) -> tuple[Image.Image, Image.Image]:
        """(map, image), the image lit from one side and with a little grain."""
        small = np.asarray(self.image.resize((self.size, self.size), Image.Resampling.BOX)).astype(float)
        light = np.linspace(0.92, 1.06, self.size)[None, :, None]
        small = small * light + self.random.normal(0, 3, (self.size, self.size, 1))
        return self.map, Image.fromarray(small.clip(0, 255).round().astype(np.uint8))


def shade(color, factor: float) -> tuple[int, ...]:
    return tuple(min(255, round(level * factor)) for level in color)


def draw(size: int, random: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """(map, image) of one front: sky, roof, storeys of windows, a ground floor of doors and shops."""
    front = Front(size, random)
    front.sky()
    left, right = random.uniform(0, 0.12, 2) * (random.random(2) < 0.6)
    right = 1 - right
    top = random.uniform(0.04, 0.2)
    eaves = top + random.uniform(0.04, 0.12)
    front.walls((left, eaves, right, 1))
    front.roof((left, top, right, eaves))
    storeys, columns = random.integers(2, 5), random.integers(2, 6)
    ground = 1 - random.uniform(0.18, 0.26)
    tall, pitch = (ground - eaves) / storeys, (right - left) / columns
    wide, high = pitch * random.uniform(0.4, 0.6), tall * random.uniform(0.5, 0.65)
    with_balconies = random.random(storeys) < 0.4
    front.cornice((left, eaves, right, eaves + 0.02))
    for storey in range(storeys):
        y = eaves + (storey + 0.5) * tall + 0.01
        if storey and random.random() < 0.4:
            front.cornice((left, eaves + storey * tall - 0.01, right, eaves + storey * tall + 0.01))
        for column in range(columns):
            x = left + (column + 0.5) * pitch
            front.window((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2))
            if with_balconies[storey]:
                front.balcony((x - 0.6 * wide, y + high / 5, x + 0.6 * wide, y + high / 2))
    front.cornice((left, ground - 0.01, right, ground + 0.015))
    door = random.integers(columns)
    shops = random.random() < 0.6
    for column in range(columns):
        x = left + (column + 0.5) * pitch
        if column == door:
            front.door((x - 0.3 * pitch, ground + 0.04, x + 0.3 * pitch, 1))
        elif shops:
            front.shop((x - 0.42 * pitch, ground + 0.03, x + 0.42 * pitch, 1))
        else:
            front.window((x - wide / 2, ground + 0.05, x + wide / 2, ground + 0.05 + 0.5 * (1 - ground)))
    return front.finished()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=128, help="side of an image in pixels")
    parser.add_argument("--train", type=int, default=120, help="pairs to train on")
    parser.add_argument("--test", type=int, default=24, help="pairs to test on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for part, (name, count) in enumerate((("train", arguments.train), ("test", arguments.test))):
        for side in "AB":
            (arguments.folder / name / side).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pair = draw(arguments.size, np.random.default_rng((arguments.seed, part, number)))
            for side, image in zip("AB", pair, strict=True):
                image.save(arguments.folder / name / side / f"{number:03d}.png", optimize=True)


if __name__ == "__main__":
    main()
