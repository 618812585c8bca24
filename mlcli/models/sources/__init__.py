"""Where architectures and their weights come from, a module for each source.

Every module answers the same questions about its architectures:

    names()                             those that can be named
    has(name)                           whether one is among them
    blueprint(name)                     classes and preprocessing of its own weights
    build(name, classes, options)       the network, with random weights
    OPTIONS                             the schema of the options that a file may name: those that `sized` and
                                        `blueprint` give, none by which a builder would load or download anything
    sized(name, size, channels)         the options that build it for other images
    stored(name)                        the file of its weights if it is on this disk
    fetch(name, network)                loads its weights into the network; downloads them where need be
    converted(name, network, tensors)   tensors that their authors name otherwise as the network does; None if it cannot
    entry(name)                         what `mlcli models` says of it
"""

from dataclasses import dataclass, field

from mlcli.data.class_names import ClassNames
from mlcli.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Blueprint:
    """What is known of an architecture before its weights are read; `options` are what its builder takes besides."""

    names: ClassNames
    preprocessing: Preprocessing
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What `mlcli models` says of a model; None where nobody says.

    imagenet_top1: published accuracy in percent.  license: of the weights.
    """

    name: str
    million_parameters: float | None
    size: int
    classes: int
    imagenet_top1: float | None
    license: str | None
    weights_on_disk: bool
