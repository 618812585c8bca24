"""What a published config of 94.0 % on the original CIFAR-10 files reaches on a copy of them.

    python tests/benchmarks/reference_training.py cifar10/train cifar10/test [--epochs 9.9] [--seed 0]

airbench94 (Jordan 2024, arXiv 2404.00498), its last form without the compiler, written from the paper, in bf16 by
autocast: whitened 2 x 2 convolution, three blocks of 64, 256 and 256, partial identities at the start, Nesterov SGD
with norm biases 64 times as fast, lookahead, shifts by up to 2 px, every image flipped in every other epoch.
Printed: accuracy of one view, of it and its flipped copy, and of the six views by which the paper measures 94.0 %.
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

from mlcli.data.folders import ClassFolder
from mlcli.data.image_dataset import ImageDataset
from mlcli.runtime.device import Runtime

MEAN, DEVIATION = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
BATCH, MOMENTUM, BIAS_SCALE, SHIFT = 1024, 0.85, 64.0, 2
SCALE = 1024 * (
    1 + 1 / (1 - MOMENTUM)
)  # the paper's learning rates are for a loss summed over the batch, momentum aside
LR, DECAY = 11.5 / SCALE, 0.0153 * BATCH / SCALE


def norm(channels):
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


def convolution(inputs, outputs):
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


def block(inputs, outputs):
    first, second = convolution(inputs, outputs), convolution(outputs, outputs)
    return nn.Sequential(first, nn.MaxPool2d(2), norm(outputs), nn.GELU(), second, norm(outputs), nn.GELU())


class Network(nn.Module):
    def __init__(self, images):
        """images: (N, 3, 32, 32) whose patches are whitened."""
        super().__init__()
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).transpose(1, 3).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        axes = (vectors / (values + 5e-4).sqrt()).T.reshape(-1, 3, 2, 2).flip(0)
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight = nn.Parameter(torch.cat([axes, -axes]), requires_grad=False)
        nn.init.zeros_(self.whiten.bias)
        self.blocks = nn.Sequential(block(24, 64), block(64, 256), block(256, 256))
        self.head = nn.Linear(256, 10, bias=False)

    def forward(self, x, learn_whitened_bias=True):
        bias = self.whiten.bias if learn_whitened_bias else self.whiten.bias.detach()
        x = self.blocks(F.gelu(F.conv2d(x, self.whiten.weight, bias)))
        return self.head(F.max_pool2d(x, 3).flatten(1)) / 9


def crops(padded, rows, columns):
    """(N, 3, 32, 32) of padded images (N, 3, H, W), each from its own corner (N,), (N,)."""
    side = torch.arange(32)
    rows, columns = (rows[:, None] + side)[:, None, :, None], (columns[:, None] + side)[:, None, None, :]
    return padded[torch.arange(len(padded))[:, None, None, None], torch.arange(3)[:, None, None], rows, columns]


def train(images, labels, epochs, runtime):
    network = Network(images[:5000]).to(memory_format=runtime.memory_format)
    biases = [p for name, p in network.named_parameters() if name.endswith("bias") and "whiten" not in name]
    others = [p for p in network.parameters() if p.requires_grad and all(p is not bias for bias in biases)]
    groups = [
        {"params": biases, "lr": LR * BIAS_SCALE, "weight_decay": DECAY / (LR * BIAS_SCALE)},
        {"params": others, "lr": LR, "weight_decay": DECAY / LR},
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    each = len(images) // BATCH
    steps = math.ceil(each * epochs)
    rise = int(0.23 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: 0.2 + 0.8 * i / rise if i < rise else 1 - 0.93 * (i - rise) / (steps - rise)
    )
    slow = {name: value.clone() for name, value in network.state_dict().items() if value.is_floating_point()}

    def look_ahead(decay):
        for name, value in network.state_dict().items():
            if name in slow:
                value.copy_(slow[name].lerp_(value, 1 - decay))

    padded = F.pad(images, (SHIFT,) * 4, "reflect")
    flipped = torch.rand(len(images)) < 0.5
    began = time.perf_counter()
    for step in range(steps):
        epoch, index = divmod(step, each)
        if index == 0:
            order = torch.randperm(len(images))
        chosen = order[index * BATCH : (index + 1) * BATCH]
        x = crops(padded[chosen], *torch.randint(0, 2 * SHIFT + 1, (2, len(chosen))))
        x = torch.where((flipped[chosen] ^ (epoch % 2 == 1))[:, None, None, None], x.flip(3), x)
        with runtime.autocast():
            scores = network(x.contiguous(memory_format=runtime.memory_format), epoch < 3)
        loss = F.cross_entropy(scores.float(), labels[chosen], label_smoothing=0.2, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 5 == 0:
            look_ahead(0.95**5 * ((step + 1) / steps) ** 3)
        if (step + 1) % 40 == 0:
            print(f"{step + 1} of {steps}, {time.perf_counter() - began:.0f} s", flush=True)
    look_ahead(1.0)
    return network.eval()


@torch.inference_mode()
def measure(network, images, labels, runtime):
    def scores(x):
        with runtime.autocast():
            return torch.cat([network(part).float() for part in x.split(1000)])

    def both(x):
        return (scores(x) + scores(x.flip(3))) / 2

    padded = F.pad(images, (1,) * 4, "reflect")
    shifted = (both(padded[:, :, :32, :32]) + both(padded[:, :, 2:, 2:])) / 2
    views = {"one view": scores(images), "both orientations": both(images)}
    views["six views"] = (views["both orientations"] + shifted) / 2
    for name, found in views.items():
        print(f"{name}: {(found.argmax(1) == labels).float().mean():.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--epochs", type=float, default=9.9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    runtime = Runtime.choose("cpu")
    folders = [ClassFolder.open(arguments.train), ClassFolder.open(arguments.test)]
    sets = [
        (ImageDataset.load(folder.paths, size=32).pixels.float() / 255 - MEAN[:, None, None]) / DEVIATION[:, None, None]
        for folder in folders
    ]
    labels = [torch.tensor(folder.labels) for folder in folders]
    network = train(sets[0], labels[0], arguments.epochs, runtime)
    measure(network, sets[1], labels[1], runtime)


if __name__ == "__main__":
    main()
