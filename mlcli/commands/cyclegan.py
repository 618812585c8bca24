"""`mlcli cyclegan`"""

from pathlib import Path
from typing import Annotated

import typer

from mlcli.api import inputs
from mlcli.commands import _adversarial as adversarial
from mlcli.commands import _learning as learning
from mlcli.commands import _options as option
from mlcli.commands import _translation as shared
from mlcli.commands._bridge import call_of
from mlcli.methods.generation.configs import CycleGAN as Config

DEFAULT = Config()
CHOICE = shared.choices(DEFAULT)


@option.reads_images
def run(
    context: typer.Context,
    folder_a: Annotated[Path, typer.Argument(help="A folder of images of one kind.", show_default=False)],
    folder_b: Annotated[Path, typer.Argument(help="A folder of images of another kind.", show_default=False)],
    output: option.RunFolder,
    val_a: Annotated[Path | None, typer.Option("--val-a", help="Images of A that are shown and measured.")] = None,
    val_b: Annotated[Path | None, typer.Option("--val-b", help="Images of B that are shown and measured.")] = None,
    classifier_a: Annotated[
        str | None,
        typer.Option("--classifier-a", help="A model whose answers to --val-a and the translations of --val-b count."),
    ] = None,
    classifier_b: Annotated[
        str | None,
        typer.Option("--classifier-b", help="One of B, with the same classes: the report tells how many labels flip."),
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
    cycle: Annotated[float, typer.Option("--cycle", min=0, help="Weight of the way there and back.")] = DEFAULT.cycle,
    identity: Annotated[
        float,
        typer.Option("--identity", min=0, help="Weight, as a share of --cycle, of leaving alone what fits already."),
    ] = DEFAULT.identity,
    pool: Annotated[
        int, typer.Option("--pool", min=0, help="Earlier translations that the discriminators see again.")
    ] = DEFAULT.pool,
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
    """Learn to translate between two sets of images without pairs, by cycle consistency.

    Both ways are learned at once: what is translated there and back must be what it was. The run folder holds both
    generators, for `mlcli translate --direction`, with samples and a report; `--resume` goes on after an interruption
    to the same numbers, and does nothing when the run is done.
    """
    from mlcli.api import runs
    from mlcli.errors import UsageError
    from mlcli.methods.generation.cyclegan import CycleGAN
    from mlcli.models import registry
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call_of(context))
    config = shared.config(Config, options)
    kinds, framing = shared.kinds(options), shared.framing(config)
    if (options["val_a"] is None) != (options["val_b"] is None):
        raise UsageError("--val-a and --val-b go together")
    classifiers = None
    if options["classifier_a"] or options["classifier_b"]:
        if not all(options[name] for name in ("classifier_a", "classifier_b", "val_a")):
            raise UsageError("--classifier-a and --classifier-b go together, and with --val-a and --val-b")
        classifiers = tuple(registry.load(options[f"classifier_{side}"]).to(runtime) for side in "ab")

    def read(places: tuple[str, str], framing, most: int | None = None) -> tuple:
        return sets(places, kinds, framing, most, workers=workers, processes=processes, quiet=quiet)

    data, hashes = read((options["folder_a"], options["folder_b"]), framing, options["max_images"])
    summaries, validation = {"training": shared.summary(data, hashes)}, None
    if options["val_a"]:
        validation, hashes = read((options["val_a"], options["val_b"]), framing.still())
        summaries["validation"] = shared.summary(validation, hashes)
    shared.check_batch(config, len(data), processes)

    seed_global(config.seed, "training/initialization")
    count = shared.steps(config, len(data), options)
    method = CycleGAN(data, config, count, runtime, processes, validation, classifiers)
    if options["begin"]:
        shared.begin_with(options["begin"], method.translators)
    shared.train("cyclegan", folder, method, config, options, summaries, processes, resume=resume, quiet=quiet)


def sets(places: tuple[str, str], kinds: tuple, framing, most: int | None, *, processes, **reading) -> tuple:
    """(the images of two folders, a hash of the files of each). Raises DataError where one holds none."""
    from mlcli.data import folders
    from mlcli.data.pairs import UnpairedSets

    paths, hashes = [], {}
    for place in places:
        found, _ = inputs.named([str(place)])
        paths.append([found[index] for index in folders.spread(most, len(found))])
        hashes[place] = folders.digest(paths[-1], Path(place))

    def load(**loading) -> UnpairedSets:
        return UnpairedSets.load(*paths, kinds, framing, **loading)

    where = " and ".join(map(str, places))
    return shared.read(load, max(map(len, paths)), where, processes=processes, **reading), hashes
