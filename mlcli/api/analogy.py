"""`mlcli.analogy`: image analogies."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress
from mlcli.api.image_result import ImageResult, image_output, require_writable
from mlcli.api.inputs import height_and_width, one_image
from mlcli.counting import counted
from mlcli.errors import UsageError
from mlcli.methods.painting.configs import ANALOGIES, Analogy
from mlcli.options import COMPUTING, METHOD, OUTPUT, argument, option, same

OF_A_AND_B = ("source_weight", "match", "color", "remap")
OPTIONS = (*OF_A_AND_B, "kappa", "levels", "passes")


def by_mode(name: str) -> Any:
    """The option of a hyperparameter whose default goes by the mode."""
    values = {mode: str(getattr(config, name)) for mode, config in ANALOGIES.items()}
    same_in_all = len(set(values.values())) == 1
    by_name = ", ".join(f"{mode} {value}" for mode, value in values.items())
    shown = values["filter"] if same_in_all else by_name
    return same(Analogy, name, default=None, shown_default=shown)


@dataclass(frozen=True, kw_only=True)
class AnalogyConfig(common.ReadsFiles):
    images: common.Images = argument(
        "Three images; texture-transfer takes TEXTURE B, texture-synthesis TEXTURE alone.",
        metavar="A A_PRIME B",
        cli_type=list[str],
    )
    output: Path | None = image_output()
    mode: str = option(
        "filter", "Kind of analogy, which sets the defaults of the options.", choices=tuple(ANALOGIES), panel=METHOD
    )
    kappa: float | None = by_mode("kappa")
    source_weight: float | None = by_mode("source_weight")
    match: str | None = by_mode("match")
    color: str | None = by_mode("color")
    remap: str | None = by_mode("remap")
    levels: int | None = by_mode("levels")
    passes: int | None = by_mode("passes")
    size: str | None = option(
        None,
        "Size of a synthesized texture in pixels: SIDE or WIDTHxHEIGHT.",
        cli_type=str,
        shown_default="twice that of TEXTURE",
        panel=OUTPUT,
    )
    seed: int = common.seed()
    device: str = option("auto", "Device: auto, cpu, cuda, cuda:N or mps.", panel=COMPUTING)
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class AnalogyResult(ImageResult):
    """B'. distance: mean squared distance of its neighborhoods to those of A' that they were taken from."""

    distance: float


@function(AnalogyConfig)
def analogy(call: Call[AnalogyConfig]) -> AnalogyResult:
    """Paint B' such that A is to A' as B is to B' (Hertzmann et al. 2001).

    Learns a filter from one example of it: A, and A' = A filtered. Or synthesizes the texture A': like the image B
    (texture-transfer), from nothing (texture-synthesis), or by a map B of colors that the map A of A' explains
    (texture-by-numbers). A and A' must be of one size, B may be of any.

        >>> import mlcli
        >>> photo = "samples/photos/cat.jpg"
        >>> result = mlcli.analogy([photo, "cat-painted.jpg", "dog.jpg"])  # doctest: +SKIP
        >>> result.image  # doctest: +SKIP

    Raises UsageError for another number of images than the mode takes and for options that it does not have,
    ImageError for an image that cannot be read.
    """
    from mlcli.api.outputs import record
    from mlcli.imaging import image_io
    from mlcli.methods.painting import image_analogies
    from mlcli.runtime.device import Runtime

    config = call.config
    require_writable(config.output, overwrite=config.overwrite)
    options = {name: value for name in OPTIONS if (value := getattr(config, name)) is not None}
    method = replace(ANALOGIES[config.mode], **options, seed=config.seed)
    given = list(config.images) if isinstance(config.images, (list, tuple)) else [config.images]
    if len(given) != len(method.inputs):
        raise UsageError(
            f"--mode {config.mode} takes {counted(len(method.inputs), 'image')}, {' '.join(method.inputs)}, "
            f"not {len(given)}"
        )
    if config.mode == "texture-synthesis":
        for name in OF_A_AND_B:
            if name in options:
                raise UsageError(
                    f"--{name.replace('_', '-')} compares with A and B, which --mode {config.mode} has not"
                )
    elif config.size is not None:
        raise UsageError(
            f"--size is for --mode texture-synthesis; with --mode {config.mode} the result is as large as B"
        )
    wanted = None if config.size is None else height_and_width(config.size)
    runtime = Runtime.choose(config.device)
    named = {
        name: one_image(image, number) for number, (name, image) in enumerate(zip(method.inputs, given, strict=True))
    }
    loaded = {name: image_io.to_unit(image_io.read(image)).to(runtime.device) for name, image in named.items()}
    a_prime = loaded["TEXTURE"] if method.texture and "TEXTURE" in loaded else loaded["A_PRIME"]
    b = loaded.get("B")
    a = loaded.get("A", None if b is None else a_prime)
    if b is not None:
        size = (b.shape[1], b.shape[2])
    else:
        size = wanted = wanted or (2 * a_prime.shape[1], 2 * a_prime.shape[2])
    if config.output is not None:
        image_io.require_room(config.output, *size)
    with Progress(100, "analogy") as bar:
        result = image_analogies.create(
            a, a_prime, b, method, size=wanted, progress=lambda fraction: bar.to(round(100 * fraction))
        )
    told = {"mode": config.mode, **{name: getattr(method, name) for name in OPTIONS}}
    told |= {"size": config.size, "seed": config.seed}
    images = {name: {"file": str(image), "sha256": image_io.digest(image)} for name, image in named.items()}
    written = record("analogy", told, images=images, color=result.color, distance=result.distance)
    return AnalogyResult.written(result.b_prime, written, config.output, distance=result.distance)
