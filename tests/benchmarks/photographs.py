"""Classification of photographs by `mlcli classify` beside timm's own evaluation of the same weights.

    python tests/benchmarks/photographs.py PHOTOS [--precision fp32]

PHOTOS: a folder of photographs whose file names begin with the WordNet id of their class (n01440764_tench.jpg).
Reports top-1 and top-5 accuracy of the command, those of timm's transforms and network in fp32, and on how many images
the two predict the same class first; the images on which they differ are named with the probabilities of both.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import timm
import torch
from PIL import Image

from mlcli.methods.evaluation.classification import wilson
from mlcli.models import registry


def of_command(folder: Path, model: str, precision: str) -> dict[str, list[tuple[str, float]]]:
    """file: (wnid, probability) of the best five classes, as the command prints them."""
    command = [
        sys.executable,
        "-m",
        "mlcli.cli",
        "classify",
        str(folder),
        "--format",
        "json",
        "--quiet",
        "--model",
        model,
    ]
    command += ["--precision", precision] if precision else []
    answers = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {a["image"]: [(p["wnid"], p["probability"]) for p in a["predictions"]] for a in answers}


@torch.inference_mode()
def of_timm(files: list[str], name: str) -> dict[str, list[tuple[str, float]]]:
    """The same by timm's own transforms, one image at a time in fp32."""
    model = registry.load(name)
    network = timm.create_model(f"tf_{name}").eval()
    network.load_state_dict(model.network.state_dict())
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    found = {}
    for file in files:
        image = Image.open(file).convert("RGB")
        best = network(transform(image)[None])[0].softmax(0).topk(5)
        found[file] = [(model.wnids[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
    return found


def report(title: str, answers: dict[str, list[tuple[str, float]]]) -> None:
    count = len(answers)
    for top in (1, 5):
        correct = sum(Path(file).name[:9] in [wnid for wnid, _ in best[:top]] for file, best in answers.items())
        low, high = wilson(correct, count)
        print(f"{title}: top-{top} {correct / count:.2%} ({low:.2%} to {high:.2%}), {correct} of {count}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--precision", default="")
    parser.add_argument("--model", default="efficientnet_lite0", help="efficientnet_lite0, 1 or 2")
    arguments = parser.parse_args()
    command = of_command(arguments.photos, arguments.model, arguments.precision)
    report("mlcli classify", command)
    other = of_timm(list(command), arguments.model)
    report("timm", other)
    differing = [file for file in command if command[file][0][0] != other[file][0][0]]
    print(f"the same first class on {len(command) - len(differing)} of {len(command)}")
    for file in differing:
        print(f"  {Path(file).name}: mlcli {command[file][:2]}, timm {other[file][:2]}")
    gaps = [abs(command[file][0][1] - dict(other[file]).get(command[file][0][0], 0)) for file in command]
    print(f"probability of the first class differs by at most {max(gaps):.4f}")


if __name__ == "__main__":
    main()
