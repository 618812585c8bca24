"""Images a second from files to classes: `classify` against a plain OpenVINO loop and a plain timm loop.

    python tests/benchmarks/end_to_end.py PHOTOS [--models efficientnet_lite0 squeezenet1_1 resnet50] [--rounds 3]

The plain OpenVINO loop is what its documentation and torchvision's together give: Pillow and torchvision's transforms
in two threads ahead of the network, batches of 32, bf16 where the processor has it. The timm loop is that of its
script for inference: its own reading of images and loader with two processes, its own transform, torch in fp32. All
are timed after their network is ready, alternately, each time in a process of its own, over the same photographs; then
decoding alone, and computing alone. Weights that are not on this disk are random; the time does not depend on them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openvino
import timm.data
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from mlcli.data.sources import find_images
from mlcli.imaging.decoding import decode
from mlcli.methods.evaluation.classification import predict, probabilities
from mlcli.models import registry
from mlcli.models.engines import choice
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime, keep_memory
from tests.benchmarks.engines import RANDOM
from tests.benchmarks.throughput import place_weights

BATCH = 32
MANY = 500  # images, for which `auto` takes OpenVINO where it is installed


def preprocessing_of(model: Model) -> v2.Compose:
    """torchvision's transforms, from an image of Pillow."""
    how = model.preprocessing
    interpolation = v2.InterpolationMode(how.interpolation)
    return v2.Compose(
        [
            v2.Resize(how.resize, interpolation),
            v2.CenterCrop(how.crop),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(how.mean, how.std),
        ]
    )


def openvino_loop(name: str, paths: list[Path]) -> Callable[[], list[int]]:
    """The network converted by OpenVINO's own function, behind a pool of threads."""
    model = registry.load(name)
    size = model.preprocessing.crop
    converted = openvino.convert_model(model.network, example_input=torch.zeros(1, 3, size, size))
    hint = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[Runtime.choose("cpu", "auto").precision]}
    compiled = openvino.Core().compile_model(converted, "CPU", hint)
    transform = preprocessing_of(model)

    def prepared(path: Path) -> Tensor:
        with Image.open(path) as image:
            return transform(image.convert("RGB"))

    def run() -> list[int]:
        rows: list[int] = []
        with ThreadPoolExecutor(2) as pool:
            images = pool.map(prepared, paths)
            for start in range(0, len(paths), BATCH):
                batch = torch.stack([next(images) for _ in paths[start : start + BATCH]])
                rows += compiled(batch.numpy())[0].argmax(1).tolist()
        return rows

    return run


def timm_loop(name: str, paths: list[Path]) -> Callable[[], list[int]]:
    """timm's dataset and loader, and torch. It reads the folder that the paths are in."""
    model = registry.load(name)
    how = model.preprocessing
    loader = timm.data.create_loader(
        timm.data.ImageDataset(str(paths[0].parent)),
        input_size=(3, how.crop, how.crop),
        batch_size=BATCH,
        use_prefetcher=False,
        interpolation=how.interpolation,
        mean=how.mean,
        std=how.std,
        crop_pct=how.crop / (how.resize or how.crop),
        num_workers=2,
        device=torch.device("cpu"),
    )

    def run() -> list[int]:
        with torch.inference_mode():
            return [row for images, _ in loader for row in model.network(images).argmax(1).tolist()]

    return run


def accelerated(name: str) -> tuple[Model, Runtime, str]:
    """The model as `classify` takes it for many images, and the engine that it takes."""
    runtime = Runtime.choose("cpu", "auto")
    engine = choice.chosen("auto", runtime, MANY)
    return choice.accelerated(registry.load(name).to(runtime), runtime, engine, MANY), runtime, engine


def ours(name: str, paths: list[Path]) -> Callable[[], list[int]]:
    """What `classify` computes, after it has opened the model."""
    keep_memory()  # as the command does
    model, runtime, _ = accelerated(name)
    return lambda: [int(row.argmax()) for _, row in probabilities(model, paths, runtime) if isinstance(row, Tensor)]


def decoding(name: str, paths: list[Path]) -> Callable[[], list[int]]:
    keep_memory()
    how = registry.load(name).preprocessing
    return lambda: [index for index, _ in decode(paths, how.prepare, read=how.read)]


def computing(name: str, paths: list[Path]) -> Callable[[], list[int]]:
    keep_memory()
    model, runtime, _ = accelerated(name)
    images = torch.zeros(BATCH, 3, model.preprocessing.crop, model.preprocessing.crop, dtype=torch.uint8)
    return lambda: [
        row for _ in range(0, len(paths), BATCH) for row in predict(model, images, runtime).argmax(1).tolist()
    ]


KINDS = {
    "ours": ours,
    "openvino": openvino_loop,
    "timm": timm_loop,
    "decoding": decoding,
    "computing": computing,
}


def measured(kind: str, name: str, paths: list[Path]) -> tuple[float, list[int]]:
    """(images a second, what is given for each image)."""
    run = KINDS[kind](name, paths)
    run()
    began = time.perf_counter()
    given = run()
    return len(given) / (time.perf_counter() - began), given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--models", nargs="+", default=["efficientnet_lite0", "squeezenet1_1", "resnet50"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=tuple(KINDS), help="measure one kind in this process")
    arguments = parser.parse_args()
    if arguments.kind:
        print(json.dumps(measured(arguments.kind, arguments.models[0], find_images([arguments.photos]).paths)))
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["TORCH_HOME"] = home
        for name in arguments.models:
            if name in RANDOM:
                place_weights(name)
            rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
            classes: dict[str, list[int]] = {}
            for _ in range(arguments.rounds):
                for kind in KINDS:
                    command = [sys.executable, "-m", "tests.benchmarks.end_to_end", str(arguments.photos)]
                    done = subprocess.run(
                        [*command, "--kind", kind, "--models", name], stdout=subprocess.PIPE, text=True, check=True
                    )
                    rate, classes[kind] = json.loads(done.stdout)
                    rates[kind].append(rate)
            same = sum(a == b for a, b in zip(classes["ours"], classes["openvino"], strict=True))
            told = [f"{kind} {statistics.median(values):.1f}/s" for kind, values in rates.items()]
            for kind in ("openvino", "timm"):
                ratios = [a / b for a, b in zip(rates["ours"], rates[kind], strict=True)]
                told.append(f"{statistics.median(ratios):.2f} times {kind} ({min(ratios):.2f} to {max(ratios):.2f})")
            _, runtime, engine = accelerated(name)
            print(f"{name}, {engine}, {runtime.precision}:", *told, f"same class as openvino {same}", flush=True)


if __name__ == "__main__":
    main()
