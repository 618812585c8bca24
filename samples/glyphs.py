"""Draws made-up characters by several hands, for siamese-train: FOLDER/{train,test}/SCRIPT/characterNN/HAND.png.

    python samples/glyphs.py FOLDER [--train 4] [--test 2] [--characters 20] [--hands 12] [--size 48] [--seed 0]

A character is a few strokes, each a smooth curve through a few points; those of one script share a style: how many
strokes, how round, on how fine a grid. A hand writes every character of its script with its own slant, width, pen and
tremor, as the drawers of Omniglot do (Lake et al. 2015). The scripts to test on have no character in common with those
to train on.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FINE = 4  # drawn this much larger and then reduced, which smooths the lines


def taste(random: np.random.Generator) -> dict:
    """What the characters of a script have in common."""
    return {
        "strokes": int(random.integers(2, 4)),
        "points": int(random.integers(3, 5)),
        "grid": int(random.integers(3, 5)),  # points lie on so many lines each way
        "round": bool(random.random() < 0.6),
    }


def character(style: dict, random: np.random.Generator) -> list[np.ndarray]:
    """The strokes of a character, each (points, 2) in [-1, 1]."""
    lines = np.linspace(-1, 1, style["grid"])
    strokes = []
    for _ in range(style["strokes"]):
        points = [random.choice(lines, 2)]
        while len(points) < style["points"]:
            following = random.choice(lines, 2)
            if not np.array_equal(following, points[-1]):
                points.append(following)
        strokes.append(np.array(points))
    return strokes


def hand(random: np.random.Generator) -> dict:
    """How somebody writes."""
    slant, turn = random.normal(0, 0.15), random.normal(0, 0.1)
    stretch = np.exp(random.normal(0, 0.12, 2))
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[1, slant], [0, 1]])
    return {"matrix": matrix * stretch, "pen": random.uniform(0.045, 0.08), "tremor": random.uniform(0.04, 0.1)}


def draw(strokes: list[np.ndarray], style: dict, writer: dict, size: int, random: np.random.Generator) -> Image.Image:
    """One image of a character: black on white, (size, size)."""
    side = size * FINE
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    width = max(1, round(writer["pen"] * side))
    position = random.normal(0, 0.04, 2)
    for stroke in strokes:
        points = stroke + random.normal(0, writer["tremor"], stroke.shape)
        path = smooth(points) if style["round"] else points
        path = ((path @ writer["matrix"].T) * 0.33 + 0.5 + position) * side
        pen.line([tuple(point) for point in path], fill=0, width=width, joint="curve")
        for x, y in (path[0], path[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=0)
    return image.resize((size, size), Image.Resampling.BOX)


def smooth(points: np.ndarray, steps: int = 12) -> np.ndarray:
    """A Catmull-Rom curve through the points (N, 2)."""
    ends = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(ends[:-3], ends[1:-2], ends[2:-1], ends[3:], strict=True):
        bend = 2 * p0 - 5 * p1 + 4 * p2 - p3
        pieces.append(0.5 * (2 * p1 + (p2 - p0) * t + bend * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3))
    return np.concatenate([*pieces, points[-1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=4, help="scripts")
    parser.add_argument("--test", type=int, default=2, help="scripts")
    parser.add_argument("--characters", type=int, default=20, help="of a script")
    parser.add_argument("--hands", type=int, default=12, help="that write each script")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for part in ("train", "test"):  # characters of an earlier call would be tested that this one trains on
        if (options.folder / part).exists():
            parser.error(f"{options.folder / part} exists already; name another folder, or delete it")
    for number in range(options.train + options.test):
        part = "train" if number < options.train else "test"
        style = taste(np.random.default_rng((options.seed, number)))
        writers = [hand(np.random.default_rng((options.seed, number, 1, h))) for h in range(options.hands)]
        for c in range(options.characters):
            strokes = character(style, np.random.default_rng((options.seed, number, 2, c)))
            folder = options.folder / part / f"script{number}" / f"character{c:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            for h, writer in enumerate(writers):
                random = np.random.default_rng((options.seed, number, 3, c, h))
                draw(strokes, style, writer, options.size, random).save(folder / f"{h:02d}.png")


if __name__ == "__main__":
    main()
