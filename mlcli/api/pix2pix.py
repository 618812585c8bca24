"""`mlcli.pix2pix`: translation learned from aligned pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import translation_runs
from mlcli.api.call import Call, function
from mlcli.api.train import Training
from mlcli.io import input_files
from mlcli.methods.generation.configs import Pix2Pix
from mlcli.options import DATA, argument, option, same

if TYPE_CHECKING:
    from mlcli.data.pairing import Pairing
    from mlcli.data.pairs import PairSet, ResizeCrop


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(translation_runs.TranslationConfig):
    data: Path = argument("Folder with A/ and B/, or with side-by-side files.", path="input", metavar="DATA")
    side_by_side: bool = option(
        False,
        "Take the left half of each file as A and the right half as B; files of 2:1 are taken so without it.",
        panel=DATA,
    )
    direction: str = same(Pix2Pix, "direction")
    val: float | str | None = option(
        None,
        "Folder of pairs to validate on, or the fraction of DATA to hold out, as in 0.1.",
        cli_type=str,
        shown_default="the val or test part of DATA, if it has one",
        panel=DATA,
    )
    dropout: float = same(Pix2Pix, "dropout")
    l1: float = same(Pix2Pix, "l1")
    gan: float = same(Pix2Pix, "gan")
    feature_matching: float = same(Pix2Pix, "feature_matching")
    keep_luminance: bool = same(Pix2Pix, "keep_luminance")


@function(Pix2PixConfig)
def pix2pix(call: Call[Pix2PixConfig]) -> Training:
    """Learn to translate images from aligned pairs, by a conditional GAN (Isola et al. 2017).

    data: a folder whose A/ and B/ hold the pairs under equal names (also trainA/ trainB/, train/A train/B, or files
    with both images side by side, which are 2:1 unless `side_by_side`); `mlcli.pairs` writes such folders. The run
    folder holds the generator, for `mlcli.translate`, with sample images and a report. With `resume` an interrupted run
    continues to the same numbers as one never interrupted, and a finished one is left as it is.

        >>> import mlcli
        >>> result = mlcli.pix2pix("facades", output="runs/facades", size=128, labels_a=12)  # doctest: +SKIP
        >>> mlcli.translate(result.folder, "facades/test/A", output="made")  # doctest: +SKIP

    `metrics` has the last value of each loss, and of `val_l1`, the mean absolute error on the validation pairs, where
    pixels are in [0, 1]. Files without a partner, and pairs that cannot be read, are left out and named. Raises
    UsageError for options that do not go together and for a folder of images that are no pairs, DataError where there
    are no pairs.
    """
    from mlcli.api import runs
    from mlcli.data.pairs import PairSet
    from mlcli.methods.generation import pix2pix as method
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, run, options = runs.begin(call)
    if (metrics := runs.finished(call, run, options, processes)) is not None:
        return Training(run.folder, metrics)
    config = translation_runs.hyperparameters(Pix2Pix, options)
    specs, resize_crop = translation_runs.image_specs(options), translation_runs.resize_crop(config)
    training, held_out = pairings(options)
    if not (options["side_by_side"] or (call.config.resume and run.exists())):
        for pairing in filter(None, (training, held_out)):
            pairing.require_side_by_side()

    def read(pairing: "Pairing", resize_crop: "ResizeCrop") -> "PairSet":
        def load(**more: Any) -> PairSet:
            return PairSet.load(pairing, specs, resize_crop, **more)

        return translation_runs.read(load, len(pairing.paths), str(pairing.root), call.config)

    pairs = read(training, resize_crop)
    validation = read(held_out, resize_crop.still()) if held_out else None
    translation_runs.check_batch(config, len(pairs), processes)
    data = {"training": translation_runs.summary(pairs, {"pairs": training.digest()})}
    if held_out and validation:
        data["validation"] = translation_runs.summary(validation, {"pairs": held_out.digest()})

    seed_global(config.seed, "training/initialization")
    steps = translation_runs.total_steps(config, len(pairs), options)
    trained = method.Pix2Pix(pairs, config, steps, runtime, processes, validation)
    return translation_runs.train("pix2pix", run, trained, config, options, data, processes, resume=call.config.resume)


def pairings(options: Mapping[str, Any]) -> "tuple[Pairing, Pairing | None]":
    """(training, validation): validation is a folder, the fraction of the data to hold out, or a part of the data."""
    from mlcli.api import runs
    from mlcli.data.folders import spread
    from mlcli.data.pairing import find_pairs, parts

    data, val = options["data"], options["val"]
    training, held_out = find_pairs(data), None
    if val is None:
        present = parts(data)
        part = next((name for name in ("val", "test") if name in present), None)
        held_out = find_pairs(data, part) if part and "train" in present else None
    elif input_files.is_folder(val):
        held_out = find_pairs(val)
    else:
        training, held_out = training.split(runs.held_fraction(val), options["seed"])
    kept = [training.paths[index] for index in spread(options["max_images"], len(training.paths))]
    return replace(training, paths=kept), held_out
