"""`mlcli.cyclegan`: translation learned from two sets of images without pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, inputs, translation_runs
from mlcli.api.call import Call, function
from mlcli.api.train import Training
from mlcli.errors import UsageError
from mlcli.methods.generation.configs import CycleGAN
from mlcli.options import DATA, METHOD, argument, option, same

if TYPE_CHECKING:
    from mlcli.data.pairs import ImageSpec, ResizeCrop, UnpairedSets
    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime


@dataclass(frozen=True, kw_only=True)
class CycleGANConfig(translation_runs.TranslationConfig):
    folder_a: Path = argument("Folder of images of one domain, A.", path="input", metavar="FOLDER_A")
    folder_b: Path = argument("Folder of images of the other domain, B.", path="input", metavar="FOLDER_B")
    val_a: Path | None = option(
        None, "Folder of images of A to validate on; goes with --val-b.", path="input", panel=DATA
    )
    val_b: Path | None = option(
        None, "Folder of images of B to validate on; goes with --val-a.", path="input", panel=DATA
    )
    classifier_a: str | None = option(
        None,
        "Classifier of the images in A, to count translations that change the class; goes with --val-a.",
        panel=METHOD,
    )
    classifier_b: str | None = option(
        None, "Classifier of the images in B, into the same classes as --classifier-a.", panel=METHOD
    )
    generator: str = same(CycleGAN, "generator")
    norm: str = same(CycleGAN, "norm")
    loss: str = same(CycleGAN, "loss")
    cycle: float = same(CycleGAN, "cycle")
    identity: float = same(CycleGAN, "identity")
    pool: int = same(CycleGAN, "pool")


@function(CycleGANConfig)
def cyclegan(call: Call[CycleGANConfig]) -> Training:
    """Learn to translate between two sets of images without pairs, by cycle consistency (Zhu et al. 2017).

    Two generators are trained at once, from A to B and from B to A: an image that is translated there and back must be
    what it was. The run folder holds both, for `mlcli.translate`, with sample images and a report. With `resume` an
    interrupted run continues to the same numbers as one never interrupted, and a finished one is left as it is.

        >>> import mlcli
        >>> result = mlcli.cyclegan("horses", "zebras", output="runs/zebras", size=128)  # doctest: +SKIP
        >>> mlcli.translate(result.folder, "photos", output="made", direction="AtoB")  # doctest: +SKIP

    `metrics` has the last value of each loss; with `val_a` and `val_b` also `val_cycle_A` and `val_cycle_B`, the mean
    absolute errors of images translated there and back, where pixels are in [0, 1]; with classifiers also
    `val_flips_AtoB` and `val_flips_BtoA`, the fractions of translations of another class than their images. Images
    that cannot be read are left out and named. Raises UsageError for options that do not go together, DataError where
    a folder holds no image.
    """
    from mlcli.api import runs
    from mlcli.methods.generation import cyclegan as method
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, run, options = runs.begin(call)
    if (metrics := runs.finished(call, run, options, processes)) is not None:
        return Training(run.folder, metrics)
    config = translation_runs.hyperparameters(CycleGAN, options)
    specs, resize_crop = translation_runs.image_specs(options), translation_runs.resize_crop(config)
    classifiers = _classifiers(options, runtime)

    def read(
        folders: Sequence[str], resize_crop: "ResizeCrop", most: int | None = None
    ) -> "tuple[UnpairedSets, dict[str, Any]]":
        return unpaired_sets(folders, specs, resize_crop, most, call.config)

    sets, hashes = read((options["folder_a"], options["folder_b"]), resize_crop, options["max_images"])
    data, validation = {"training": translation_runs.summary(sets, hashes)}, None
    if options["val_a"]:
        validation, hashes = read((options["val_a"], options["val_b"]), resize_crop.still())
        data["validation"] = translation_runs.summary(validation, hashes)
    translation_runs.check_batch(config, len(sets), processes)

    seed_global(config.seed, "training/initialization")
    steps = translation_runs.total_steps(config, len(sets), options)
    trained = method.CycleGAN(sets, config, steps, runtime, processes, validation, classifiers)
    return translation_runs.train("cyclegan", run, trained, config, options, data, processes, resume=call.config.resume)


def _classifiers(options: Mapping[str, Any], runtime: "Runtime") -> "tuple[Model, Model] | None":
    """The classifiers of A and of B. Raises UsageError where options that go together are not all given."""
    from mlcli.models import registry

    if (options["val_a"] is None) != (options["val_b"] is None):
        raise UsageError("--val-a and --val-b go together")
    if not (options["classifier_a"] or options["classifier_b"]):
        return None
    if not all(options[name] for name in ("classifier_a", "classifier_b", "val_a")):
        raise UsageError("--classifier-a and --classifier-b go together, and with --val-a and --val-b")
    a, b = (registry.load(options[f"classifier_{side}"]).to(runtime) for side in "ab")
    return a, b


def unpaired_sets(
    folders: Sequence[str],
    specs: "tuple[ImageSpec, ImageSpec]",
    resize_crop: "ResizeCrop",
    most: int | None,
    config: common.Trains,
) -> "tuple[UnpairedSets, dict[str, str]]":
    """(the images of two folders, a hash of the files of each). Raises DataError where one holds none.

    most: the largest number of images of each folder.
    """
    from mlcli.data.folders import digest, spread
    from mlcli.data.pairs import UnpairedSets

    paths, hashes = [], {}
    for folder in folders:
        found = inputs.files_named(folder)
        paths.append([found[index] for index in spread(most, len(found))])
        hashes[folder] = digest(paths[-1], Path(folder))

    def load(**more: Any) -> UnpairedSets:
        return UnpairedSets.load(paths[0], paths[1], specs, resize_crop, **more)

    return translation_runs.read(load, max(map(len, paths)), " and ".join(folders), config), hashes
