"""`mlcli stylize`"""

import os
from contextlib import ExitStack
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import complain, say
from mlcli.methods.painting import configs

STARTS = ("content", "noise", "gray", "style")  # all other words of --init are files


class Optimizer(StrEnum):
    adam = "adam"
    lbfgs = "lbfgs"


class Pooling(StrEnum):
    max = "max"
    average = "average"


class StyleLoss(StrEnum):
    gram = "gram"
    gaussian = "gaussian"


@option.reads_images
def run(
    context: typer.Context,
    content: Annotated[
        list[str],
        typer.Argument(metavar="CONTENT", help=option.IMAGES_HELP, show_default=False),
    ],
    output: Annotated[
        Path, option.output_file_or_folder("The image to write; with a trailing /, or for several contents, a folder.")
    ],
    style: Annotated[list[Path], typer.Option("--style", help="An image to take the style of; repeat to mix.")],
    style_weight: Annotated[
        list[float] | None,
        typer.Option("--style-weight", min=0, max=1e6, help="One for each --style; default equal shares."),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", help="One for each --style: an image, white where it holds; or all."),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", min=0, max=1, help="Share of the content; the style has the rest.")
    ] = None,
    tv: Annotated[
        float | None, typer.Option("--tv", min=0, max=1e6, help="Weight of the total variation; smooths.")
    ] = None,
    content_layer: Annotated[
        list[str] | None, typer.Option("--content-layer", help="A layer, or LAYER=WEIGHT; repeat for several.")
    ] = None,
    style_layer: Annotated[
        list[str] | None, typer.Option("--style-layer", help="A layer, or LAYER=WEIGHT; repeat for several.")
    ] = None,
    style_loss: Annotated[
        StyleLoss | None,
        typer.Option("--style-loss", help="gram: Gram matrices; gaussian: means and covariances."),
    ] = None,
    pooling: Annotated[
        Pooling, typer.Option("--pooling", help="average: in place of the network's max pooling, as in the paper.")
    ] = Pooling.max,
    init: Annotated[
        str, typer.Option("--init", help="Where to start: content, noise, gray, style, or an image.")
    ] = configs.Stylize.init,
    size: Annotated[int | None, typer.Option("--size", min=8, help="Long side of the result in pixels.")] = None,
    scales: Annotated[
        str | None, typer.Option("--scales", help="Long sides from coarse to fine, as in 96,192.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", help="Steps at each scale, as in 200,100; the last holds for the rest.")
    ] = None,
    style_scale: Annotated[
        float, typer.Option("--style-scale", min=0.05, help="Size of the style's forms; never over its own size.")
    ] = configs.Stylize.style_scale,
    optimizer: Annotated[Optimizer | None, typer.Option("--optimizer", help="adam, or lbfgs as in the paper.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, max=1000, help="Step size of Adam.")] = None,
    averaging: Annotated[
        float | None, typer.Option("--averaging", min=0, max=0.9999, help="Decay of the average of the iterates.")
    ] = None,
    keep_colors: Annotated[
        bool, typer.Option("--keep-colors", help="Keep the content's colors; only the luminance is painted.")
    ] = False,
    snapshot_every: Annotated[
        int | None, typer.Option("--snapshot-every", min=1, help="Write the image every so many steps too.")
    ] = None,
    tile: Annotated[
        int, typer.Option("--tile", min=64, help="Side of the parts of a large image; sets the memory.")
    ] = configs.Stylize.tile,
    model: option.Model = "cifarnet",
    weights: option.Weights = None,
    seed: option.Seed = configs.Stylize.seed,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    save_every: option.SaveEvery = 60,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Paint images in the style of another.

    What the options leave open is tuned for the model. Several contents go to a folder, where a finished result newer
    than its inputs is left alone. Ctrl-C keeps what there is; the same command with --resume goes on.
    """
    from mlcli.api.outputs import claim_folder, refuse_existing_folder
    from mlcli.commands import _painting
    from mlcli.errors import ImageError, Interrupted, MlcliError, UsageError
    from mlcli.io import image_io, locks, tally
    from mlcli.io.files import check_writable, sweep
    from mlcli.methods.painting import style_transfer
    from mlcli.methods.painting.style_losses import Style
    from mlcli.models import registry
    from mlcli.models.sources.builtin import EMBEDDED
    from mlcli.models.sources.torchvision_models import weights_path
    from mlcli.runtime.device import Runtime

    if size and scales:
        raise UsageError("--size and --scales: the last of the scales is the size; give one of the two")
    given = {
        "alpha": alpha,
        "tv": tv,
        "content_layers": layer_weights(content_layer),
        "style_layers": layer_weights(style_layer),
        "style_loss": style_loss and style_loss.value,
        "size": size,
        "scales": numbers("--scales", scales),
        "steps": numbers("--steps", steps),
        "optimizer": optimizer and optimizer.value,
        "lr": lr,
        "averaging": averaging,
    }
    weight_of = one_each("--style-weight", style_weight, style, 1.0)
    mask_of = [None if name == "all" else name for name in one_each("--mask", mask, style, "all")]
    paintings, problems = _painting.paintings(content, output)
    inputs = [*style, *(Path(name) for name in mask_of if name)]
    if len(paintings) == 1:
        context.with_resource(locks.file_locked(paintings[0].target))
    else:
        claim_folder(call_of(context), output, lambda: refuse_existing_folder(output, True))
    for folder in {painting.target.parent for painting in paintings}:
        sweep(folder)
    from_file = init not in STARTS
    if from_file:
        inputs.append(Path(init))
    wanted = [
        painting
        for painting in paintings
        if painting.wanted(inputs, overwrite, resume, problems.append, snapshot_every=snapshot_every, quiet=quiet)
    ]
    for problem in problems:
        complain(problem)
    failures = len(problems)
    if wanted:
        check_writable(wanted[0].target)
        runtime = Runtime.choose(device, precision).for_training()
        chosen = registry.load(model, weights).to(runtime)
        config = configs.stylize(chosen.architecture)
        config = replace(config, **{key: value for key, value in given.items() if value is not None})
        config = replace(config, style_scale=style_scale, pooling=pooling.value, init=init, keep_colors=keep_colors)
        config = replace(config, tile=tile, seed=seed)
        if model == EMBEDDED and os.path.isfile(weights_path("vgg19")):
            say("the weights of vgg19 are on this disk; --model vgg19 paints finer and takes longer", quiet)

        def read(path: Path | str):
            return image_io.to_unit(image_io.read(path)).to(runtime.device)

        styles = [
            Style(read(path), weight, image_io.to_gray(read(name))[0] if name else None)
            for path, weight, name in zip(style, weight_of, mask_of, strict=True)
        ]
        start = read(init) if from_file else None
        extractor = style_transfer.open_layers(chosen, config, runtime)
        options = asdict(config) | {
            "style": style,
            "style_weight": weight_of,
            "mask": mask_of,
            "model": model,
            "weights": weights,
            "precision": runtime.precision,
        }
    for painting in wanted:
        lock = ExitStack()
        try:
            if len(paintings) > 1:  # the one of an only image is held already
                lock.enter_context(locks.file_locked(painting.target))
            work = style_transfer.Stylization(extractor, read(painting.content), styles, config, start)
            image_io.require_room(painting.target, *work.size)
            painting.paint(
                work,
                chosen,
                options,
                inputs,
                resume=resume,
                snapshot_every=snapshot_every,
                save_every=save_every,
                quiet=quiet,
            )
        except Interrupted:
            raise
        except MlcliError as error:
            if len(paintings) == 1:
                raise
            failures += 1
            tally.current().leave_out(painting.content, "image{s} that could not be painted")
            complain(error if isinstance(error, ImageError) else f"{painting.content}: {error}")
        finally:
            lock.close()
    if failures:
        raise typer.Exit(1)


def layer_weights(given: list[str] | None) -> tuple[tuple[str, float], ...] | None:
    """`conv1=256` and `conv2` to (address, weight). Raises UsageError."""
    from mlcli.errors import UsageError

    layers = []
    for text in given or ():
        address, sign, weight = text.partition("=")
        try:
            value = float(weight) if sign else 1.0
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise UsageError(f"{text}: the weight of a layer is a number greater than 0, as in {address}=0.5")
        layers.append((address, value))
    return tuple(layers) or None


def numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    """`96,192` to (96, 192). Raises UsageError."""
    from mlcli.errors import UsageError

    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"{name} {text}: takes whole numbers greater than 0 with commas between them, as in 96,192")
    return tuple(int(part) for part in parts)


def one_each(name: str, values: list | None, styles: list[Path], default) -> list:
    """As many values as styles. Raises UsageError for another number, and for weights that are all 0."""
    from mlcli.errors import UsageError

    if not values:
        return [default] * len(styles)
    if len(values) != len(styles):
        raise UsageError(
            f"{name}: given {len(values)} times for {len(styles)} styles; give one for each, in their order"
        )
    if not any(values):
        raise UsageError(f"{name}: all are 0; one at least has to count")
    return values
