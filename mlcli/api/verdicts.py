"""What is said of a pair of images, and of an image and a gallery; and how it is written as lines of a table."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

NOBODY = "nobody"  # in place of an identity, in tables
PAIR_COLUMNS = {
    "a": "text",
    "b": "text",
    "same": "flag",
    "distance": "number",
    "threshold": "number",
    "probability": "number",
    "error": "text",
}
IDENTIFICATION_COLUMNS = {
    "image": "text",
    "is": "text",
    "rank": "integer",
    "identity": "text",
    "distance": "number",
    "probability": "number",
    "threshold": "number",
    "error": "text",
}


@dataclass(frozen=True)
class Verdict:
    """Whether two images show the same identity: whether their distance is at most the threshold.

    probability: that they do, if half of all pairs did.
    """

    same: bool
    distance: float
    threshold: float
    probability: float


@dataclass(frozen=True)
class Pair:
    """Two images and the verdict, or the error that explains why there is none."""

    a: str
    b: str
    verdict: Verdict | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        found = {"error": self.error} if self.verdict is None else asdict(self.verdict)
        return {"a": self.a, "b": self.b, **found}


@dataclass(frozen=True)
class Nearest:
    """An identity of a gallery, its distance from an image, and the probability that it is the one in the image."""

    identity: str
    distance: float
    probability: float


@dataclass(frozen=True)
class Identification:
    """Who of a gallery an image shows: identity, None for nobody, or the error that explains why it is not known.

    nearest: identities of the gallery, nearest first.
    """

    image: str
    identity: str | None = None
    threshold: float = 0.0
    nearest: tuple[Nearest, ...] = ()
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        if self.error:
            return {"image": self.image, "error": self.error}
        nearest = [asdict(one) for one in self.nearest]
        return {"image": self.image, "identity": self.identity, "threshold": self.threshold, "nearest": nearest}


def pair_lines(pair: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    """The line of a table for a pair as JSON has it."""
    return [tuple(pair.get(name) for name in PAIR_COLUMNS)]


def identification_lines(found: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    """The lines of a table for an identification as JSON has it: one for each of the nearest identities.

    An image that nobody can be named for, as the only one of a gallery, has a line all the same.
    """
    if "error" in found:
        return [(found["image"], *[None] * 6, found["error"])]
    name = found["identity"] or NOBODY
    return [
        (found["image"], name, *_near(rank, near), found["threshold"], None)
        for rank, near in enumerate(found["nearest"] or [None], 1)
    ]


def _near(rank: int, near: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return (None,) * 4 if near is None else (rank, near["identity"], near["distance"], near["probability"])
