"""The README's chart: speed beside plain loops, and accuracy beside published figures, as RESULTS.md has them.

python -m tests.benchmarks.comparison_chart samples/gallery/comparison.png
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlcli.reporting.theme import COLORS, SERIES

RESULTS = Path(__file__).with_name("RESULTS.md")
INK, FAINT = COLORS["text"][0], COLORS["faint"][0]
OURS, FP32 = SERIES[0][0], SERIES[4][0]


@dataclass(frozen=True)
class Speed:
    """How many times as fast as a plain loop over the same network; of several figures that with the least beside it.

    row: words of the row in RESULTS.md.
    """

    name: str
    row: str
    auto: float
    fp32: float | None = None


@dataclass(frozen=True)
class Accuracy:
    """A figure in percent beside the published one. row: words of the row in RESULTS.md."""

    name: str
    row: str
    ours: float
    published: float


SPEEDS = (
    Speed("maximize, 64 channels of GoogLeNet", "64 channels of GoogLeNet's conv2", 18.6),
    Speed("train, a step of 1,000 images", "a training step of cifarnet", 3.45),
    Speed("classify, SqueezeNet 1.1", "SqueezeNet 1.1, 200 photographs", 3.13),
    Speed("classify, ResNet-50", "ResNet-50, 200 photographs", 2.51),
    Speed("stylize, VGG-19", "VGG-19 (random weights), 256 x 256", 2.02),
    Speed("pix2pix, a step at 256 x 256", "pix2pix, U-Net-256 and PatchGAN", 2.01, 1.47),
    Speed("cyclegan, a step at 256 x 256", "CycleGAN, two ResNet-9", 1.98, 1.09),
)
ACCURACIES = (
    Accuracy("ADDA, MNIST to USPS", "ADDA, 2,000 MNIST to 1,800 USPS", 93.3, 89.4),
    Accuracy("ADDA, USPS to MNIST", "ADDA, 1,800 USPS to 2,000 MNIST", 96.0, 90.1),
    Accuracy("CyCADA, MNIST to USPS", "CyCADA, MNIST to USPS, full sets", 96.1, 95.6),
    Accuracy("CyCADA, USPS to MNIST", "CyCADA, USPS to MNIST, full sets", 96.6, 96.5),
    Accuracy("Omniglot, five alphabets, 20-way one-shot", "Omniglot, minimal setting", 100 - 13.4, 100 - 23),
    Accuracy("cifarnet on CIFAR-10", "accuracy of the embedded network, 10,000 test images", 91.91, 94.0),
)


def draw() -> Figure:
    """The chart; matplotlib's figure of 10 by 3.6 inches."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    speed, accuracy = figure.subplots(1, 2)
    draw_speeds(speed)
    draw_accuracies(accuracy)
    for axes in (speed, accuracy):
        axes.tick_params(colors=INK, labelsize=9, length=0)
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    return figure


def draw_speeds(axes: Axes) -> None:
    """A bar for each entry, on a logarithmic axis; the line at 1 is the plain loop."""
    for row, each in enumerate(reversed(SPEEDS)):
        axes.barh(row, each.auto - 1, left=1, height=0.6, color=OURS, label="--precision auto" if row == 0 else None)
        if each.fp32:
            label = "--precision fp32" if row == 0 else None
            axes.barh(row, each.fp32 - 1, left=1, height=0.25, color=FP32, label=label)
        axes.text(each.auto * 1.04, row, f"{each.auto:.3g} ×", va="center", fontsize=9, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(1, 32)
    axes.set_xticks([], minor=True)
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.axvline(1, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(SPEEDS)), [each.name for each in reversed(SPEEDS)])
    axes.set_title("Times as fast as a plain PyTorch loop, two cores with bfloat16", loc="left", fontsize=10, color=INK)
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def draw_accuracies(axes: Axes) -> None:
    """Two dots for each entry, and a line between them."""
    for row, each in enumerate(reversed(ACCURACIES)):
        axes.plot([each.published, each.ours], [row, row], color=COLORS["line"][0], linewidth=3, zorder=1)
        axes.scatter(each.published, row, s=42, color=SERIES[1][0], zorder=2, label="published" if row == 0 else None)
        axes.scatter(each.ours, row, s=42, color=OURS, zorder=3, label="mlcli" if row == 0 else None)
        right = each.ours > each.published
        axes.text(
            each.ours + (0.9 if right else -0.9),
            row,
            f"{each.ours:.1f}",
            va="center",
            ha="left" if right else "right",
            fontsize=9,
            color=INK,
        )
    axes.set_xlim(75, 101)
    axes.set_xticks(range(75, 101, 5), [f"{tick} %" for tick in range(75, 101, 5)])
    axes.set_yticks(range(len(ACCURACIES)), [each.name for each in reversed(ACCURACIES)])
    axes.set_title("Accuracy, of mlcli and published", loc="left", fontsize=10, color=INK)
    axes.legend(loc="upper left", fontsize=8, frameon=False)


if __name__ == "__main__":
    draw().savefig(sys.argv[1], dpi=120)
