"""Streams of random numbers, each named by what it is for.

    rng(seed, "gan/latent", step)      a torch.Generator for the latent vectors of one step

A stream is a function of its seed, its purpose and the numbers behind it, and of nothing else. So it needs no saved
state: a resumed run draws the same numbers as one that was never stopped.
"""

import hashlib

import numpy as np
import torch

# The purposes that RESULTS.md was measured with have small numbers, or none, which keep its figures as they are. A new
# purpose needs no entry: its number is a hash of its text. Purposes of one number never belong to one run.
_NUMBERS: dict[str, int | None] = {
    "adaptation/initialization": None,
    "adaptation/shifts": 12,
    "adda/discriminator": 14,
    "adda/partners": 13,
    "adda/shifts": 23,
    "analogy/level": None,
    "cycada/translators": 17,
    "cyclegan/pool": 7,
    "degradations/k-means": None,
    "digits/digit": 1,
    "domains/held-out": 23,
    "domains/subset": 11,
    "equivariance/images": None,
    "evaluation/bootstrap": 15,
    "finetuning/from-scratch": None,
    "finetuning/views": 19,
    "gan/comparison": 14,
    "gan/flips": 11,
    "gan/gradient-penalty": 12,
    "gan/latent": 10,
    "gan/samples": 13,
    "identities/held-out": 20,
    "linear-head/folds": 18,
    "linear-probe/labeled": 22,
    "maximize/noise": 1,
    "maximize/transform": 2,
    "model-selection/pixels": 18,
    "phantoms/anatomy": 2,
    "phantoms/style": 3,
    "pretext/permutations": 21,
    "pretext/task": 20,
    "sample/latent": 15,
    "seuda/translators": 17,
    "siamese/distortions": 25,
    "siamese/images": 24,
    "simgan/buffer": 7,
    "simgan/networks": 16,
    "simgan/partners": 13,
    "stylize/noise": 1,
    "supervised/augmentation": 3,
    "supervised/mixing": 5,
    "supervised/whitening": 4,
    "training/initialization": None,
    "training/order": 1,
    "training/step": 2,
    "translation/augmentation": 6,
    "translation/gradient-penalty": 8,
    "verification/bootstrap": 22,
    "verification/pairs": 21,
    "verification/trials": 23,
}


def rng(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator for one purpose, such as "cyclegan/pool".

    numbers: what else the stream depends on, such as the step or the index of an image.
    """
    return generator(*_key(seed, purpose, numbers))


def numpy_rng(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """As `rng`, for what is computed in NumPy."""
    return np.random.default_rng([number & 0xFFFFFFFFFFFFFFFF for number in _key(seed, purpose, numbers)])


def seed_global(seed: int, purpose: str, *numbers: int) -> None:
    """Seed torch's global generators, which dropout and the initialization of layers draw from; as `rng`.

    Those of the devices that this machine has: torch.manual_seed notes for each kind that it lacks where it was called
    from, up to 8 ms a step.
    """
    number = rng(seed, purpose, *numbers).initial_seed()
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


def generator(*numbers: int) -> torch.Generator:
    """A CPU generator that depends on all the numbers, in their order; code that has a purpose calls `rng`."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        # splitmix64, so that neighboring seeds and steps give unrelated streams
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return torch.Generator().manual_seed(state >> 1)


def _key(seed: int, purpose: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers that a stream is made from."""
    if purpose not in _NUMBERS:
        return seed, int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big"), *numbers
    number = _NUMBERS[purpose]
    return (seed, *numbers) if number is None else (seed, number, *numbers)
