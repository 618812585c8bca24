"""`mlcli pix2pix`"""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _adversarial as adversarial
from mlcli.commands import _learning as learning
from mlcli.commands import _options as option
from mlcli.commands import _translation as shared
from mlcli.commands._bridge import call_of
from mlcli.methods.generation.configs import Pix2Pix as Config

DEFAULT = Config()
CHOICE = shared.choices(DEFAULT)


class Direction(StrEnum):
    AtoB = "AtoB"
    BtoA = "BtoA"


@option.reads_images
def run(
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(help="A folder with A/ and B/, or with side-by-side files.", show_default=False)
    ],
    output: option.RunFolder,
    direction: Annotated[Direction, typer.Option("--direction", help="What is made of what.")] = Direction.AtoB,
    val: Annotated[
        str | None,
        typer.Option("--val", help="A folder of pairs, or the fraction of DATA to hold out; default its val or test."),
    ] = None,
    size: shared.Size = "256",
    load: shared.Load = None,
    preprocess: shared.PreprocessOption = CHOICE.preprocess,
    flip: learning.Flip = DEFAULT.flip,
    channels_a: shared.ChannelsA = 3,
    channels_b: shared.ChannelsB = 3,
    labels_a: shared.LabelsA = 0,
    labels_b: shared.LabelsB = 0,
    max_images: shared.MaxImages = None,
    l1: Annotated[float, typer.Option("--l1", min=0, help="Weight of the mean absolute error.")] = DEFAULT.l1,
    gan: Annotated[
        float, typer.Option("--gan", min=0, help="Weight of the adversarial loss; 0: L1 alone.")
    ] = DEFAULT.gan,
    feature_matching: Annotated[
        float, typer.Option("--feature-matching", min=0, help="Weight of the discriminator's features (pix2pixHD: 10).")
    ] = DEFAULT.feature_matching,
    keep_luminance: Annotated[
        bool, typer.Option("--keep-luminance", help="Color gray images: what is made keeps their luma.")
    ] = DEFAULT.keep_luminance,
    loss: adversarial.LossOption = CHOICE.loss,
    penalty: adversarial.Penalty = DEFAULT.penalty,
    generator: shared.GeneratorOption = CHOICE.generator,
    filters: shared.Filters = DEFAULT.filters,
    norm: shared.NormOption = CHOICE.norm,
    dropout: shared.Dropout = DEFAULT.dropout,
    upsampling: shared.UpsamplingOption = CHOICE.upsampling,
    discriminator: shared.DiscriminatorOption = CHOICE.discriminator,
    discriminator_filters: shared.DiscriminatorFilters = DEFAULT.discriminator_filters,
    layers: shared.Layers = DEFAULT.layers,
    scales: shared.Scales = DEFAULT.scales,
    init: shared.InitOption = CHOICE.init,
    init_gain: shared.InitGain = DEFAULT.init_gain,
    begin: shared.From = None,
    epochs: shared.Epochs = DEFAULT.epochs,
    steps: learning.Steps = None,
    batch_size: shared.Batch = DEFAULT.batch_size,
    accumulate: shared.Accumulate = DEFAULT.accumulate,
    lr: shared.Rate = DEFAULT.lr,
    beta1: shared.Beta1 = DEFAULT.beta1,
    beta2: shared.Beta2 = DEFAULT.beta2,
    schedule: adversarial.ScheduleOption = CHOICE.schedule,
    ema: shared.Ema = DEFAULT.ema,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    save_every: option.SaveEvery = 300,
    sample_every: shared.SampleEvery = None,
    compile: shared.Compile = False,
    tensorboard: shared.Tensorboard = False,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Learn to translate images from aligned pairs, by a conditional GAN.

    A/ and B/ hold the pairs under equal names (also trainA/ trainB/, train/A train/B, or files with both side by
    side). The run folder holds the generator, for `mlcli translate`, with samples and a report; `--resume` goes on
    after an interruption to the same numbers, and does nothing when the run is done.
    """
    from mlcli.api import runs
    from mlcli.data.pairs import PairSet
    from mlcli.methods.generation.pix2pix import Pix2Pix
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call_of(context))
    config = shared.config(Config, options)
    kinds, framing = shared.kinds(options), shared.framing(config)

    training, held = pairings(options["data"], options["val"], options["max_images"], config.seed)

    def read(pairing, framing) -> PairSet:
        def load(**loading) -> PairSet:
            return PairSet.load(pairing, kinds, framing, **loading)

        total, where = len(pairing.paths), str(pairing.root)
        return shared.read(load, total, where, workers=workers, processes=processes, quiet=quiet)

    pairs = read(training, framing)
    validation = read(held, framing.still()) if held else None
    shared.check_batch(config, len(pairs), processes)
    summaries = {"training": shared.summary(pairs, {"pairs": training.digest()})}
    if held:
        summaries["validation"] = shared.summary(validation, {"pairs": held.digest()})

    seed_global(config.seed, "training/initialization")
    count = shared.steps(config, len(pairs), options)
    method = Pix2Pix(pairs, config, count, runtime, processes, validation)
    if options["begin"]:
        shared.begin_with(options["begin"], method.translators)
    shared.train("pix2pix", folder, method, config, options, summaries, processes, resume=resume, quiet=quiet)


def pairings(data: str, val: str | None, most: int | None, seed: int) -> tuple:
    """(training, validation or None) for --val: a folder of pairs, the share of DATA to hold out, or what DATA has."""
    import os

    from mlcli.api import runs
    from mlcli.data.folders import spread
    from mlcli.data.pairing import find_pairs, parts

    training = find_pairs(data)
    if val is None:
        there = parts(data)
        part = next((name for name in ("val", "test") if name in there), None)
        held = find_pairs(data, part) if part and "train" in there else None
    elif os.path.isdir(val):
        held = find_pairs(val)
    else:
        training, held = training.split(runs.held_share(val), seed)
    kept = [training.paths[index] for index in spread(most, len(training.paths))]
    return replace(training, paths=kept), held
