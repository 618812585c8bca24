"""How near translated images are to the wanted ones, and how sharp.

    python tests/benchmarks/translated.py WANTED FOLDER...

FOLDERs hold images named as those of WANTED: what `mlcli translate` made, or what it was given. Printed of each: the
mean absolute difference for values in [0, 1], with the fraction of images that are nearer than those of the first
FOLDER; and the sharpness, the mean length of the gradient of the gray image (central differences), over WANTED's.
"""

import argparse
import os
from pathlib import Path

import torch

from mlcli.data.sources import find_images
from mlcli.imaging import image_io


def sharpness(image: torch.Tensor) -> float:
    """Mean length of the gradient of (C, H, W) in [0, 1], converted to gray."""
    gray = image_io.to_gray(image)[0] if len(image) == 3 else image[0]
    down, right = torch.gradient(gray)
    return (down.square() + right.square()).sqrt().mean().item()


def color(path: Path) -> torch.Tensor:
    return image_io.to_unit(image_io.read(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wanted")
    parser.add_argument("folders", nargs="+")
    arguments = parser.parse_args()
    roots = [Path(folder) for folder in arguments.folders]
    stems = [{os.path.splitext(p.relative_to(r))[0]: p for p in find_images([r]).paths} for r in roots]
    rows, edges, wanted_edges = [], [], []
    for path in find_images([arguments.wanted]).paths:
        stem = os.path.splitext(path.relative_to(arguments.wanted))[0]
        wanted = color(path)
        others = [color(files[stem]) for files in stems]
        rows.append([(other - wanted).abs().mean().item() for other in others])
        edges.append([sharpness(other) for other in others])
        wanted_edges.append(sharpness(wanted))
    errors, edges = torch.tensor(rows), torch.tensor(edges)
    relative = edges.mean(0) / torch.tensor(wanted_edges).mean()
    print(f"{len(rows)} images")
    for number, root in enumerate(roots):
        nearer = (errors[:, number] < errors[:, 0]).float().mean()
        print(
            f"{root}: mean absolute difference {errors[:, number].mean():.4f}, {nearer:.1%} nearer than the first; ",
            end="",
        )
        print(f"sharpness {relative[number]:.3f} of the wanted")


if __name__ == "__main__":
    main()
