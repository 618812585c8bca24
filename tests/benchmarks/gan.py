"""The figures of `mlcli gan` on MNIST.

    mlcli train mnist/train --val mnist/test --gray --no-flip --shift 2 --cutout 0 -o runs/mnist
    mlcli gan mnist/train --gray --model runs/mnist -o runs/gan
    python tests/benchmarks/gan.py runs/gan --model runs/mnist --mnist mnist/test --usps usps/train usps/test

Frechet and kernel distances, in the last hidden layer of the classifier, of 10,000 samples to the MNIST test set;
beside them those of USPS and, with --training, of as many MNIST training images, which no generator can better. How
often the classifier calls a sample each digit, and of a conditional generator how often the digit that was asked for.
"""

import argparse

import torch

from mlcli.data.image_dataset import ImageDataset
from mlcli.data.sources import find_images
from mlcli.methods.evaluation.classification import predict
from mlcli.methods.generation import sampling
from mlcli.methods.generation.fid_kid import Features, frechet, kernel
from mlcli.models import registry
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import generator, rng


def images(folders: list[str], size: int, count: int) -> torch.Tensor:
    """At most `count` gray images (N, 1, size, size), chosen at random."""
    paths = find_images(folders).paths
    chosen = torch.randperm(len(paths), generator=generator(0))[:count].tolist()
    loaded = ImageDataset.load([paths[index] for index in chosen], size=size, channels=1)
    return loaded.batch(torch.arange(len(loaded)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--model", required=True, help="the run of a classifier of digits")
    parser.add_argument("--mnist", nargs="+", required=True, help="folders of real digits")
    parser.add_argument("--training", nargs="*", default=[], help="folders of the digits that were learned from")
    parser.add_argument("--usps", nargs="+", required=True)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    runtime = Runtime.choose()
    sampler = sampling.load(arguments.run, runtime)
    drawn = sampling.draw(sampler, arguments.n, rng(arguments.seed, "sample/latent"))
    made = sampler(drawn.latent, drawn.labels)
    model = registry.load(arguments.model).to(runtime)
    features = Features(model, runtime)
    size = sampler.network.size
    real = features(images(arguments.mnist, size, arguments.n))
    others = {"samples": made, "USPS": images(arguments.usps, size, arguments.n)}
    if arguments.training:
        others["MNIST training images"] = images(arguments.training, size, arguments.n)
    found = {}
    for name, other in others.items():
        vectors = features(other)
        found[name], other_way = frechet(vectors, real), kernel(vectors, real)
        print(f"{len(other)} {name} to {len(real)} of MNIST: Frechet {found[name]:.4f}, kernel {other_way:.5f}")
    print(f"samples over USPS: {found['samples'] / found['USPS']:.4f}; target under 0.1")

    prepared = [model.preprocessing.prepare(image.expand(3, -1, -1)) for image in made]
    predicted = torch.cat(
        [predict(model, torch.stack(prepared[i : i + 500]), runtime) for i in range(0, len(made), 500)]
    )
    predicted = predicted.argmax(1)
    fractions = torch.bincount(predicted, minlength=len(model.classes)) / len(predicted)
    print(
        "fractions: "
        + ", ".join(f"{c} {fraction:.2%}" for c, fraction in zip(model.classes, fractions.tolist(), strict=True))
    )
    print(f"least {fractions.min():.2%}, most {fractions.max():.2%}; target 5 % to 15 %")
    if sampler.classes:
        print(f"of the digit asked for: {(predicted == drawn.labels).float().mean():.2%}")


if __name__ == "__main__":
    main()
