"""The catalog of models: the sources that they come from, and the architectures by name."""

from fnmatch import fnmatchcase

from mlcli.models.sources.builtin import BUILTIN
from mlcli.models.sources.lite import LITE
from mlcli.models.sources.source import Architecture, Entry, Source, TrainingDefaults
from mlcli.models.sources.timm_models import TIMM
from mlcli.models.sources.torchvision_models import TORCHVISION

SOURCES: tuple[Source, ...] = (LITE, BUILTIN, TORCHVISION, TIMM)  # a name means that of the first source that has it


def source(architecture: str) -> Source:
    """The source of an architecture. Raises ValueError where none has it."""
    for each in SOURCES:
        if each.resolve(architecture) == architecture:
            return each
    raise ValueError(f"{architecture}: unknown architecture")


def architecture(name: str) -> Architecture:
    """What is known of an architecture. Raises ValueError where no source has it."""
    return source(name).architecture(name)


def resolved(name: str) -> str | None:
    """The architecture that a name stands for; None for an unknown name."""
    return next(filter(None, (each.resolve(name) for each in SOURCES)), None)


def nameable() -> list[str]:
    """Every model that can be named, the default first, those of timm last."""
    return [name for each in SOURCES for name in each.names()]


def training_defaults(name: str) -> TrainingDefaults:
    """Default hyperparameters for an architecture; the general ones for a network behind a generator."""
    known = resolved(name)
    return architecture(known).training if known else TrainingDefaults()


def entries(pattern: str | None = None) -> list[Entry]:
    """What `mlcli models` lists: the models whose name fits the pattern (* and ?), or all of the listed sources."""
    return [
        each.entry(name)
        for each in SOURCES
        if pattern or each.listed
        for name in each.names()
        if not pattern or fnmatchcase(name, pattern)
    ]


def count_unlisted() -> int:
    """How many models `entries` leaves out without a pattern."""
    return sum(len(each.names()) for each in SOURCES if not each.listed)
