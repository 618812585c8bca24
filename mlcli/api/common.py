"""Options that several functions share, each declared once, as parts that configurations are made of."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api.call import Config
from mlcli.options import COMPUTING, DATA, METHOD, NETWORK, OUTPUT, TRAINING, argument, option, required

if TYPE_CHECKING:
    import numpy
    import torch
    from PIL import Image

    # A path, an image of Pillow, an array (H, W) or (H, W, C) as numpy has them, or a tensor (C, H, W); numbers are
    # uint8, or float in [0, 1].
    OneImage = str | os.PathLike[str] | Image.Image | numpy.ndarray | torch.Tensor
    Images = OneImage | Sequence[OneImage]
else:  # to import those would take seconds
    OneImage = Images = Any

DEFAULT_MODEL = "efficientnet_lite0"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
MODEL_HELP = "Name of a model (see `mlcli models`), or the folder of a run."
RUNNABLE_HELP = "Name of a model (see `mlcli models`), the folder of a run, or an exported .onnx or .xml file."


def images(
    help: str = "Image files, folders (walked recursively), archives, or - for paths on stdin.", **more: Any
) -> Any:
    """The argument of images."""
    return argument(help, metavar="IMAGES", cli_type=list[str], **more)


# What can be given where images must be files, since their names are used later (`inputs.file_names`).
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, kw_only=True)
class ReadsFiles(Config):
    """How image files are read."""

    accept_truncated: bool = option(False, "Take what can be decoded of image files that are cut off.", panel=DATA)
    stretch: bool = option(
        False, "Scale 16-bit images that use only 8, 10, 12 or 14 bits to the full range.", panel=DATA
    )


@dataclass(frozen=True, kw_only=True)
class ReadsImages(ReadsFiles):
    """How many image files are read, in threads."""

    workers: int | None = option(
        None, "Number of decoding threads.", minimum=1, shown_default="one per core", panel=COMPUTING
    )


@dataclass(frozen=True, kw_only=True)
class UsesModel(Config):
    """The model that is used."""

    model: str = option(DEFAULT_MODEL, MODEL_HELP, cli_type=str, panel=NETWORK, completes="model")
    weights: Path | None = option(
        None, "Weights in place of the model's own: a .safetensors file or a checkpoint.", path="input", panel=NETWORK
    )


@dataclass(frozen=True, kw_only=True)
class UsesClasses(UsesModel):
    """A model whose classes have names."""

    classes: Path | None = option(
        None,
        "Names of the model's classes: a file with one name per line, or a JSON list or map.",
        path="input",
        panel=NETWORK,
    )


@dataclass(frozen=True, kw_only=True)
class Computes(Config):
    """Where and how numbers are computed."""

    device: str = option("auto", "Device: auto, cpu, cuda, cuda:N or mps.", panel=COMPUTING, completes="device")
    precision: str = option(
        "auto",
        "Arithmetic precision; auto is bf16 where the hardware has it natively, else fp32.",
        choices=PRECISIONS,
        panel=COMPUTING,
    )


@dataclass(frozen=True, kw_only=True)
class ComputesExactly(Computes):
    """The same of functions that rank or measure."""

    precision: str = option(
        "fp32",
        "Arithmetic precision; auto is bf16 where the hardware has it natively, which changes some ranks.",
        choices=PRECISIONS,
        panel=COMPUTING,
    )


ENGINES = ("auto", "torch", "openvino", "onnxruntime", "compile")


def engine() -> Any:
    """The option of what computes a network."""
    return option(
        "auto",
        "Library that computes the network; auto is openvino on a CPU where it is installed and the images are many.",
        choices=ENGINES,
        panel=COMPUTING,
    )


def batch_size(default: int) -> Any:
    return option(default, "Number of images per batch.", minimum=1, panel=COMPUTING)


def shard(more: str = "") -> Any:
    """more: what becomes of the parts."""
    help = f"Part of the images to process, such as 3/16, the third of 16{more}."
    return option(None, help, metavar="I/N", panel=COMPUTING)


def seed(default: int = 0) -> Any:
    return option(default, "Seed of all random numbers.", panel=COMPUTING)


def save_every() -> Any:
    return option(60, "Seconds between checkpoints.", minimum=0, panel=OUTPUT)


def overwrite() -> Any:
    return option(False, "Replace an output that exists.", panel=OUTPUT)


def output_folder(help: str = "Folder to write.") -> Any:
    return required(help, "-o", "--output", path="folder", panel=OUTPUT)


def units() -> Any:
    help = "Units of the layer: all, or indices and ranges as in 0-15 or 3,7,12-20."
    return option("all", help, cli_type=str, panel=NETWORK)


def top_patches(default: int) -> Any:
    return option(default, "Number of patches in each group of a unit.", minimum=1, maximum=100, panel=METHOD)


def cache_memory(
    help: str = "Memory for the decoded images of each data set, in gigabytes; more are kept in a file on disk.",
) -> Any:
    return option(4.0, help, minimum=0, panel=COMPUTING)


def project() -> Any:
    """The option of the projections beside patches; its choices are `relu_rules.RULES`, whose module loads torch."""
    return option(
        None,
        "What to draw below each patch: the projection of its unit to pixels by a deconvnet, or by guided "
        "backpropagation.",
        choices=("deconv", "guided"),
        shown_default="nothing",
        panel=METHOD,
    )


@dataclass(frozen=True, kw_only=True)
class WritesRun(Config):
    """A run folder, and how it is resumed."""

    output: Path = output_folder("Run folder to write.")
    overwrite: bool = overwrite()
    resume: bool = option(False, "Resume the run in the output folder.", panel=OUTPUT)
    save_every: float = save_every()
    seed: int = seed()


@dataclass(frozen=True, kw_only=True)
class Trains(WritesRun, ReadsImages, Computes):
    """A run that learns from images."""

    cache_memory: float = cache_memory()

    @property
    def cache_bytes(self) -> int:
        return int(self.cache_memory * 1e9)


def class_folders() -> Any:
    return argument(
        "Folder or archive with one folder of images per class, or a CSV list of images and classes.",
        path="input",
        metavar="DATA",
    )


def val() -> Any:
    help = "Labeled folder, archive or CSV list to validate on, or the fraction of DATA to hold out, as in 0.1."
    return option(None, help, cli_type=str, shown_default="no validation", panel=DATA)


def size() -> Any:
    return option(
        None, "Side of the training images in pixels.", minimum=8, shown_default="that of the first image", panel=DATA
    )


def gray() -> Any:
    return option(False, "Train on one gray channel instead of three color channels.", panel=DATA)


def architecture() -> Any:
    help = "Architecture: cifarnet, or one of torchvision or timm."
    return option("cifarnet", help, cli_type=str, panel=NETWORK, completes="architecture")


def steps_limit() -> Any:
    return option(
        None,
        "Number of training steps, in place of --epochs; the schedule ends with them.",
        minimum=1,
        shown_default="epochs times steps per epoch",
        panel=TRAINING,
    )
