"""The figures of `mlcli maximize`, each by a subcommand.

    python tests/benchmarks/maximize.py classes [--model cifarnet] [--other MODEL] [--keep FOLDER]
    python tests/benchmarks/maximize.py channels photos [--every conv2=12 ...]
    python tests/benchmarks/maximize.py channels cifar10/test --model cifarnet --layers conv3 conv4 conv5
    python tests/benchmarks/maximize.py interpolation [--pairs "logit:a logit:b"]
    python tests/benchmarks/maximize.py diversity
    python tests/benchmarks/maximize.py dream samples/photos [--keep FOLDER]
    python tests/benchmarks/maximize.py maco [--names tiger zebra] [--keep FOLDER]
    python tests/benchmarks/maximize.py inversion IMAGES [--layers conv1 conv3] [--keep FOLDER]
    python tests/benchmarks/maximize.py speed [--rounds 3]

classes: the image of each class, written by the command with its defaults, read back and classified by `mlcli classify`
with the model that it was made for, and with another one that did not make it. Of a model of ImageNet's classes twenty:
TEN, and MORE, which were chosen before any image of theirs was seen. --size, as of the command.
channels: the strongest answer, over all positions and before a rectifier, of each channel of conv2 to conv5 to its own
image (8 bits, the objective is the channel) and to up to 2,000 images of a folder. --every: of a layer, one in so many
channels, the first being 0.
interpolation: objectives a and b of each frame. diversity: Gram-matrix cosine and objective of four images, with and
without the term. Both by the finished images of 8 bits, without transforms.
dream: how far `maximize LAYER --init FILE` changes images, in levels of 255, and their correlation with the originals.
maco: the logit and the probability of each class in the images of `--param fourier` and `--param maco`, both with their
defaults, by the finished images of 8 bits.
inversion: the PSNR of what is left of each image at each layer, and the squared distance at the layer.
speed: channels a minute of GoogLeNet's conv2 (random weights), 128 px, 64 steps, against Lucent's config written
plainly: one channel at a time, resized to 224, the whole network run, in fp32; alternating, the plain loop for two
channels.
Each takes --model but speed.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F

from mlcli.data.sources import find_images
from mlcli.imaging import image_io
from mlcli.imaging.decoding import decode
from mlcli.methods.visualization import activation_maximization
from mlcli.methods.visualization.configs import Maximization
from mlcli.methods.visualization.configs import maximization as suited
from mlcli.methods.visualization.objective_parser import parse
from mlcli.methods.visualization.objectives import Batch, interpolation
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure.features import SIGNED, Activations
from mlcli.runtime.device import Runtime

TEN = ("castle", "daisy", "goldfish", "pirate", "sports car", "strawberry", "tiger", "violin", "volcano", "zebra")
MORE = (
    "African elephant", "balloon", "broccoli", "flamingo", "grand piano", "ladybug", "monarch", "peacock", "school bus",
    "steam locomotive",
)  # fmt: skip
IMAGES = 2000
OF_CIFARNET = ("logit:cat logit:automobile", "logit:horse logit:ship")
OF_IMAGENET = ("logit:tiger logit:zebra", "logit:castle logit:volcano")
PAIRS = ("conv5:1 conv5:9", "conv4:3 conv4:40", "conv3:5 conv3:77", "conv4:12 conv5:7")


def mlcli(*words: str) -> str:
    command = [sys.executable, "-m", "mlcli.cli", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def classes(arguments) -> None:
    model = registry.load(arguments.model)
    names = arguments.names or (model.classes if len(model.classes) < 100 else (*TEN, *MORE))
    own = ["--model", arguments.model]
    with tempfile.TemporaryDirectory() as folder:
        folder = arguments.keep or folder
        for name in names:
            began = time.perf_counter()
            size = ["--size", str(arguments.size)] if arguments.size else []
            mlcli("maximize", f"logit:{name}", *own, *size, "-o", f"{folder}/{name}.png", "--overwrite", "-q")
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        paths = [f"{folder}/{name}.png" for name in names]
        ranks(paths, names, arguments.model)
        if arguments.other:
            ranks(paths, names, arguments.other)


def ranks(paths: list[str], names: list[str], model: str) -> None:
    """Print what the command `classify` says of the image of each class."""
    answers = json.loads(mlcli("classify", *paths, "--model", model, "--top-k", "5", "--format", "json", "-q"))
    labels = [[each["label"] for each in answer["predictions"]] for answer in answers]
    best = [answer["predictions"][0]["probability"] for answer in answers]
    for name, found, probability in zip(names, labels, best, strict=True):
        print(f"{model}, {name}: {found[0]} {probability:.5f}" + ("" if found[0] == name else f", then {found[1:]}"))
    first = [found[0] == name for name, found in zip(names, labels, strict=True)]
    sure = sum(right and p >= 0.99 for right, p in zip(first, best, strict=True))
    five = sum(name in found for name, found in zip(names, labels, strict=True))
    print(f"{model}: of {len(names)} images {sure} are of their class with a probability of at least 0.99, "
          f"{sum(first)} first, {five} among the first five", flush=True)  # fmt: skip


def open_model(name: str) -> tuple[Model, Runtime]:
    runtime = Runtime.choose()
    model = registry.load(name).to(runtime)
    return model, activation_maximization.with_fastest_precision(runtime, model)


def made(model: Model, objectives, runtime: Runtime, **options) -> torch.Tensor:
    """The images, (N, C, H, W) uint8, by the hyperparameters that the command takes for these objectives by default."""
    config = suited(model.preprocessing.crop, field=activation_maximization.receptive_field(objectives))
    return activation_maximization.maximize(model, objectives, config, runtime, **options).images


@torch.inference_mode()
def answers(model, address: str, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(greatest, mean) over the positions, each (N, units), of images (N, C, H, W) uint8, before a rectifier."""
    activations = Activations(model, [address + SIGNED])
    maps = [activations(part)[address + SIGNED].flatten(2).float() for part in images.split(50)]
    greatest = torch.cat([part.amax(2) for part in maps])
    return greatest, torch.cat([part.clamp_min(0).mean(2) for part in maps])


def channels(arguments) -> None:
    model, runtime = open_model(arguments.model)
    every = {layer: int(number) for layer, number in (pair.split("=") for pair in arguments.every)}
    paths = find_images([arguments.data]).paths
    paths = paths[:: max(1, len(paths) // IMAGES)]
    data = torch.stack([image_io.to_bytes(p) for _, p in sorted(decode(paths, model.preprocessing.prepare))])
    for address in arguments.layers:
        began = time.perf_counter()
        objectives = parse(f"{address}:all", model)[:: every.get(address, 1)]
        units = torch.tensor([objective.terms[0][1].unit for objective in objectives])
        own_images = made(model, objectives, runtime)
        own, own_mean = (each[torch.arange(len(units)), units] for each in answers(model, address, own_images))
        peaks = [[each[:, units].amax(0) for each in answers(model, address, part)] for part in data.split(50)]
        known, known_mean = (torch.stack(each).amax(0) for each in zip(*peaks, strict=True))
        ratio, mean = own / known, own_mean / known_mean
        above = own > known
        print(
            f"{address}: the own image is stronger for {above.sum()} of {len(units)} channels "
            f"({above.float().mean():.1%}), median {ratio.median():.2f} times; by the mean over positions for "
            f"{(mean > 1).float().mean():.1%}, median {mean.median():.2f} times; {len(data)} images; one in "
            f"{every.get(address, 1)} channels; {time.perf_counter() - began:.0f} s; channels that fail: "
            f"{units[~above].tolist()}",
            flush=True,
        )


def interpolations(arguments) -> None:
    model, runtime = open_model(arguments.model)
    ours = OF_CIFARNET if arguments.model == "cifarnet" else OF_IMAGENET
    for pair in arguments.pairs or (*ours, *PAIRS):
        a, b = (parse(text, model)[0] for text in pair.split())
        objectives = interpolation(a, b, arguments.frames)
        frames = made(model, objectives, runtime, group=arguments.frames, aligned=True)
        rows = []
        for objective in (a, b):
            batch = Batch([objective] * len(frames), [0] * len(frames), runtime.device)
            rows.append(
                activation_maximization.values(Activations(model, batch.addresses), batch, frames, runtime.device)
            )
        falls = all(x >= y for x, y in zip(rows[0], rows[0][1:], strict=False)) and rows[0][0] > rows[0][-1]
        rises = all(x <= y for x, y in zip(rows[1], rows[1][1:], strict=False)) and rows[1][0] < rows[1][-1]
        different = len({tuple(pair) for pair in zip(*rows, strict=True)})
        print(
            f"{pair}: a never rises {falls}, b never falls {rises}, {different} of {len(frames)} frames differ",
            *([round(v, 2) for v in row] for row in rows),
            flush=True,
        )


def diversities(arguments) -> None:
    model, runtime = open_model(arguments.model)
    layer, weight = arguments.layer, arguments.weight
    units = parse(f"{layer}:all", model)[:: arguments.every]
    batch = Batch(parse(f"diversity({layer})", model) * 4 * len(units), [i // 4 for i in range(4 * len(units))], "cpu")
    found = {}
    for kind, term in (("without", ""), ("with", f" - {weight}*diversity({layer})")):
        objectives = [parse(f"{unit}{term}", model)[0] for unit in units for _ in range(4)]
        fours = made(model, objectives, runtime, group=4)
        plain = Batch([unit for unit in units for _ in range(4)], [0] * 4 * len(units), runtime.device)
        values = activation_maximization.values(Activations(model, plain.addresses), plain, fours, runtime.device)
        cosines = activation_maximization.values(Activations(model, batch.addresses), batch, fours, runtime.device)
        found[kind] = [[statistics.mean(row[i : i + 4]) for i in range(0, len(row), 4)] for row in (values, cosines)]
    for index, unit in enumerate(units):
        (v0, v1), (c0, c1) = ([found[kind][row][index] for kind in ("without", "with")] for row in (0, 1))
        print(f"{unit}: cosine {c0:.3f} to {c1:.3f}, objective {v0:.2f} to {v1:.2f} ({v1 / v0 - 1:+.1%})")
    (v0, v1), (c0, c1) = ([statistics.mean(found[kind][row]) for kind in ("without", "with")] for row in (0, 1))
    print(f"mean of {len(units)} units, weight {weight}: cosine {c0:.3f} to {c1:.3f}, objective {v1 / v0 - 1:+.1%}")


def dream(arguments) -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = arguments.keep or folder
        for path in find_images([arguments.data]).paths:
            began, target = time.perf_counter(), Path(folder) / f"{path.stem}.png"
            mlcli("maximize", arguments.layer, "--model", arguments.model, "--init", str(path), "-o", str(target),
                  "--overwrite", "-q")  # fmt: skip
            seconds = time.perf_counter() - began
            made = image_io.read(target)
            before, after = (
                image_io.to_unit(i) for i in (image_io.fit(image_io.read(path), 256), image_io.fit(made, 256))
            )
            change = 255 * (after - before).abs().mean()
            like = torch.corrcoef(torch.stack([before.mean(0).flatten(), after.mean(0).flatten()]))[0, 1]
            print(f"{path.name}: {change:.1f} levels, correlation {like:.2f}, {seconds:.0f} s", flush=True)


def phases(arguments) -> None:
    model = registry.load(arguments.model)
    names = arguments.names or (model.classes if len(model.classes) < 100 else TEN)
    logits: dict[str, list[float]] = {"fourier": [], "maco": []}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            told = []
            for param, found in logits.items():
                began, target = time.perf_counter(), Path(arguments.keep or folder) / f"{name}-{param}.png"
                mlcli("maximize", f"logit:{name}", "--model", arguments.model, "--param", param, "-o", str(target),
                      "--overwrite", "-q")  # fmt: skip
                (made,) = json.loads(target.with_name(target.name + ".json").read_text())["images"]
                found.append(made["value"])
                told.append(f"{param} {made['value']:.1f}, {made['class']} {made['probability']:.3f}, "
                            f"{time.perf_counter() - began:.0f} s")  # fmt: skip
            print(f"{name}: {'; '.join(told)}", flush=True)
    for param, found in logits.items():
        print(f"{param}: mean logit {statistics.mean(found):.1f}, {min(found):.1f} to {max(found):.1f}")


def inversion(arguments) -> None:
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in find_images([arguments.data]).paths:
            target = Path(arguments.keep or folder) / f"{path.stem}.png"
            mlcli("maximize", "--invert", str(path), "--layer", ",".join(arguments.layers), "--model", arguments.model,
                  "-o", str(target), "--overwrite", "-q")  # fmt: skip
            layers = json.loads(target.with_name(target.name + ".json").read_text())["layers"]
            for layer in layers:
                ratios.setdefault(layer["layer"], []).append(layer["psnr"])
            told = (f"{layer['layer']} {layer['psnr']:.1f} dB ({layer['error']:.4f})" for layer in layers)
            print(f"{path.name}: {', '.join(told)}", flush=True)
    falling = sum(all(a > b for a, b in pairwise(row)) for row in zip(*ratios.values(), strict=True))
    means = ", ".join(f"{layer} {statistics.mean(found):.1f}" for layer, found in ratios.items())
    print(f"mean: {means}; falling along the layers for {falling} of {len(next(iter(ratios.values())))}")


def plain(network: torch.nn.Module, channel: int, steps: int, size: int = 128) -> None:
    """Lucent's config for one channel: Fourier image, pad, jitter, scale, rotate, jitter, resize to 224, forward."""
    height = width = size
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    scale = (1 / frequency.clamp_min(1 / size))[..., None]
    spectrum = (0.01 * torch.randn(1, 3, height, width // 2 + 1, 2)).requires_grad_()
    colors = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    colors = colors / colors.norm(dim=0).max()
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    caught = {}
    hook = network.conv2.register_forward_hook(lambda module, inputs, output: caught.update(value=output))
    optimizer = torch.optim.Adam([spectrum], lr=0.05)

    def jitter(image, pixels):
        y, x = torch.randint(0, pixels, (2,)).tolist()
        return image[:, :, y : image.shape[2] - pixels + y, x : image.shape[3] - pixels + x]

    for _ in range(steps):
        image = torch.fft.irfftn(torch.view_as_complex(spectrum * scale), (height, width), norm="ortho") / 4
        image = torch.sigmoid(torch.einsum("cd,ndhw->nchw", colors, image))
        image = jitter(F.pad(image, [12] * 4, mode="constant", value=0.5), 8)
        factor = 1 + (torch.randint(0, 11, ()).item() - 5) / 50
        image = F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)
        angle = math.radians(torch.randint(-10, 11, ()).item())
        turn = torch.tensor([[[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]])
        image = F.grid_sample(image, F.affine_grid(turn, list(image.shape), align_corners=False), align_corners=False)
        image = F.interpolate(jitter(image, 4), (224, 224), mode="bilinear", align_corners=False)
        network((image - mean) / std)
        optimizer.zero_grad()
        (-caught["value"][:, channel].mean()).backward()
        optimizer.step()
    hook.remove()


def speed(arguments) -> None:
    runtime = Runtime.choose("cpu")
    torch.manual_seed(0)
    ours = registry.load("googlenet", untrained=True).to(runtime)
    network = registry.load("googlenet", untrained=True).network
    objectives = parse("conv2.relu:all", ours)
    config = Maximization(steps=arguments.steps, octaves=1)
    rates = []
    for _ in range(arguments.rounds):
        began = time.perf_counter()
        activation_maximization.maximize(ours, objectives, config, runtime, size=128)
        middle = time.perf_counter()
        for channel in range(2):
            plain(network, channel, arguments.steps)
        ended = time.perf_counter()
        rates.append((len(objectives) / (middle - began) * 60, 2 / (ended - middle) * 60))
        print(f"ours {rates[-1][0]:.1f}, plain {rates[-1][1]:.1f} channels a minute", flush=True)
    print(f"ratio {statistics.median(a / b for a, b in rates):.1f}, median of {len(rates)}, {runtime.precision}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)

    def kind(name: str, function) -> argparse.ArgumentParser:
        sub = kinds.add_parser(name)
        sub.set_defaults(function=function)
        sub.add_argument("--model", default="efficientnet_lite0")
        return sub

    sub = kind("classes", classes)
    sub.add_argument("--names", nargs="+")
    sub.add_argument("--other", help="a model that did not make the images, such as efficientnet_lite2")
    sub.add_argument("--size", type=int)
    sub.add_argument("--keep", help="a folder for the images")
    sub = kind("channels", channels)
    sub.add_argument("data", help="a folder of images")
    sub.add_argument("--layers", nargs="+", default=["conv2", "conv3", "conv4", "conv5"])
    sub.add_argument("--every", nargs="+", default=[], metavar="LAYER=N")
    sub = kind("interpolation", interpolations)
    sub.add_argument("--pairs", nargs="+")
    sub.add_argument("--frames", type=int, default=7)
    sub = kind("diversity", diversities)
    sub.add_argument("--layer", default="conv4")
    sub.add_argument("--weight", type=float, default=1)
    sub.add_argument("--every", type=int, default=48)
    sub = kind("dream", dream)
    sub.add_argument("data", help="a folder of photographs")
    sub.add_argument("--layer", default="conv4")
    sub.add_argument("--keep", help="a folder for the images")
    sub = kind("maco", phases)
    sub.add_argument("--names", nargs="+")
    sub.add_argument("--keep", help="a folder for the images")
    sub = kind("inversion", inversion)
    sub.add_argument("data", help="a folder of images, or an image")
    sub.add_argument("--layers", nargs="+", default=["conv1", "conv2", "conv3", "conv4", "conv5"])
    sub.add_argument("--keep", help="a folder for the images")
    sub = kind("speed", speed)
    sub.add_argument("--rounds", type=int, default=3)
    sub.add_argument("--steps", type=int, default=64)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
