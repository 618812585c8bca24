"""Engines, 8-bit integers and exports: speed by the network's computation alone, accuracy, and agreement with torch.

    python tests/benchmarks/engines.py compute PHOTOS [--models efficientnet_lite0 resnet50] [--count 64] [--rounds 5]
    python tests/benchmarks/engines.py accuracy PHOTOS [--models efficientnet_lite0]
    python tests/benchmarks/engines.py exports PHOTOS [--count 20]

PHOTOS is a folder of photographs whose names begin with the WordNet id of their class. compute: images a second by
engine and precision, alternately, as `mlcli benchmark` measures them. accuracy: top-1 accuracy in torch fp32, OpenVINO
fp32, and 8-bit integers calibrated on every fifth photograph and tested on the others. exports: 14 kinds of model as
ONNX files, compared with torch on photographs. Weights that are not on this disk are random; the time does not depend
on them.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch

import mlcli
from mlcli.data.sources import find_images
from mlcli.methods.evaluation.classification import probabilities
from mlcli.models import registry
from mlcli.models.engines import choice
from mlcli.models.exports import exporting
from mlcli.models.exports.model_subjects import of_classifier
from mlcli.runtime.device import Runtime
from tests import exportable
from tests.benchmarks.throughput import place_weights

CPU = Runtime.choose("cpu", "fp32")
RANDOM = ("squeezenet1_1", "resnet50", "mobilenet_v3_small", "googlenet")  # of torchvision, in the exports
TIMM = ("timm/convnext_atto", "timm/vit_tiny_patch16_224")


def compute(given: argparse.Namespace) -> None:
    for name in given.models:
        if name in RANDOM:
            place_weights(name)
        result = mlcli.benchmark(
            name, given.photos, sample=given.count, rounds=given.rounds, seconds=1.0, least_agreement=0.0
        ).as_json()
        for entry in result["measured"]:
            if "error" in entry:
                print(name, entry["engine"], entry["precision"], entry["error"])
            else:
                print(
                    f"{name} {entry['engine']} {entry['precision']}: {entry['images_per_second']:.1f}/s "
                    f"({entry['slowest']:.1f} to {entry['fastest']:.1f}), ratio {entry['ratio']:.2f}, prepared in "
                    f"{entry['preparation_seconds']:.1f} s, same class {entry['same_first_class']:.1%}, difference "
                    f"{entry['largest_difference']:.1e}",
                    flush=True,
                )


def accuracy(given: argparse.Namespace) -> None:
    paths = [path for path in find_images([given.photos]).paths if path.name.startswith("n")]
    calibrating, testing = paths[::5], [path for number, path in enumerate(paths) if number % 5]
    for name in given.models:
        model = registry.load(name)
        true = torch.tensor([model.wnids.index(path.name.split("_")[0]) for path in testing])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "int8.onnx"
            subject = of_classifier(model)
            assert subject.read is not None
            images = [subject.read(path)[None] for path in calibrating]
            exporting.export(subject, file, calibrate=images, check=images[:1], least_agreement=0.0)
            candidates = {
                "torch": model,
                "openvino": choice.accelerated(model, CPU, "openvino", len(testing)),
                "int8": registry.load(str(file), runs_on=CPU),
            }
            rows = {
                kind: torch.stack([row for _, row in probabilities(each, testing, CPU)])
                for kind, each in candidates.items()
            }
        for kind, found in rows.items():
            print(
                f"{name} {kind}: accuracy {(found.argmax(1) == true).double().mean():.2%} of {len(testing)}, first "
                f"class of torch {(found.argmax(1) == rows['torch'].argmax(1)).double().mean():.2%}, difference "
                f"{(found - rows['torch']).abs().max():.1e}",
                flush=True,
            )


def exports(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, models = Path(folder), ["efficientnet_lite0", "cifarnet", *RANDOM]
        for name in RANDOM:
            place_weights(name)
        options = {"check": given.photos, "sample": given.count}
        for name in models:
            told(name, mlcli.export(name, output=root / f"{name}.onnx", **options))
        for name in TIMM:
            torch.manual_seed(0)
            model = registry.as_pretrained(name, name)
            subject = of_classifier(model)
            assert subject.read is not None
            paths = find_images([given.photos]).paths[: given.count]
            images = [subject.read(path)[None] for path in paths]
            result = exporting.export(subject, root / "timm.onnx", check=images)
            print(name, result.agreement.as_json(), flush=True)
        for kind in exportable.KINDS:
            run = str(exportable.write(root / kind, kind))
            takes = options if "gan" not in kind.split() and kind != "label maps" else {}
            way = {"direction": "AtoB"} if kind in ("pix2pix", "cyclegan", "label maps") else {}
            told(kind, mlcli.export(run, output=root / f"{kind}.onnx", **takes, **way))


def told(name: str, result: object) -> None:
    print(name, dict(result.agreement), flush=True)  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("compute", "accuracy", "exports"))
    parser.add_argument("photos")
    parser.add_argument("--models", nargs="+", default=["efficientnet_lite0"])
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["TORCH_HOME"] = home
        {"compute": compute, "accuracy": accuracy, "exports": exports}[given.what](given)


if __name__ == "__main__":
    main()
