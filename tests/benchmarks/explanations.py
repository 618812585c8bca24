"""Explanations beside captum's, their speed and memory, how faithful they are, and a task whose answer is known.

    python -m tests.benchmarks.explanations equality [--models cifarnet efficientnet_lite0 resnet18]
    python -m tests.benchmarks.explanations speed [--models efficientnet_lite0] [--rounds 3] [--window 32] [--stride 16]
    python -m tests.benchmarks.explanations faithfulness PHOTOS [--count 20] [--methods grad-cam ...]
    python -m tests.benchmarks.explanations synthetic [--steps 300] [--count 40]
    python -m tests.benchmarks.explanations memory PHOTOS [--counts 10 200]

equality: the largest difference relative to the largest attribution of captum, on one sample photograph, the same
settings, fp32, and how far both are from captum in double precision. resnet18 has random weights. speed: pairs of ours
and captum's, alternating, in seconds of the clock and of the processor, medians; captum as it is by default but for the
window and stride of occlusion, and so are integrated gradients (50 points, with what is left of completeness beside
them). faithfulness: the table of `--evaluate`. synthetic: a small network learns which of three objects lies on an
unrelated background; the fraction of the positive attribution that is on the object, beside the object's fraction of
the area. memory: the most that a process held.
"""

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.data.sources import find_images
from mlcli.imaging import image_io
from mlcli.methods.explanation.attribution import importance
from mlcli.methods.explanation.configs import NAMES, Explaining
from mlcli.methods.explanation.layer_maps import last_layer
from mlcli.methods.explanation.registry import METHODS
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target, Targets
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime

PHOTO = Path("samples/photos/cat.jpg")
CPU = Runtime(torch.device("cpu"), "fp32")
OBJECTS, SIDE = ("red disk", "green square", "blue cross"), 32


class ReLU6(nn.ReLU):
    """For captum, which changes the gradients of modules that are ReLUs."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 6)


def opened(name: str) -> tuple[Model, nn.Module]:
    """(the model, a copy of its network as captum wants it: each ReLU a module, none in place)."""
    torch.manual_seed(0)
    model = registry.create(name, [str(n) for n in range(10)], 224) if name == "resnet18" else registry.load(name)
    model.network.eval()
    network = copy.deepcopy(model.network)
    for module in list(network.modules()):
        for child, inside in module.named_children():
            if isinstance(inside, nn.ReLU6):
                setattr(module, child, ReLU6())
            elif hasattr(inside, "inplace"):
                inside.inplace = False
    if name == "resnet18":  # a block uses one ReLU twice, which captum's hooks refuse
        network = _with_own_relus(network)
    return model.to(CPU), network


def _with_own_relus(network: nn.Module) -> nn.Module:
    from torchvision.models.resnet import BasicBlock

    for block in [module for module in network.modules() if isinstance(module, BasicBlock)]:
        block.second = nn.ReLU()

        def forward(x: Tensor, block: BasicBlock = block) -> Tensor:
            identity = x if block.downsample is None else block.downsample(x)
            out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
            return block.second(out + identity)

        block.forward = forward
    return network


def prepared(model: Model, path: Path = PHOTO) -> tuple[Tensor, Scorer, list[Target]]:
    """(the normalized photograph (1, C, H, W), the scorer and the target of the class that is predicted)."""
    image = model.normalized(model.preprocessing.prepare(image_io.read(path))[None])
    with torch.no_grad():
        (logits,) = model.network(image)
    targets = Targets(model, ["predicted"])
    return image, Scorer(model, targets.objectives, CPU, last_layer(model)), targets.of(logits)


def oracles(
    model: Model, network: nn.Module, image: Tensor, index: int, window: int, stride: int
) -> dict[str, Callable]:
    """What captum computes, by the name of the method."""
    from captum.attr import Deconvolution, GuidedBackprop, GuidedGradCam, IntegratedGradients, LayerGradCam, Occlusion

    black = model.normalized(torch.zeros_like(image))
    channels = image.shape[1]
    layer = network.get_submodule(last_layer(model).address.replace("relu_1", "second"))
    image = image.contiguous()
    return {
        "integrated-gradients": lambda: IntegratedGradients(network).attribute(image, black, target=index),
        "occlusion": lambda: Occlusion(network).attribute(
            image,
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            target=index,
        ),
        "deconvnet": lambda: Deconvolution(network).attribute(image.clone(), target=index),
        "guided-backprop": lambda: GuidedBackprop(network).attribute(image.clone(), target=index),
        "grad-cam": lambda: LayerGradCam(network, layer).attribute(image, target=index, relu_attributions=True)[:, 0],
        "guided-grad-cam": lambda: GuidedGradCam(network, layer).attribute(image.clone(), target=index),
    }


def equality(arguments: argparse.Namespace) -> None:
    for name in arguments.models:
        model, network = opened(name)
        image, scorer, targets = prepared(model)
        window = image.shape[2] // 4
        index = targets[0].index
        in_double = oracles(model, opened(name)[1].double(), image.double(), index, window, window)
        for method, oracle in oracles(model, network, image, index, window, window).items():
            config = Explaining(window=window, stride=window, path_steps=50)
            expected, exact = oracle()[0].detach(), in_double[method]()[0].detach()
            (found,) = METHODS[method].compute(scorer, image, targets, config)
            error = (found.values - expected).abs().max() / expected.abs().max()
            norm = (found.values - expected).norm() / expected.norm()
            ours, theirs = ((values - exact).abs().max() / exact.abs().max() for values in (found.values, expected))
            print(
                f"{name}, {method}: {error:.1e} at most, {norm:.1e} in the mean square; from captum in double "
                f"precision ours {ours:.1e}, captum's own {theirs:.1e}",
                flush=True,
            )


def speed(arguments: argparse.Namespace) -> None:
    for name in arguments.models:
        model, network = opened(name)
        image, scorer, targets = prepared(model)
        theirs = oracles(model, network, image, targets[0].index, arguments.window, arguments.stride)
        for method, config in (
            ("occlusion", Explaining(window=arguments.window, stride=arguments.stride)),
            ("integrated-gradients", Explaining(path_steps=50)),
            ("integrated-gradients", Explaining()),
        ):
            seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "captum": []}
            METHODS[method].compute(scorer, image, targets, config)  # traces the network
            for _ in range(arguments.rounds):
                for who, work in (
                    ("captum", theirs[method]),
                    ("ours", lambda: METHODS[method].compute(scorer, image, targets, config)),  # noqa: B023
                ):
                    clock, processor = time.perf_counter(), time.process_time()
                    found = work()
                    seconds[who].append((time.perf_counter() - clock, time.process_time() - processor))
            told = f"{name}, {method}" + (", refined" if "integrated" in method and not config.path_steps else "")
            for number, what in enumerate(("clock", "processor")):
                ours, other = (statistics.median(each[number] for each in seconds[who]) for who in ("ours", "captum"))
                ratio = statistics.median(
                    b[number] / a[number] for a, b in zip(seconds["ours"], seconds["captum"], strict=True)
                )
                print(f"{told}: {what} {ours:.2f} s, captum {other:.2f} s, {ratio:.2f} times", flush=True)
            if "completeness" in found[0].more:
                print(f"{told}: completeness {found[0].more['completeness']}", flush=True)


def faithfulness(arguments: argparse.Namespace) -> None:
    from mlcli.api.explain import explain
    from mlcli.commands.explain import _table

    paths = find_images(arguments.photos).paths
    chosen = [paths[index * len(paths) // arguments.count] for index in range(arguments.count)]
    with tempfile.TemporaryDirectory() as folder:
        result = explain(
            chosen, output=Path(folder) / "out", method=arguments.methods, masks=arguments.masks, evaluate=True
        )
        print(_table(result.evaluation))


def scene(number: int, label: int) -> tuple[Tensor, Tensor]:
    """((3, SIDE, SIDE) in [0, 1], where the object is (SIDE, SIDE)).

    A red disk, a green square or a blue cross lies anywhere on a background of other random shades.
    """
    random = torch.Generator().manual_seed(number)
    knots = 3 + int(torch.randint(6, (1,), generator=random))
    colored, gray = torch.rand(1, 3, knots, knots, generator=random), torch.rand(1, 1, knots, knots, generator=random)
    image = F.interpolate(0.4 * colored + 0.6 * gray, (SIDE, SIDE), mode="bicubic")[0]
    image = (image + 0.05 * torch.randn(3, SIDE, SIDE, generator=random)).clamp(0, 1)
    radius = 4 + int(torch.randint(3, (1,), generator=random))
    y, x = (torch.randint(radius, SIDE - radius, (2,), generator=random)).tolist()
    rows, columns = torch.arange(SIDE)[:, None] - y, torch.arange(SIDE) - x
    inside = [
        rows**2 + columns**2 <= radius**2,
        torch.maximum(rows.abs(), columns.abs()) <= 0.85 * radius,
        (torch.minimum(rows.abs(), columns.abs()) <= radius / 3) & (torch.maximum(rows.abs(), columns.abs()) <= radius),
    ][label]
    color = 0.3 * torch.rand(3, generator=random)
    color[label] += 0.6
    image[:, inside] = color[:, None]
    return image, inside


def convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def synthetic(arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        *convolution(3, 16, 1),
        *convolution(16, 32, 2),
        *convolution(32, 32, 1),
        *convolution(32, 64, 2),
        *convolution(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    preprocessing = Preprocessing(crop=SIDE, mean=(0.5,) * 3, std=(0.25,) * 3)
    model = Model("synthetic", network, OBJECTS, preprocessing, "synthetic")
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(arguments.steps):
        labels = [(step * 32 + i) % 3 for i in range(32)]
        images = torch.stack([scene(step * 32 + i, label)[0] for i, label in enumerate(labels)])
        loss = F.cross_entropy(network(model.normalized(images)), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    scenes = [scene(10**6 + number, number % 3) for number in range(arguments.count)]
    images = model.normalized(torch.stack([image for image, _ in scenes]))
    with torch.no_grad():
        logits = network(images)
    right = [number for number, row in enumerate(logits) if row.argmax() == number % 3]
    print(f"synthetic: {len(right)} of {len(scenes)} new scenes correct, explained below")
    targets = Targets(model, OBJECTS)
    scorer = Scorer(model, targets.objectives, CPU, last_layer(model))
    fixed = targets.of(None)
    area = statistics.mean(scenes[number][1].float().mean().item() for number in right)
    print(f"synthetic: the object is {area:.1%} of the area")
    for name, method in METHODS.items():
        found = method.compute(
            scorer,
            images[right],
            [fixed[number % 3] for number in right],
            Explaining(baseline="mean", window=4, stride=1, masks=arguments.masks),
        )
        shares = []
        for number, each in zip(right, found, strict=True):
            positive = importance(each.values, method.meaning, (SIDE, SIDE)).clamp_min(0)
            shares.append((positive[scenes[number][1]].sum() / positive.sum().clamp_min(1e-12)).item())
        print(
            f"synthetic, {name}: {statistics.mean(shares):.1%} of the positive attribution is on the object", flush=True
        )


def memory(arguments: argparse.Namespace) -> None:
    paths = find_images(arguments.photos).paths
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                Path(folder, "in").mkdir(exist_ok=True)
                Path(folder, "in", f"{number:05d}.jpg").symlink_to(Path(paths[number % len(paths)]).absolute())
            words = ["explain", f"{folder}/in", "--model", "cifarnet", "-o", f"{folder}/out", "--quiet"]
            subprocess.run([sys.executable, "-m", "mlcli.cli", *words], check=True)
            most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"memory, {count} images: {most:.0f} MB at most, of this and the counts before", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work, models in ((equality, ["cifarnet", "efficientnet_lite0", "resnet18"]), (speed, ["efficientnet_lite0"])):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("--models", nargs="+", default=models)
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--window", type=int, default=32, help="pixels, the side of the gray square")
        command.add_argument("--stride", type=int, default=16, help="pixels")
    command = commands.add_parser("faithfulness")
    command.set_defaults(work=faithfulness)
    command.add_argument("photos", nargs="+")
    command.add_argument("--count", type=int, default=20, help="photographs, evenly spaced")
    command.add_argument("--methods", nargs="+", default=list(NAMES))
    command.add_argument("--masks", type=int, default=1000, help="masks of RISE")
    command = commands.add_parser("synthetic")
    command.set_defaults(work=synthetic)
    command.add_argument("--steps", type=int, default=300)
    command.add_argument("--count", type=int, default=40, help="scenes")
    command.add_argument("--masks", type=int, default=1000, help="masks of RISE")
    command = commands.add_parser("memory")
    command.set_defaults(work=memory)
    command.add_argument("photos", nargs="+")
    command.add_argument("--counts", nargs="+", type=int, default=[10, 200])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    arguments.work(arguments)


if __name__ == "__main__":
    main()
