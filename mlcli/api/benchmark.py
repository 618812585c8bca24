"""`mlcli.benchmark`: how fast a model is, by the library that computes it and by precision."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress
from mlcli.api.inputs import Readable, evenly, files_named
from mlcli.errors import DataError, MlcliError
from mlcli.options import COMPUTING, METHOD, argument, option, same

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.methods.evaluation.engine_speed import Candidate
    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime

INT8 = "int8"
ENGINES = tuple(name for name in common.ENGINES if name not in ("auto", "compile"))


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(common.ReadsImages):
    model: str = argument(
        "Model to measure: a name (see `mlcli models`), or the folder of a run.",
        metavar="MODEL",
        cli_type=str,
        completes="model",
    )
    images: common.Paths | None = argument(
        "Images to compare predictions on and to calibrate 8-bit integers: files, folders, or - for paths on stdin.",
        metavar="[IMAGES]...",
        cli_type=list[str] | None,
        default=None,
    )
    weights: Any = same(common.UsesModel, "weights")
    device: str = same(common.Computes, "device")
    engines: tuple[str, ...] = option(
        ENGINES,
        "Engine to measure; give it again for several.",
        "--engine",
        choices=common.ENGINES[1:],
        cli_type=list[str],
        panel=COMPUTING,
    )
    sample: int = option(100, "Largest number of IMAGES to use, evenly spaced.", minimum=1, panel=METHOD)
    rounds: int = option(5, "Number of rounds; the median over them is given.", minimum=1, panel=METHOD)
    seconds: float = option(0.5, "Seconds of each measurement.", minimum=0, panel=METHOD)
    least_agreement: float = option(
        0.98,
        "Smallest agreement with the first class of fp32 at which an engine and precision are recommended.",
        minimum=0,
        maximum=1,
        panel=METHOD,
    )
    batch_size: int = common.batch_size(32)


@dataclass(frozen=True)
class Benchmark:
    """How fast a model is.

    candidates: what was measured, or why it was not.  take: the fastest of those that agree with torch in fp32.
    images: number of images that the predictions were compared on; 0 where random inputs were.
    """

    model: "Model"
    device: str
    batch_size: int
    candidates: "tuple[Candidate, ...]"
    take: "Candidate"
    images: int
    failures: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `mlcli benchmark --format json` prints."""
        base = self.candidates[0].rate
        return {
            "model": self.model.name,
            "device": self.device,
            "batch_size": self.batch_size,
            "images": self.images,
            "take": {"engine": self.take.engine, "precision": self.take.precision},
            "measured": [_entry(candidate, base) for candidate in self.candidates],
        }


def _entry(candidate: "Candidate", base: float) -> dict[str, Any]:
    named = {"engine": candidate.engine, "precision": candidate.precision}
    if candidate.error:
        return {**named, "error": candidate.error}
    return {
        **named,
        "images_per_second": candidate.rate,
        "ratio": candidate.rate / base,
        "slowest": min(candidate.rates),
        "fastest": max(candidate.rates),
        "preparation_seconds": candidate.seconds,
        "same_first_class": candidate.same,
        "largest_difference": candidate.difference,
    }


@function(BenchmarkConfig)
def benchmark(call: Call[BenchmarkConfig]) -> Benchmark:
    """Measure the images a second of a model by engine and precision, without reading and decoding of images.

    Precisions are fp32, bf16 where the hardware has it, and 8-bit integers where there are images to calibrate on. The
    measurements alternate, so that what else the machine does meets all alike.

        >>> import mlcli
        >>> result = mlcli.benchmark("efficientnet_lite0", "photos")  # doctest: +SKIP
        >>> result.take.engine  # doctest: +SKIP
        'openvino'

    Raises UsageError for an unknown model or engine, DataError where none of the images can be read.
    """
    import torch

    from mlcli.methods.evaluation import engine_speed
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime

    config = call.config
    runtime = Runtime.choose(config.device, "fp32")
    model = registry.load(config.model, config.weights).to(runtime)
    model.require_classes()
    images, failures = _images(config, model)
    candidates = list(_candidates(config, model, runtime, images))
    size = model.preprocessing.crop
    given = torch.randn(config.batch_size, model.preprocessing.channels, size, size) if images is None else images
    given = given.to(runtime.device).contiguous(memory_format=runtime.memory_format)
    batch = given[torch.arange(config.batch_size) % len(given)]
    with Progress(config.rounds * sum(not each.error for each in candidates), "measure") as bar:
        engine_speed.measure(candidates, batch, rounds=config.rounds, least_seconds=config.seconds, done=bar.to)
    engine_speed.compare(candidates, given, config.batch_size)
    return Benchmark(
        model,
        str(runtime.device),
        config.batch_size,
        tuple(candidates),
        engine_speed.fastest(candidates, config.least_agreement),
        0 if images is None else len(images),
        failures,
    )


def _images(config: BenchmarkConfig, model: "Model") -> "tuple[Tensor | None, int]":
    """(normalized images (N, C, H, W), None where none are given; how many cannot be read)."""
    import torch

    if not config.images:
        return None, 0
    paths = evenly(files_named(config.images), config.sample, "IMAGES")
    with Progress(len(paths), "read") as bar:
        readable = Readable(paths, model.preprocessing.prepare, bar, window=32, workers=config.workers)
        found = [model.preprocessing.normalize(image[None]) for _, image in readable]
    if not found:
        raise DataError("none of the images can be read")
    return torch.cat(found), readable.failures


def _candidates(
    config: BenchmarkConfig, model: "Model", runtime: "Runtime", images: "Tensor | None"
) -> "Iterator[Candidate]":
    """Every engine in every precision, prepared; torch in fp32, unchanged, comes first."""
    from dataclasses import replace

    from mlcli.methods.evaluation.engine_speed import Candidate
    from mlcli.models.model import logits
    from mlcli.runtime.device import native_bf16

    precisions = ["fp32"] + (["bf16"] if native_bf16(runtime.device) else [])
    yield Candidate("torch, unchanged", "fp32", lambda batch: logits(model.network(batch)))
    for engine in dict.fromkeys(config.engines):
        for precision in precisions:
            if engine == "onnxruntime" and precision != "fp32":
                continue
            prepare = _preparing(model, replace(runtime, precision=precision), engine)
            yield _prepared(Candidate(engine, precision), prepare)
    if images is not None and runtime.device.type == "cpu":
        yield from _quantized(config, model, images)


def _prepared(candidate: "Candidate", prepare: "Callable[[], Callable[[Tensor], Tensor]]") -> "Candidate":
    began = time.perf_counter()
    try:
        candidate.compute = prepare()
    except MlcliError as error:
        candidate.error = str(error)
    candidate.seconds = time.perf_counter() - began
    return candidate


def _preparing(model: "Model", runtime: "Runtime", engine: str) -> "Callable[[], Callable[[Tensor], Tensor]]":
    """What prepares an engine, anew: nothing is taken from the cache, so that the time is that of a first use."""
    import torch

    from mlcli.models.engines import choice

    size = model.preprocessing.crop
    example = torch.zeros(2, model.preprocessing.channels, size, size)

    def prepare() -> "Callable[[Tensor], Tensor]":
        taken = choice.chosen(engine, runtime, choice.ENOUGH)
        network = choice.prepared(model.network, example, runtime, taken, None, choice.ENOUGH)

        def compute(images: "Tensor") -> "Tensor":
            with runtime.autocast():
                return network(images)

        return compute

    return prepare


def _quantized(config: BenchmarkConfig, model: "Model", images: "Tensor") -> "Iterator[Candidate]":
    """The engines that compute 8-bit integers, calibrated on the images."""
    from mlcli.methods.evaluation.engine_speed import Candidate
    from mlcli.models.exports import model_subjects, onnx_file, openvino_file
    from mlcli.runtime import optional_packages

    content: list[bytes] = []

    def encoded() -> bytes:
        if not content:
            from mlcli.models.exports.quantization import quantized, weight_bits_here

            optional_packages.require("onnx", INT8)
            plain = onnx_file.encoded_subject(model_subjects.of_classifier(model))
            content.append(quantized(plain, list(images[:, None]), weight_bits_here()))
        return content[0]

    def by_openvino() -> "Callable[[Tensor], Tensor]":
        optional_packages.require("openvino", "--engine openvino")
        run = openvino_file.OpenVinoRunner(encoded())
        return lambda batch: run(batch)[0]

    def by_onnxruntime() -> "Callable[[Tensor], Tensor]":
        run = onnx_file.OnnxRunner(encoded())
        return lambda batch: run(batch)[0]

    for engine, prepare in (("openvino", by_openvino), ("onnxruntime", by_onnxruntime)):
        if engine in config.engines:
            yield _prepared(Candidate(engine, INT8), prepare)
