"""Synthetic chest phantoms with masks in the styles of two scanners, in place of the domains of Chen et al. 2018.

A phantom is a chest from the front: two lungs and a heart in a body, with a spine, ribs and vessels. Its anatomy is a
function of (seed, number), and its appearance of (seed, number, style). So the domains differ in appearance alone: with
the same seed both styles show the same chests, with two seeds they show different chests of the same distribution.

The style sets the brightness of each tissue, the contrast, texture, noise and sharpness, and how even the light is.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlcli.runtime.random_streams import numpy_rng

CLASSES = ("background", "right lung", "left lung", "heart")  # as the numbers of a mask; right is the body's own


@dataclass(frozen=True)
class Style:
    """Appearance of a chest in one scanner. Levels are in [0, 1], lengths in pixels of an image of 64 x 64.

    levels: brightness of the air around, the body, the lungs and the heart. bones, vessels: brightness that they add.
    grain: size and strength of the texture. noise: standard deviation of the noise of each pixel. blur: standard
    deviation of the blur. gamma: exponent of the contrast. light: difference in brightness between opposite sides.
    """

    levels: tuple[float, float, float, float]
    bones: float
    vessels: float
    grain: tuple[float, float]
    noise: float
    blur: float
    gamma: float
    light: float


STYLES = {
    # Sharp and rich in contrast: dark lungs, bright heart, fine grain
    "a": Style((0.02, 0.56, 0.16, 0.80), 0.16, 0.12, (1.0, 0.03), 0.015, 0.5, 1.0, 0.05),
    # Soft and pale: lungs as bright as the body of the other, coarse grain, uneven light
    "b": Style((0.26, 0.80, 0.54, 0.97), 0.05, 0.04, (5.0, 0.04), 0.04, 1.2, 1.4, 0.25),
}


def phantom(number: int, seed: int, size: int = 64, style: str = "a") -> tuple[Tensor, Tensor]:
    """The phantom of this number in the series of the seed.

    style: a key of STYLES. Returns (gray image (size, size) uint8, mask (size, size) uint8 of indices of CLASSES).
    """
    random = numpy_rng(seed, "phantoms/anatomy", number)
    chest = Chest(size, random)
    levels = chest.rendered(STYLES[style], numpy_rng(seed, "phantoms/style", number, sorted(STYLES).index(style)))
    image = np.clip(levels * 255 + 0.5, 0, 255).astype(np.uint8)
    return torch.from_numpy(image), torch.from_numpy(chest.mask())


class Chest:
    """The anatomy on a grid of pixels. Coordinates run from -1 to 1, x to the right and y downward.

    body, lungs, heart: (size, size), signed distance to the border of the organ in pixels, positive inside.
    bones, vessels: (size, size) in [0, 1], strength of their structures.
    """

    def __init__(self, size: int, random: np.random.Generator):
        self.size = size
        side = (np.arange(size) + 0.5) / size * 2 - 1
        x, y = np.meshgrid(side, side)
        rotation, across, down = 0.06 * random.standard_normal(), *(0.05 * random.standard_normal(2))
        zoom = random.uniform(0.92, 1.1)
        cos, sin = math.cos(rotation), math.sin(rotation)
        self.x, self.y = (cos * (x - across) + sin * (y - down)) / zoom, (cos * (y - down) - sin * (x - across)) / zoom
        self.scale = zoom * size / 2  # pixels per unit of the coordinates
        self.body = self.shape(random, (0, 0.12), (random.uniform(0.78, 0.9), random.uniform(0.95, 1.1)), 0.04, flat=3)
        gap, wide, high = random.uniform(0.1, 0.16), random.uniform(0.25, 0.32), random.uniform(0.55, 0.68)
        middle = random.uniform(-0.1, 0.02)
        self.lungs = []
        for direction in (-1, 1):  # the body's right lung is on the left of the image
            breadth, height = wide * random.uniform(0.9, 1.1), high * random.uniform(0.94, 1.06)
            center = direction * (gap + breadth), middle + 0.02 * random.standard_normal()
            lean = direction * random.uniform(0.1, 0.3)  # narrower at the top, toward the neck
            lung = self.shape(random, center, (breadth, height), 0.07, lean=lean)
            floor = middle + height * random.uniform(0.55, 0.75)  # the diaphragm cuts the lung off in an arch
            arch = random.uniform(0.5, 1.1)
            diaphragm = (floor + arch * (self.x - center[0]) ** 2 - self.y) * self.scale
            wall = self.body - 0.07 * self.scale
            self.lungs.append(np.minimum(np.minimum(lung, diaphragm), wall))
        center = random.uniform(0.06, 0.15), middle + high * random.uniform(0.35, 0.5)
        extent = random.uniform(0.2, 0.29), random.uniform(0.22, 0.3)
        self.heart = self.shape(random, center, extent, 0.06, rotation=random.uniform(0.3, 0.8))
        self.bones = self.ribs(random) + self.spine(random)
        self.vessels = self.branches(random, gap, middle)

    def shape(
        self,
        random: np.random.Generator,
        center: tuple[float, float],
        extent: tuple[float, float],
        roughness: float,
        *,
        flat: float = 2.0,
        lean: float = 0.0,
        rotation: float = 0.0,
    ) -> np.ndarray:
        """Approximate signed distance in pixels, positive inside, to an ellipse with a wavy border.

        extent: half axes. roughness: amplitude of the waves. flat: exponent of the superellipse; 2 is an ellipse.
        lean: shear. rotation: angle in radians.
        """
        x, y = self.x - center[0], self.y - center[1]
        x, y = math.cos(rotation) * x + math.sin(rotation) * y, math.cos(rotation) * y - math.sin(rotation) * x
        x, y = (x - lean * y) / extent[0], y / extent[1]
        angle = np.arctan2(y, x)
        radius = np.ones_like(angle)
        for wave in range(2, 6):
            height, phase = 2 * roughness / wave * random.standard_normal(), random.uniform(0, 2 * math.pi)
            radius += height * np.cos(wave * angle + phase)
        length = (np.abs(x) ** flat + np.abs(y) ** flat) ** (1 / flat)
        return (radius - length) * min(extent) * self.scale

    def ribs(self, random: np.random.Generator) -> np.ndarray:
        """Ribs that descend from the spine outward, (size, size) in [0, 1]."""
        pitch, phase, fall = random.uniform(0.17, 0.23), random.uniform(0, 1), random.uniform(0.3, 0.7)
        wave = np.cos(2 * math.pi * ((self.y - fall * self.x**2 + 0.1 * np.abs(self.x)) / pitch + phase))
        return np.clip((wave - 0.35) * 2, 0, 1) * (np.abs(self.x) > 0.08) * inside(self.body - 0.05 * self.scale)

    def spine(self, random: np.random.Generator) -> np.ndarray:
        """A column of vertebrae, (size, size) in [0, 1]."""
        bow, phase = 0.03 * random.standard_normal(), random.uniform(0, 6)
        column = inside((0.075 - np.abs(self.x - bow * np.sin(2 * self.y))) * self.scale)
        return column * (0.7 + 0.3 * np.cos(36 * self.y + phase)) * inside(self.body)

    def branches(self, random: np.random.Generator, gap: float, middle: float) -> np.ndarray:
        """Vessels that run from the middle into the lungs and become thinner, (size, size) in [0, 1]."""
        total = np.zeros_like(self.x)
        for direction in (-1, 1):
            for angle in random.uniform(-1.25, 1.25, 6):
                x, y = direction * self.x - 0.6 * gap, self.y - middle
                along = math.cos(angle) * x + math.sin(angle) * y
                off = math.cos(angle) * y - math.sin(angle) * x - 0.25 * random.standard_normal() * along**2
                width = np.maximum(0.028 - 0.03 * along, 0.004)
                fading = (along > 0) * np.clip(1.2 - 1.6 * along, 0, 1)
                total = np.maximum(total, np.exp(-((off / width) ** 2)) * fading)
        return total

    def mask(self) -> np.ndarray:
        """The mask (size, size) uint8 of indices of CLASSES; the heart is in front of the lungs."""
        mask = np.zeros((self.size, self.size), np.uint8)
        for number, organ in enumerate((*self.lungs, self.heart), 1):
            mask[organ > 0] = number
        return mask

    def rendered(self, style: Style, random: np.random.Generator) -> np.ndarray:
        """The image of the chest in a style, (size, size) float, about in [0, 1]."""
        air, body, lungs, heart = np.clip(style.levels + 0.02 * random.standard_normal(4), 0, 1)
        levels = air + (body - air) * inside(self.body)
        levels = levels + style.bones * self.bones
        soft = np.maximum(*map(inside, self.lungs))
        levels = levels + soft * (lungs + 0.4 * style.bones * self.bones + style.vessels * self.vessels - levels)
        levels = levels + inside(self.heart) * (heart - levels)
        fine = self.size / 64
        grain = blurred(random.standard_normal(levels.shape), style.grain[0] * fine / 2)
        levels = levels + style.grain[1] * grain / grain.std() * inside(self.body)
        angle = random.uniform(0, 2 * math.pi)
        levels = levels * (1 + style.light / 2 * (math.cos(angle) * self.x + math.sin(angle) * self.y))
        levels = blurred(levels, style.blur * fine)
        gamma = style.gamma * (1 + 0.05 * random.standard_normal())
        return np.clip(levels, 0, 1) ** gamma + style.noise * random.standard_normal(levels.shape)


def inside(depth: np.ndarray) -> np.ndarray:
    """Fraction of each pixel that is inside a shape. depth: signed distance of its center to the border in pixels."""
    return np.clip(depth + 0.5, 0, 1)


def blurred(values: np.ndarray, sd: float) -> np.ndarray:
    """Values (h, w) blurred by a Gaussian of standard deviation `sd` in pixels, reflected at the border."""
    radius = math.ceil(3 * sd)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sd) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(radius, radius) if axis == a else (0, 0) for a in (0, 1)], "symmetric")
        n = values.shape[axis]
        values = sum(weight * padded.take(range(i, i + n), axis) for i, weight in enumerate(weights))
    return values
