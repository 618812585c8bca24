"""Seconds of a step on a GPU: as the commands do it, and with algorithms that may differ from run to run.

    python -m tests.benchmarks.gpu_steps [NAME...] [--steps 30] [--rounds 3]

`ours` is the step of the command under --precision auto; `fp32` the same under fp32; `free` is `ours` with what a plain
program has (cuDNN tries algorithms and takes the fastest, none need be repeatable); `tf32` is `fp32` likewise, in TF32.
The kinds alternate in one process. `load` is the part of a step of `ours` that the processor spends on the batch.
"""

import argparse
import statistics
import time

import torch

from mlcli.runtime.device import Runtime
from tests.benchmarks import training_step, translation

KINDS = {"ours": ("auto", False), "free": ("auto", True), "fp32": ("fp32", False), "tf32": ("fp32", True)}
NAMES = ("train", "pix2pix", "cyclegan")


def set_freedom(free: bool) -> None:
    torch.use_deterministic_algorithms(not free, warn_only=True)
    torch.backends.cudnn.benchmark = free
    torch.backends.cudnn.allow_tf32 = free


def training(precision: str):
    """(load, step) of `mlcli train`'s cifarnet, batches of 1,000."""
    from mlcli.methods.learning import configs
    from mlcli.methods.learning.supervised import Supervised
    from mlcli.models import registry
    from mlcli.runtime.processes import Processes

    runtime = Runtime.choose("cuda", precision)
    data = training_step.images(2000)
    model = registry.create("cifarnet", [str(n) for n in range(10)], 32)
    method = Supervised(model, data, configs.Supervised(batch_size=1000), 1000, runtime, Processes(runtime.device))
    model.network.train()
    return lambda number: method.load(torch.arange(1000) + number % 2 * 1000, number), method.step


def translating(name: str, precision: str):
    from mlcli.methods.generation import configs
    from mlcli.methods.generation.cyclegan import CycleGAN
    from mlcli.methods.generation.pix2pix import Pix2Pix
    from mlcli.runtime.processes import Processes

    runtime = Runtime.choose("cuda", precision)
    torch.manual_seed(0)
    chosen, config = {
        "pix2pix": (Pix2Pix, configs.Pix2Pix),
        "cyclegan": (CycleGAN, configs.CycleGAN),
    }[name]
    data = translation.Images(256)
    method = chosen(data, config(size=(256, 256)), 10**6, runtime, Processes(runtime.device))
    return lambda number: method.load(torch.tensor([number % len(data)]), number), method.step


def seconds(load, step, steps: int) -> tuple[float, float]:
    """(of a step with its load, of the load alone)."""
    loading, number = 0.0, 0
    for number in range(3):
        step(load(number), number)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for number in range(3, 3 + steps):
        before = time.perf_counter()
        batch = load(number)
        loading += time.perf_counter() - before
        step(batch, number)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps, loading / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__)
    for name in arguments.names:
        built = {
            kind: training(precision) if name == "train" else translating(name, precision)
            for kind, (precision, _) in KINDS.items()
        }
        times = {kind: [] for kind in KINDS}
        for _ in range(arguments.rounds):
            for kind, (_, free) in KINDS.items():
                set_freedom(free)
                times[kind].append(seconds(*built[kind], arguments.steps))
        for kind, measured in times.items():
            whole, loading = (statistics.median(each) * 1000 for each in zip(*measured, strict=True))
            print(f"{name} {kind}: {whole:.1f} ms a step, of which {loading:.1f} ms load", flush=True)


if __name__ == "__main__":
    main()
