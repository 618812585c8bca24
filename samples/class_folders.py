"""Writes a public data set as class folders: FOLDER/{train,test}/CLASS/NUMBER.png.

    python samples/class_folders.py mnist|usps|cifar10 FOLDER [--downloads downloads]

torchvision downloads the files of the data set, 7 to 170 MB, to the folder of downloads, where they stay for the next
time. NUMBER is the position of the image in the file of its part.
"""

import argparse
from pathlib import Path

from torchvision import datasets

DATA_SETS = {"mnist": datasets.MNIST, "usps": datasets.USPS, "cifar10": datasets.CIFAR10}


def write(data: datasets.VisionDataset, folder: Path) -> None:
    """The images of one part, each in the folder of its class: the name of the class, or its digit."""
    names = data.classes if isinstance(data, datasets.CIFAR10) else [str(digit) for digit in range(10)]
    for name in names:
        (folder / name).mkdir(parents=True)
    for number in range(len(data)):
        image, label = data[number]
        image.save(folder / names[label] / f"{number:05d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=DATA_SETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="where downloaded files stay")
    options = parser.parse_args()
    parts = {"train": True, "test": False}
    for part in parts:
        if (options.folder / part).exists():
            parser.error(f"{options.folder / part} exists already; name another folder, or delete it")
    options.downloads.mkdir(parents=True, exist_ok=True)
    for part, train in parts.items():
        write(DATA_SETS[options.data_set](options.downloads, train=train, download=True), options.folder / part)


if __name__ == "__main__":
    main()
