"""`mlcli.sample`: images drawn from a trained generator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress
from mlcli.api.image_result import ImageResult
from mlcli.io.output_paths import names_image
from mlcli.options import METHOD, OUTPUT, argument, option

if TYPE_CHECKING:
    from PIL import Image

    from mlcli.methods.generation.sampling import GridInputs, Sampler


@dataclass(frozen=True, kw_only=True)
class SampleConfig(common.Computes):
    run: Path = argument("Run of mlcli gan.", path="input", metavar="RUN")
    output: Path | None = option(
        None,
        "Image to write (.png, .jpg, .webp, .tif), or folder for single images.",
        "-o",
        "--output",
        path="either",
        cli_required=True,
        panel=OUTPUT,
    )
    number: int = option(
        64, "Number of images in all, rounded up to full rows or classes.", "-n", "--number", minimum=1, panel=METHOD
    )
    interpolate: bool = option(
        False, "Interpolate along each row from one point of the latent space to another.", panel=METHOD
    )
    columns: int | None = option(
        None,
        "Number of images per row.",
        minimum=1,
        shown_default="by their number; 8 with --interpolate",
        panel=OUTPUT,
    )
    classes: Sequence[str] | str | None = option(
        None,
        "Class of a conditional generator to draw; can be given several times.",
        "--class",
        completes="class",
        cli_type=list[str],
        shown_default="all",
        panel=METHOD,
    )
    truncation: float | None = option(
        None,
        "Largest magnitude of the latent noise, beyond which it is drawn again: more typical, less varied images.",
        minimum=0.05,
        shown_default="unlimited",
        panel=METHOD,
    )
    seed: int = common.seed()
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Samples:
    """Images drawn from a generator.

    number: how many.  record: what reproduces them.  image: a grid of them, of Pillow; None where a folder of single
    images was named.  files: those that were written.  output: the path that was named.
    """

    number: int
    record: Mapping[str, Any]
    image: "Image.Image | None"
    files: tuple[Path, ...] = ()
    output: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """The record, as it is written beside the images."""
        return dict(self.record)

    def _repr_png_(self) -> bytes | None:
        return None if self.image is None else ImageResult(self.image, self.record, self.output)._repr_png_()


@function(SampleConfig)
def sample(call: Call[SampleConfig]) -> Samples:
    """Draw images from a generator that `mlcli.gan` trained.

    In a grid, the images of a conditional generator have a row for each class; in a folder they are single files, in
    class folders. With `interpolate`, each row goes in equal steps from one random point of the latent space to
    another. Without `output` nothing is written, and the grid is returned.

        >>> import mlcli
        >>> result = mlcli.sample("runs/digits", number=20, classes="3")  # doctest: +SKIP
        >>> result.image.save("threes.png")  # doctest: +SKIP

    Raises UsageError for an output that exists and for a class that the generator does not have, WeightsError for a
    file that holds no generator.
    """
    from mlcli.api.outputs import claim_folder, determining, record, refuse_existing, refuse_existing_folder
    from mlcli.io import files
    from mlcli.methods.generation import sampling
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.random_streams import rng

    config, output = call.config, call.config.output
    separate = output is not None and not names_image(output)
    if output is not None and separate:
        claim_folder(call, output, lambda: refuse_existing_folder(output, config.overwrite))
    else:
        refuse_existing(output, config.overwrite)
    runtime = Runtime.choose(config.device, config.precision)
    sampler = sampling.load(config.run, runtime)
    names = [config.classes] if isinstance(config.classes, str) else list(config.classes or ())
    drawn = sampling.draw(
        sampler,
        config.number,
        rng(config.seed, "sample/latent"),
        labels=[sampler.class_index(name) for name in names],
        columns=config.columns,
        interpolate=config.interpolate,
        truncation=config.truncation,
    )
    effective = {"number": len(drawn.labels), "columns": drawn.columns, "precision": runtime.precision}
    options = determining(config, classes=names, **effective)
    told = record("sample", options, sampler)
    if output is None or not separate:
        grid = ImageResult.written(sampler.grid(*drawn, wrap=config.columns is None), told, output)
        return Samples(len(drawn.labels), told, grid.image, () if output is None else (output,), output)
    written = _write_each(sampler, drawn, output)
    files.write_json(output.with_name(output.name + ".json"), told)
    return Samples(len(drawn.labels), told, None, written, output)


def _write_each(sampler: "Sampler", drawn: "GridInputs", folder: Path) -> tuple[Path, ...]:
    """Write the images to FOLDER/NNNNN.png, those of classes to FOLDER/CLASS/NNNNN.png; returns the files."""
    from mlcli.imaging import image_io

    digits = len(str(len(drawn.labels) - 1))
    folders = _class_folders(sampler.classes)
    of_image = [folders[label] if folders else "" for label in drawn.labels.tolist()]
    files: list[Path] = []
    with Progress(len(of_image), str(folder)) as bar:
        for images in sampler.batches(drawn.latent, drawn.labels):
            for image in images:
                files.append(folder / of_image[len(files)] / f"{len(files):0{digits}d}.png")
                image_io.write(image, files[-1])
                bar.to(len(files))
    return tuple(files)


def _class_folders(classes: Sequence[str]) -> list[str]:
    """The name of a folder for each class; a class's own name comes from a file, and may be no name of a folder."""
    from mlcli.io.files import file_name

    names = [file_name(name) for name in classes]
    folded = [name.casefold() for name in names]
    return [f"{name} ({number})" if folded.count(folded[number]) > 1 else name for number, name in enumerate(names)]
