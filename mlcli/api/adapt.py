"""`mlcli.adapt`: a model carried from a labeled domain to one without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.adaptation_options import hyperparameters, with_method_options
from mlcli.api.call import Call, function
from mlcli.api.events import complain
from mlcli.api.inputs import listed
from mlcli.errors import UsageError
from mlcli.methods.adaptation.registry import MASKS, METHODS, PRETRAINED, Adaptation
from mlcli.options import DATA, METHOD, NETWORK, OUTPUT, TRAINING, argument, option, required

if TYPE_CHECKING:
    from mlcli.models.model import Model

OTHER_MODELS = [
    f"{name} {method.config.model}" for name, method in METHODS.items() if method.config.model != Adaptation.model
]


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(common.Trains):
    """The options of all methods; `with_method_options` adds those of each."""

    source: Path = argument(
        "Labeled images of the source: class folders, or images/ and masks/. Where one folder alone is given, it is "
        "TARGET.",
        metavar="SOURCE",
        path="input",
    )
    target: Path | None = argument(
        "Images of the target domain; labels are not read. Without SOURCE, --model is the model of the source ("
        f"{', '.join(name for name, method in METHODS.items() if method.source_free)}).",
        default=None,
        metavar="TARGET",
        path="input",
    )
    method: Sequence[str] = required(
        "Method of adaptation, or several in one table, separated by commas: "
        f"{'; '.join(f'{name}: {method.summary}' for name, method in METHODS.items())}.",
        choices=tuple(METHODS),
        cli_type=list[str],
        panel=METHOD,
    )
    test: Path | None = option(
        None, "Labeled images of the target, read for the final table alone.", path="input", panel=DATA
    )
    cache_memory: float = common.cache_memory(
        "Largest memory for the decoded images of each domain, in gigabytes; adaptation holds them all in memory."
    )
    task: str = option(
        "classify",
        "Kind of the labels: classes of images (classify) or masks (segment).",
        choices=("classify", "segment"),
        panel=DATA,
    )
    target_labels: bool = option(
        False, "Train on the labels of TARGET as well, as an upper bound to compare with.", panel=DATA
    )
    size: int | None = option(
        None,
        "Side of the images in pixels.",
        minimum=16,
        shown_default="that of the larger domain's images, at most 64, or 224 for networks of torchvision and timm; "
        "with --pretrained from 64 to what the model was trained on",
        panel=DATA,
    )
    gray: bool = option(False, "Convert color images to one gray channel.", panel=DATA)
    max_source: int | None = option(
        None, "Number of source images to use, drawn by the seed.", minimum=2, shown_default="all", panel=DATA
    )
    max_target: int | None = option(
        None, "Number of target images to use, drawn by the seed.", minimum=2, shown_default="all", panel=DATA
    )
    hold_out: float | None = option(
        None,
        "Fraction of SOURCE kept out of training, on which the table has the source model.",
        minimum=0,
        maximum=1,
        shown_default="none",
        panel=DATA,
    )
    model: str | None = option(
        None,
        "Network: lenet, lenet-bn, digits, cifarnet, or a network of torchvision or timm, from scratch; "
        "or the folder of a run, whose model is that of the source; with --pretrained a model or a run to start from.",
        completes="architecture",
        shown_default=f"{', '.join([Adaptation.model, *OTHER_MODELS])}; with --pretrained {PRETRAINED['model']}; "
        f"with --task segment {MASKS['model']}",
        panel=NETWORK,
    )
    pretrained: bool = option(False, "Start from the weights of --model, with a new last layer.", panel=NETWORK)
    weights: Path | None = option(
        None, "File of weights of --model to start from; implies --pretrained.", path="input", panel=NETWORK
    )
    seeds: int = option(1, "Number of runs, each with the next seed.", minimum=1, panel=TRAINING)
    keep: str = option(
        "best",
        "Model of the run folder: adapted, or best, which is the source model where the adapted one seems worse by the "
        "criterion of --select or by a collapse of its predictions.",
        choices=("best", "adapted"),
        panel=OUTPUT,
    )


@dataclass(frozen=True)
class AdaptationRun:
    """A finished run.

    folder: the run folder, which every function takes as `model`.  results: the table, as results.json has it: for
    "source_only", "adapted" and others the mean, standard deviation, 95 % interval and value of each seed; the test of
    the difference, figures per class, the class frequencies of both domains ("label_shift"), the choice among
    checkpoints, which model was "kept" and why, and the "guards", which are warnings. Of several methods "methods" has
    such a table for each, and "best" which of them seems best, by which criterion.
    """

    folder: Path
    results: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What `mlcli adapt --format json` prints."""
        return dict(self.results)


AllOptions = with_method_options(AdaptConfig)


@function(AllOptions)
def adapt(call: Call[AdaptConfig]) -> AdaptationRun:
    """Adapt a model from a labeled domain to an unlabeled one (unsupervised domain adaptation).

    source holds one folder of images per class, or images/ and masks/; target any folder of images. Labels of the
    target are never used, neither to train nor to choose; those of `test` are read for the final table alone. Methods
    are ADDA (Tzeng et al. 2017), DANN (Ganin et al. 2016), self-ensembling (French et al. 2018), adaptive batch norm
    (Li et al. 2016), CyCADA (Hoffman et al. 2018), SimGAN (Shrivastava et al. 2017), SeUDA (Chen et al. 2018) and SHOT
    (Liang et al. 2020). SHOT and adaptive batch norm do without the source where `model` is a model of it: then the
    target alone is given. The run folder holds the model of the first seed: the adapted one or, with keep="best", the
    source model where the adapted one seems worse. Beside it are a generator where the method has one, and each stage
    of each seed as a run folder of its own. Several methods, `method=["adda", "shot"]`, are compared in one table: each
    has a run folder inside this one, whose model is then that of the method which the criterion of `select` prefers.
    With `resume` an interrupted run continues to the same numbers, and a finished one is left as it is.

        >>> import mlcli
        >>> result = mlcli.adapt(  # doctest: +SKIP
        ...     "mnist/train", "usps/train", method="adda", test="usps/test", output="runs/usps"
        ... )
        >>> result.results["adapted"]["mean"] - result.results["source_only"]["mean"]  # doctest: +SKIP
        0.12

    Raises UsageError for options of another method and where the output folder holds something else, DataError for
    data that do not fit together, TrainingError where a loss becomes infinite.
    """
    from mlcli.api import adaptation_comparison, adaptation_data, run_reports, runs
    from mlcli.api.adaptation_run import MethodRun
    from mlcli.methods.adaptation import domain_checks
    from mlcli.models import pretrained

    if not call.config.method:
        raise UsageError(f"no method; name one of {', '.join(METHODS)}")
    processes, runtime, folder, options = runs.begin(call)
    methods = listed(options["method"])
    options["method"] = methods if len(methods) > 1 else methods[0]
    if call.config.resume and folder.exists():  # seeds that are there already stay in the table
        options["seeds"] = max(options["seeds"], folder.load_config()["options"]["seeds"])
    parts = [folder.part(name) for name in methods] if len(methods) > 1 else []
    if runs.finished(call, folder, options, processes, [each.results_file for each in (folder, *parts)]) is not None:
        results = folder.results()
        for words in results["guards"]:
            complain(words)
        return AdaptationRun(folder.folder, results)
    source_model = _source_model(options, methods)
    configs = {name: hyperparameters(options | {"method": name}, call.given, source_model, methods) for name in methods}
    first = configs[methods[0]]
    model = pretrained.known(first.model, first.weights) if first.pretrained and not source_model else None
    if learned := source_model or model:
        runtime = runtime.for_training_of(learned.network, options["precision"])
    data = adaptation_data.read(options, [*configs.values()], model, source_model, call.config)
    whole = MethodRun(folder, options, first, data, source_model, runtime, processes, call.config.save_every)
    of_methods = adaptation_comparison.divided(whole, configs) if parts else {methods[0]: whole}
    for run in of_methods.values():
        run.context(0).require_networks()
    if processes.main:
        began = {"model": {"count": 1, "hash": learned.hash}} if learned else {}
        hyper = {} if parts else asdict(first)
        runs.start(folder, "adapt", options | hyper, data.summary() | began, resume=call.config.resume)
    processes.wait()
    disagreements = domain_checks.disagreements(*data.native) if len(data.source) else []
    for words in disagreements:
        complain(words)
    with runs.interruptible(folder):
        if parts:
            results = adaptation_comparison.results(folder, of_methods, disagreements)
        else:
            results = whole.results(disagreements)
    for words in results["guards"][len(disagreements) :]:
        complain(words)
    if processes.main:
        run_reports.write(folder)  # also of a run that was killed between the two
    runs.finish(folder, options, processes)
    return AdaptationRun(folder.folder, results)


def _source_model(options: Mapping[str, Any], methods: Sequence[str]) -> "Model | None":
    """The model of the source, where the options name one; None where it is to be trained.

    Raises UsageError where there is neither such a model nor a source to train it on.
    """
    from mlcli.api.adaptation_data import folders
    from mlcli.models import registry

    name, source = options["model"], folders(options)[0]
    starts_from = options["pretrained"] or options["weights"]
    if source is not None and (starts_from or not name or not registry.is_of_run(name)):
        return None
    if source is None:
        if not all(METHODS[name].source_free for name in methods):
            able = " and ".join(f"--method {each}" for each, method in METHODS.items() if method.source_free)
            raise UsageError(f"TARGET is missing; the target alone, with the --model of the source, is for {able}")
        if not name:
            raise UsageError("TARGET is missing; or name the --model of the source, to adapt it without SOURCE")
        if options["hold_out"] is not None or options["max_source"] is not None:
            raise UsageError("--hold-out and --max-source are about SOURCE, which is missing")
        if options["select"] == "reverse":
            raise UsageError("--select reverse: tests on the images of SOURCE, which is missing")
    return registry.load(name, options["weights"])
