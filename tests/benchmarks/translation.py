"""Seconds of a training step of pix2pix and CycleGAN against a plain fp32 loop of the same networks and losses.

    python tests/benchmarks/translation.py [--method pix2pix] [--size 256] [--steps 10] [--rounds 3] [--curves]

Each measurement is a process of its own, the kinds alternating: `ours` is the step of `mlcli pix2pix` or `cyclegan`
under --precision auto; `fp32` the same under fp32; `plain` a loop in fp32 with PyTorch's defaults, written as the
papers have it: contiguous memory, torch's norms and Adam as they come, one pass through a network for each image. The
networks are the published ones from the same initial weights, the batch one image. --curves prints the losses too.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time

KINDS = ("ours", "fp32", "plain")
METHODS = ("pix2pix", "cyclegan")


class Images:
    """Pairs in memory, as PairSet and UnpairedSets give them: shapes in B, their outlines and noise in A."""

    def __init__(self, size: int, count: int = 16):
        import torch

        from mlcli.data.pairs import ImageSpec

        self.specs = ImageSpec(), ImageSpec()
        random = torch.Generator().manual_seed(0)
        coarse = torch.rand(count, 3, 8, 8, generator=random)
        smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
        self.b = (smooth * 255).to(torch.uint8)
        self.a = 255 - self.b.float().mean(1, keepdim=True).expand(-1, 3, -1, -1).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.a)

    def draw(self, n, random):
        import torch

        return torch.zeros(1, n)

    def batch(self, indices, drawn=None):
        return self.a[indices], self.b[indices]


def plain_pix2pix(method):
    """The step of Isola et al. with the initial weights of `method`."""
    import torch
    import torch.nn.functional as F

    generator, discriminator = with_torch_norms(method.generator), with_torch_norms(method.discriminator)
    generator_adam, discriminator_adam = adam(generator), adam(discriminator)
    entropy = F.binary_cross_entropy_with_logits

    def step(batch):
        x, y = (each.float() / 127.5 - 1 for each in batch)
        fake = generator(x)
        real_says = discriminator(torch.cat([x, y], 1))
        fake_says = discriminator(torch.cat([x, fake.detach()], 1))
        loss_d = 0.5 * (
            entropy(real_says, torch.ones_like(real_says)) + entropy(fake_says, torch.zeros_like(fake_says))
        )
        discriminator_adam.zero_grad()
        loss_d.backward()
        discriminator_adam.step()
        discriminator.requires_grad_(False)
        says = discriminator(torch.cat([x, fake], 1))
        loss_gan, loss_l1 = entropy(says, torch.ones_like(says)), 100 * F.l1_loss(fake, y)
        generator_adam.zero_grad()
        (loss_gan + loss_l1).backward()
        generator_adam.step()
        discriminator.requires_grad_(True)
        return {"loss_d": loss_d, "loss_gan": loss_gan, "loss_l1": loss_l1}

    return step


def plain_cyclegan(method):
    """The step of Zhu et al. with the initial weights of `method`, the pool as in the method."""
    import torch
    import torch.nn.functional as F

    from mlcli.methods.generation.image_pool import ImagePool

    there, back = (with_torch_norms(network) for network in method.generators.values())
    discriminator_b, discriminator_a = (with_torch_norms(network) for network in method.discriminators.values())
    generators_adam, discriminators_adam = adam(there, back), adam(discriminator_a, discriminator_b)
    pools, random = (ImagePool(50), ImagePool(50)), torch.Generator().manual_seed(0)

    def one(says):
        return F.mse_loss(says, torch.ones_like(says))

    def step(batch):
        a, b = (each.float() / 127.5 - 1 for each in batch)
        discriminator_a.requires_grad_(False)
        discriminator_b.requires_grad_(False)
        fake_b, fake_a = there(a), back(b)
        cycle = 10 * (F.l1_loss(back(fake_b), a) + F.l1_loss(there(fake_a), b))
        identity = 5 * (F.l1_loss(there(b), b) + F.l1_loss(back(a), a))
        gan = one(discriminator_b(fake_b)) + one(discriminator_a(fake_a))
        generators_adam.zero_grad()
        (gan + cycle + identity).backward()
        generators_adam.step()
        discriminator_a.requires_grad_(True)
        discriminator_b.requires_grad_(True)
        discriminators_adam.zero_grad()
        loss_d = 0
        for discriminator, real, fake, pool in (
            (discriminator_b, b, fake_b, pools[0]),
            (discriminator_a, a, fake_a, pools[1]),
        ):
            loss = 0.5 * (one(discriminator(real)) + discriminator(pool.exchange(fake, random)).square().mean())
            loss.backward()
            loss_d = loss_d + loss
        discriminators_adam.step()
        return {"loss_d": loss_d, "loss_gan": gan, "loss_cycle": cycle, "loss_identity": identity}

    return step


def adam(*networks):
    import torch

    weights = itertools.chain.from_iterable(network.parameters() for network in networks)
    return torch.optim.Adam(weights, 2e-4, (0.5, 0.999))


def with_torch_norms(network):
    """The network in contiguous memory with torch's norms: instance norm, or batch norm where it has weights."""
    import torch

    from mlcli.networks.norms import InstanceNorm2d

    network = network.to(memory_format=torch.contiguous_format).requires_grad_(True)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, InstanceNorm2d):
                norm = (torch.nn.BatchNorm2d if child.affine else torch.nn.InstanceNorm2d)(child.num_features)
                norm.load_state_dict(child.state_dict(), strict=False)
                setattr(module, name, norm.to(next(network.parameters()).device))
    return network


def stepper(kind: str, name: str, size: int, device: str):
    """A function of the step number that does the step and returns its losses."""
    from mlcli.runtime.device import Runtime

    precision = "auto" if kind == "ours" else "fp32"
    if kind == "plain":
        from mlcli.runtime.device import choose_device

        runtime = Runtime(choose_device(device), "fp32")
    else:
        runtime = Runtime.choose(device, precision)
    import torch

    from mlcli.methods.generation import configs
    from mlcli.methods.generation.cyclegan import CycleGAN
    from mlcli.methods.generation.pix2pix import Pix2Pix
    from mlcli.runtime.processes import Processes

    torch.manual_seed(0)
    chosen, config = {
        "pix2pix": (Pix2Pix, configs.Pix2Pix(size=(size, size))),
        "cyclegan": (CycleGAN, configs.CycleGAN(size=(size, size))),
    }[name]
    data = Images(size)
    method = chosen(data, config, 10**6, runtime, Processes(runtime.device))
    plain = {"pix2pix": plain_pix2pix, "cyclegan": plain_cyclegan}[name](method) if kind == "plain" else None

    def step(number):
        torch.manual_seed(number)
        batch = method.load(torch.tensor([number % len(data)]), number)
        return plain([x.to(runtime.device) for x in batch]) if plain else method.step(batch, number)

    return step


def measure(kind: str, name: str, size: int, steps: int, device: str) -> dict:
    step = stepper(kind, name, size, device)
    import torch

    def wait():
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    for number in range(2):
        step(number)
    wait()
    began, worked, curves = time.perf_counter(), time.process_time(), []
    for number in range(2, 2 + steps):
        losses = step(number)
        curves.append({key: value.detach() for key, value in losses.items()})
    wait()
    seconds, work = time.perf_counter() - began, time.process_time() - worked
    memory = torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0
    memory = memory or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": seconds / steps,
        "work": work / steps,
        "gigabytes": memory / 1e9,
        "curves": [summed(line) for line in curves],
    }


def summed(losses: dict) -> dict:
    """The losses of both directions of a CycleGAN added up, so that all kinds give them the same names."""
    result: dict[str, float] = {}
    for key, value in losses.items():
        if key.startswith("loss"):
            short = "_".join(key.split("_")[:2])
            result[short] = result.get(short, 0.0) + value.item()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--curves", action="store_true", help="print the losses of a longer run too")
    parser.add_argument("--kind", choices=KINDS, help="measure one kind in this process")
    arguments = parser.parse_args()
    if arguments.kind:
        print(json.dumps(measure(arguments.kind, *arguments.method, arguments.size, arguments.steps, arguments.device)))
        return
    for name in arguments.method or METHODS:
        results: dict[str, list[dict]] = {kind: [] for kind in KINDS}
        for _ in range(arguments.rounds):
            for kind in KINDS:
                command = [sys.executable, __file__, "--kind", kind, "--method", name, "--size", str(arguments.size)]
                command += ["--steps", str(arguments.steps), "--device", arguments.device]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                results[kind].append(json.loads(done.stdout))
        for kind in KINDS:
            middle = {key: statistics.median(each[key] for each in results[kind]) for key in ("seconds", "gigabytes")}
            print(f"{name} {kind}: {middle['seconds']:.3f} s a step, {middle['gigabytes']:.2f} GB", end="")
            if kind != "plain":
                for key, what in (("seconds", "times as fast as plain"), ("work", "by the time of the processor")):
                    pairs = zip(results["plain"], results[kind], strict=True)
                    print(f"; {statistics.median(p[key] / o[key] for p, o in pairs):.2f} {what}", end="")
            print()
        if arguments.curves:
            for key in results["plain"][0]["curves"][0]:
                for kind in KINDS:
                    line = [each[key] for each in results[kind][0]["curves"]]
                    tenth = max(1, len(line) // 10)
                    shown = " ".join(f"{statistics.mean(line[i : i + tenth]):.3f}" for i in range(0, len(line), tenth))
                    print(f"{name} {key} {kind}: {shown}")


if __name__ == "__main__":
    main()
