"""Seconds of a training step of the embedded network, against the plain fp32 loop over the same network and loss.

    python tests/benchmarks/training_step.py [--batch-size 1000] [--steps 8] [--rounds 3]

Each measurement is a process of its own, the kinds alternating: `ours` is `mlcli train`'s step under --precision auto;
`fp32` the same under fp32; `plain` a loop in fp32 with PyTorch's defaults (contiguous memory, SGD, the C library's own
handling of memory).
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

KINDS = ("ours", "fp32", "plain")


def images(count: int):
    import torch

    from mlcli.data.image_dataset import ImageDataset

    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    labels, paths = torch.arange(count) % 10, [Path(f"{number}.png") for number in range(count)]
    return ImageDataset(
        paths, labels, [], size=32, channels=3, workers=None, pixels=pixels, prepare=lambda image: image
    )


def measure(kind: str, batch_size: int, steps: int) -> float:
    """Seconds a step in this process, the first two left out."""
    from mlcli.runtime.device import Runtime

    runtime = None if kind == "plain" else Runtime.choose("cpu", "auto" if kind == "ours" else "fp32")
    import torch

    from mlcli.methods.learning import configs
    from mlcli.methods.learning.supervised import Supervised
    from mlcli.models import registry
    from mlcli.runtime.processes import Processes

    data = images(2 * batch_size)
    model = registry.create("cifarnet", [str(n) for n in range(10)], 32)
    if kind == "plain":
        optimizer = torch.optim.SGD(model.network.parameters(), 0.1, 0.9, nesterov=True)

        def step(number):
            indices = torch.arange(batch_size) + number % 2 * batch_size
            loss = torch.nn.functional.cross_entropy(model(data.batch(indices)), data.labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    else:
        config = configs.Supervised(batch_size=batch_size)
        method = Supervised(model, data, config, 100, runtime, Processes(runtime.device))

        def step(number):
            method.step(method.load(torch.arange(batch_size) + number % 2 * batch_size, number), number)

    model.network.train()
    for number in range(2):
        step(number)
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, help="measure one kind in this process")
    arguments = parser.parse_args()
    if arguments.kind:
        print(measure(arguments.kind, arguments.batch_size, arguments.steps))
        return
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(arguments.rounds):
        for kind in KINDS:
            command = [sys.executable, __file__, "--kind", kind, "--batch-size", str(arguments.batch_size)]
            done = subprocess.run(
                [*command, "--steps", str(arguments.steps)], capture_output=True, text=True, check=True
            )
            times[kind].append(float(done.stdout))
    print(*(f"{kind} {statistics.median(values):.2f} s" for kind, values in times.items()))
    for kind in KINDS[:2]:
        ratio = statistics.median(p / t for p, t in zip(times["plain"], times[kind], strict=True))
        print(f"{kind} is {ratio:.2f} times as fast as plain")


if __name__ == "__main__":
    main()
