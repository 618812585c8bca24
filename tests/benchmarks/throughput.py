"""Images a second of `classify` against the plain loop of torchvision's documentation, alternately in one run.

    python tests/benchmarks/throughput.py PHOTOS [--models squeezenet1_1 resnet50] [--count 200] [--rounds 3]

PHOTOS is a folder of photographs. Weights are random, put where torchvision's download would have put them (in a
temporary TORCH_HOME), so nothing is fetched; the time does not depend on their values. Also compared: the
probabilities under --precision fp32, and the peak memory of a process that classifies 1 and 4 times the images.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from torchvision.io import ImageReadMode, decode_image

from mlcli.data.sources import find_images
from mlcli.methods.evaluation.classification import probabilities
from mlcli.models import registry
from mlcli.models.sources.torchvision_models import weights_path
from mlcli.runtime.device import Runtime


def place_weights(name: str) -> None:
    """Random weights where torchvision's download would have put them."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics of a trained network are not 0 and 1
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    file = weights_path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)


def plain(name: str, paths: list[Path]) -> list[torch.Tensor]:
    """The example in torchvision's documentation of its models, in a loop; fp32, one image at a time."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    network = torchvision.models.get_model(name, weights=None)
    network.load_state_dict(torch.load(weights_path(name), weights_only=True))
    network.eval()
    preprocess = weights.transforms()
    results = []
    with torch.inference_mode():
        for path in paths:
            image = decode_image(str(path), mode=ImageReadMode.RGB)
            batch = preprocess(image).unsqueeze(0)
            results.append(network(batch).squeeze(0).softmax(0))
    return results


def ours(name: str, paths: list[Path], precision: str) -> list[torch.Tensor]:
    runtime = Runtime.choose("cpu", precision)
    return [row for _, row in probabilities(registry.load(name).to(runtime), paths, runtime)]


def peak_memory(name: str, folder: str, times: int) -> float:
    """GB of a process that classifies the folder so many times over."""
    script = (
        "import sys\nfrom mlcli.cli import main\n"
        f"sys.argv = ['mlcli', 'classify', '-', '--model', {name!r}, '--format', 'csv', '-q']\nmain()"
    )
    with tempfile.TemporaryDirectory() as links:
        names = []
        for number in range(times):
            link = Path(links) / str(number)
            link.symlink_to(os.path.abspath(folder))
            names += [str(link / path.name) for path in find_images([folder]).paths]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        subprocess.run([sys.executable, "-c", script], input="\n".join(names).encode(), stdout=subprocess.DEVNULL)
    return max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--models", nargs="+", default=["squeezenet1_1", "resnet50"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure the peak memory as well")
    arguments = parser.parse_args()
    paths = find_images([arguments.photos]).paths[: arguments.count]
    with tempfile.TemporaryDirectory() as home:
        os.environ["TORCH_HOME"] = home
        for name in arguments.models:
            place_weights(name)
            rates: dict[str, list[float]] = {"plain": [], "auto": [], "fp32": []}
            for _ in range(arguments.rounds):
                for kind, rate in rates.items():
                    began = time.perf_counter()
                    result = plain(name, paths) if kind == "plain" else ours(name, paths, kind)
                    rate.append(len(paths) / (time.perf_counter() - began))
                    if kind == "plain":
                        expected = torch.stack(result)
                    elif kind == "fp32":
                        difference = (torch.stack(result) - expected).abs().max().item()
            ratios = {
                kind: statistics.median(a / b for a, b in zip(rates[kind], rates["plain"], strict=True))
                for kind in ("auto", "fp32")
            }
            print(
                name,
                *(f"{kind} {statistics.median(rate):.1f}/s" for kind, rate in rates.items()),
                *(f"{kind}/plain {ratio:.2f}" for kind, ratio in ratios.items()),
                f"fp32 probabilities differ by at most {difference:.1e}",
                flush=True,
            )
            if arguments.memory:
                one, four = (peak_memory(name, arguments.photos, times) for times in (1, 4))
                print(f"{name} peak memory {one:.2f} GB for the folder, {four:.2f} GB for four times the folder")


if __name__ == "__main__":
    main()
