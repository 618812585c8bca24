"""Style transfer against a plain baseline: time, final loss, tiled gradient, peak memory.

    python tests/benchmarks/stylize.py speed            # VGG-19 with random weights, 256 x 256, alternately
    python tests/benchmarks/stylize.py tiles            # tiled against untiled gradient at 512 x 512, fp32
    python tests/benchmarks/stylize.py memory           # peak of the command at 4096 x 4096 on cifarnet

The baseline is the tutorial's method: fp32, contiguous tensors, losses as modules between the layers of the network,
Gram matrices by torch.mm, autograd for all. Both minimize the very same loss by Adam from the same start.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mlcli.imaging import image_io
from mlcli.methods.painting import configs, style_transfer
from mlcli.methods.painting.style_losses import Objective, Style
from mlcli.models import registry
from mlcli.runtime.device import Runtime

PHOTOS = Path(__file__).parents[2] / "samples" / "photos"


def image(name: str, side: int) -> Tensor:
    """(3, side, side) in [0, 1]: the middle of a sample, enlarged where need be."""
    return style_transfer.covering(image_io.to_unit(image_io.read(PHOTOS / name)), (side, side))


class ContentLoss(nn.Module):
    def __init__(self, target: Tensor):
        super().__init__()
        self.target = target.detach()

    def forward(self, x: Tensor) -> Tensor:
        self.loss = (x - self.target).square().sum() / self.target.square().sum()
        return x


class StyleLoss(nn.Module):
    def __init__(self, target: Tensor):
        super().__init__()
        self.target = self.gram(target).detach()

    @staticmethod
    def gram(x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        values = x.reshape(channels, height * width)
        return torch.mm(values, values.t()) / (height * width)

    def forward(self, x: Tensor) -> Tensor:
        self.loss = (self.gram(x) - self.target).square().sum() / self.target.square().sum()
        return x


class Baseline:
    """One step at a time, as a reader of the tutorial writes it."""

    def __init__(self, network: nn.Module, normalize, content: Tensor, style: Tensor, config):
        self.normalize, self.config = normalize, config
        content_layers = {int(name.split(".")[1]) for name, _ in config.content_layers}
        style_layers = {int(name.split(".")[1]) for name, _ in config.style_layers}
        self.network, self.content, self.style = nn.Sequential(), [], []
        for index, layer in enumerate(network.features):
            if isinstance(layer, nn.ReLU):
                layer = nn.ReLU(inplace=False)
            if index == 0:
                layer.padding_mode = "replicate"
            self.network.append(layer)
            if index in content_layers:
                self.content.append(ContentLoss(self.network(normalize(content[None]))))
                self.network.append(self.content[-1])
            if index in style_layers:
                self.style.append(StyleLoss(self.network(normalize(style[None]))))
                self.network.append(self.style[-1])
            if index == max(content_layers | style_layers):
                break
        self.image = content.clone()[None].requires_grad_()
        self.optimizer = torch.optim.Adam([self.image], lr=config.lr, betas=style_transfer.BETAS)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.network(self.normalize(self.image))
        x = self.image
        variation = (x[..., 1:, :] - x[..., :-1, :]).square().sum() + (x[..., 1:] - x[..., :-1]).square().sum()
        content = sum(module.loss for module in self.content) / len(self.content)
        style = sum(module.loss for module in self.style) / len(self.style)
        loss = self.config.alpha * content + (1 - self.config.alpha) * style + self.config.tv * variation / x.numel()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.image.clamp_(0, 1)


def speed(arguments) -> None:
    side, steps = arguments.side, arguments.steps
    config = replace(configs.stylize("vgg19"), scales=(side,), steps=(steps,), averaging=0.0, alpha=arguments.alpha)
    content, style = image("astronaut.jpg", side), image("hubble.jpg", side)
    torch.manual_seed(arguments.seed)
    model = registry.load("vgg19", untrained=True)
    torch.manual_seed(arguments.seed)
    plain = registry.load("vgg19", untrained=True)
    runtime = Runtime.choose()
    extractor = style_transfer.open_layers(model.to(runtime), config, runtime)
    work = style_transfer.Stylization(extractor, content, [Style(style)], config)
    ours = work.steps()
    baseline = Baseline(plain.network, plain.preprocessing.normalize, content, style, config)
    theirs, own = [], []
    for step in range(steps):
        began = time.perf_counter()
        baseline.step()
        middle = time.perf_counter()
        next(ours)
        if step:  # the first step of each allocates, and ours computes its targets in it
            theirs.append(middle - began)
            own.append(time.perf_counter() - middle)
    stylized = work.image.detach()
    loss_of = objective(plain, "fp32", config, content, Style(style))
    losses = [loss_of(x)[0].total for x in (content, baseline.image.detach()[0], stylized)]
    ratios = sorted(a / b for a, b in zip(theirs, own, strict=True))
    print(f"{runtime.precision}, {torch.get_num_threads()} threads, {side} x {side}, {steps} steps")
    print(
        f"baseline {median(theirs):.3f} s a step, ours {median(own):.3f} s; ratio of pairs: median {median(ratios):.2f}"
    )
    print(f"loss in fp32: start {losses[0]:.5f}, baseline {losses[1]:.5f}, ours {losses[2]:.5f} ", end="")
    print(f"({losses[2] / losses[1] - 1:+.2%})")


def objective(model, precision: str, config, content: Tensor, style: Style) -> Objective:
    runtime = Runtime.choose("auto", precision)
    extractor = style_transfer.open_layers(model.to(runtime), config, runtime)
    return Objective(
        extractor.perception,
        content,
        [style],
        content_layers=extractor.content_layers,
        style_layers=extractor.style_layers,
        alpha=config.alpha,
        tv=config.tv,
        style_loss=config.style_loss,
    )


def tiles(arguments) -> None:
    content, style = image("astronaut.jpg", 512), image("hubble.jpg", 512)
    noise = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(arguments.seed))
    for name in ("cifarnet", "vgg19"):
        torch.manual_seed(arguments.seed)
        model = registry.load(name, untrained=True)
        for style_loss in ("gram", "gaussian"):
            found = []
            for tile in (512, 128):
                config = replace(configs.stylize(name), tile=tile, style_loss=style_loss)
                found.append(objective(model, "fp32", config, content, Style(style))((content + noise) / 2))
            (whole, gradient), (tiled, other) = found
            distance = ((gradient - other).norm() / gradient.norm()).item()
            worst = ((gradient - other).abs().max() / gradient.abs().max()).item()
            print(
                f"{name} {style_loss}: loss {whole.total:.6f} and {tiled.total:.6f}, gradients apart by "
                f"{distance:.1e} (norm), {worst:.1e} (largest)",
                flush=True,
            )


def memory(arguments) -> None:
    """The command itself, two steps and a state saved between them."""
    side = arguments.side
    with tempfile.TemporaryDirectory() as folder:
        content, target = Path(folder) / "content.jpg", Path(folder) / "out.jpg"
        image_io.write(image("astronaut.jpg", side), content)
        command = [
            sys.executable,
            "-m",
            "mlcli.cli",
            "stylize",
            content,
            "--style",
            PHOTOS / "hubble.jpg",
            "-o",
            target,
        ]
        command += ["--scales", str(side), "--steps", "2", "--save-every", "0"]
        subprocess.run(command, check=True)
        seconds = json.loads((Path(folder) / "out.jpg.json").read_text())["seconds"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"cifarnet, {side} x {side}, 2 steps in {seconds:.0f} s: peak {peak:.2f} GB")


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "tiles", "memory"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--side", type=int, default=None)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.side = arguments.side or {"speed": 256, "tiles": 512, "memory": 4096}[arguments.what]
    {"speed": speed, "tiles": tiles, "memory": memory}[arguments.what](arguments)


if __name__ == "__main__":
    main()
