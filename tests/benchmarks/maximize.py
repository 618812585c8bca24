"""The figures of `mlcli maximize`, each by a subcommand.

    python tests/benchmarks/maximize.py classes
    python tests/benchmarks/maximize.py channels cifar10/test [--every 8]
    python tests/benchmarks/maximize.py interpolation
    python tests/benchmarks/maximize.py diversity
    python tests/benchmarks/maximize.py speed [--rounds 3]

classes: the picture of each class, written by the command, read back and classified by `mlcli classify`.
channels: the strongest answer, over all places, of each channel of conv3 to conv5 to its own picture (8 bits, the
objective is the channel) and to 2,000 test pictures, a fifth of each class.
interpolation: objectives a and b of each frame. diversity: Gram-matrix cosine and objective of four pictures, with and
without the term. Both by the finished pictures of 8 bits, without transforms.
speed: channels a minute of GoogLeNet's conv2 (random weights), 128 px, 64 steps, against Lucent's recipe written
plainly: one channel at a time, resized to 224, the whole network run, in fp32; alternating, the plain loop for two
channels.
Each takes --model (default cifarnet) but speed.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from mlcli.engine import models
from mlcli.engine.features import Activations
from mlcli.engine.folders import ClassFolder
from mlcli.engine.picture_set import PictureSet
from mlcli.engine.runtime import Runtime
from mlcli.methods import maximization
from mlcli.methods.expressions import parse
from mlcli.methods.objectives import Batch, interpolation
from mlcli.methods.recipes import Maximization


def mlcli(*words: str) -> str:
    command = [sys.executable, "-m", "mlcli.cli", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def classes(arguments) -> None:
    names = models.load(arguments.model).classes
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            mlcli("maximize", f"logit:'{name}'", "--model", arguments.model, "-o", f"{folder}/{name}.png", "-q")
        answers = json.loads(mlcli("classify", folder, "--model", arguments.model, "--format", "json", "-q"))
    right = 0
    for answer in answers:
        best, name = answer["predictions"][0], Path(answer["image"]).stem
        right += best["label"] == name and best["probability"] >= 0.99
        print(f"{name}: {best['label']} {best['probability']:.5f}")
    print(f"{right} of {len(names)} are of their class with a probability of at least 0.99")


def open_model(name: str) -> tuple[models.Model, Runtime]:
    runtime = Runtime.choose()
    return models.load(name).to(runtime), runtime


@torch.inference_mode()
def answers(model, address: str, pictures: torch.Tensor, runtime: Runtime) -> torch.Tensor:
    """(N, units, places) of pictures (N, C, H, W) uint8."""
    activations = Activations(model, [address])
    with runtime.autocast():
        return torch.cat([activations(part)[address].flatten(2).float() for part in pictures.split(250)])


def channels(arguments) -> None:
    model, runtime = open_model(arguments.model)
    folder = ClassFolder.open(arguments.data, model.classes)
    data = PictureSet.load(folder.paths[::5], size=model.preprocessing.crop).pixels
    for address in arguments.layers:
        began = time.perf_counter()
        objectives = parse(f"{address}:all", model)[:: arguments.every]
        units = torch.tensor([objective.terms[0][1].unit for objective in objectives])
        made = maximization.maximise(model, objectives, Maximization(), runtime).pictures
        own = answers(model, address, made, runtime)[torch.arange(len(units)), units]
        known = answers(model, address, data, runtime)[:, units]
        ratio, mean = own.amax(1) / known.amax((0, 2)), own.mean(1) / known.mean(2).amax(0)
        print(
            f"{address}: the own picture is stronger for {(ratio > 1).sum()} of {len(units)} channels "
            f"({(ratio > 1).float().mean():.1%}), median {ratio.median():.2f} times, least {ratio.min():.2f}; "
            f"by the mean over places for {(mean > 1).float().mean():.1%}, median {mean.median():.2f} times; "
            f"{len(data)} pictures; {time.perf_counter() - began:.0f} s; channels that fail: "
            f"{units[ratio <= 1].tolist()}",
            flush=True,
        )


def interpolations(arguments) -> None:
    model, runtime = open_model(arguments.model)
    for pair in arguments.pairs:
        a, b = (parse(text, model)[0] for text in pair.split())
        objectives = interpolation(a, b, arguments.frames)
        made = maximization.maximise(
            model, objectives, Maximization(), runtime, group=arguments.frames, aligned=True
        ).pictures
        rows = []
        for objective in (a, b):
            batch = Batch([objective] * len(made), [0] * len(made), runtime.device)
            rows.append(maximization.values(Activations(model, batch.addresses), batch, made, runtime.device))
        falls = all(x >= y for x, y in zip(rows[0], rows[0][1:], strict=False)) and rows[0][0] > rows[0][-1]
        rises = all(x <= y for x, y in zip(rows[1], rows[1][1:], strict=False)) and rows[1][0] < rows[1][-1]
        different = len({tuple(pair) for pair in zip(*rows, strict=True)})
        print(
            f"{pair}: a never rises {falls}, b never falls {rises}, {different} of {len(made)} frames differ",
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
        made = maximization.maximise(model, objectives, Maximization(), runtime, group=4).pictures
        plain = Batch([unit for unit in units for _ in range(4)], [0] * 4 * len(units), runtime.device)
        values = maximization.values(Activations(model, plain.addresses), plain, made, runtime.device)
        cosines = maximization.values(Activations(model, batch.addresses), batch, made, runtime.device)
        found[kind] = [[statistics.mean(row[i : i + 4]) for i in range(0, len(row), 4)] for row in (values, cosines)]
    for index, unit in enumerate(units):
        (v0, v1), (c0, c1) = ([found[kind][row][index] for kind in ("without", "with")] for row in (0, 1))
        print(f"{unit}: cosine {c0:.3f} to {c1:.3f}, objective {v0:.2f} to {v1:.2f} ({v1 / v0 - 1:+.1%})")
    (v0, v1), (c0, c1) = ([statistics.mean(found[kind][row]) for kind in ("without", "with")] for row in (0, 1))
    print(f"mean of {len(units)} units, weight {weight}: cosine {c0:.3f} to {c1:.3f}, objective {v1 / v0 - 1:+.1%}")


def plain(network: torch.nn.Module, channel: int, steps: int, size: int = 128) -> None:
    """Lucent's recipe for one channel: Fourier image, pad, jitter, scale, rotate, jitter, resize to 224, forward."""
    height = width = size
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    scale = (1 / frequency.clamp_min(1 / size))[..., None]
    spectrum = (0.01 * torch.randn(1, 3, height, width // 2 + 1, 2)).requires_grad_()
    colours = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    colours = colours / colours.norm(dim=0).max()
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    caught = {}
    hook = network.conv2.register_forward_hook(lambda module, inputs, output: caught.update(value=output))
    optimizer = torch.optim.Adam([spectrum], lr=0.05)

    def jitter(image, pixels):
        y, x = torch.randint(0, pixels, (2,)).tolist()
        return image[:, :, y : image.shape[2] - pixels + y, x : image.shape[3] - pixels + x]

    for _ in range(steps):
        image = torch.fft.irfftn(torch.view_as_complex(spectrum * scale), (height, width), norm="ortho") / 4
        image = torch.sigmoid(torch.einsum("cd,ndhw->nchw", colours, image))
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
    ours = models.load("googlenet", untrained=True).to(runtime)
    network = models.load("googlenet", untrained=True).network
    objectives = parse("conv2.relu:all", ours)
    recipe = Maximization(steps=arguments.steps)
    rates = []
    for _ in range(arguments.rounds):
        began = time.perf_counter()
        maximization.maximise(ours, objectives, recipe, runtime, size=128)
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
        sub.add_argument("--model", default="cifarnet")
        return sub

    kind("classes", classes)
    sub = kind("channels", channels)
    sub.add_argument("data", help="a labelled folder of pictures, such as cifar10/test")
    sub.add_argument("--layers", nargs="+", default=["conv3", "conv4", "conv5"])
    sub.add_argument("--every", type=int, default=1)
    sub = kind("interpolation", interpolations)
    pairs = ["logit:cat logit:automobile", "logit:horse logit:ship", "conv5:1 conv5:9", "conv4:3 conv4:40"]
    sub.add_argument("--pairs", nargs="+", default=[*pairs, "conv3:5 conv3:77", "conv4:12 conv5:7"])
    sub.add_argument("--frames", type=int, default=7)
    sub = kind("diversity", diversities)
    sub.add_argument("--layer", default="conv4")
    sub.add_argument("--weight", type=float, default=1)
    sub.add_argument("--every", type=int, default=48)
    sub = kind("speed", speed)
    sub.add_argument("--rounds", type=int, default=3)
    sub.add_argument("--steps", type=int, default=64)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
