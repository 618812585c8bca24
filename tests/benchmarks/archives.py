"""Decoding from archives against the folder that was packed, alternately in one run; and the list of many members.

    python tests/benchmarks/archives.py photographs PHOTOS [--rounds 3]
    python tests/benchmarks/archives.py members [--count 1000000]

PHOTOS is a folder of photographs, which are packed into a temporary folder. All are decoded by one thread for each
processor, in order and in an order drawn by the seed, and the time is that of the processors. `members` writes a tar of
equal small images, in a thousand folders, and says what listing it takes, of the processor and of memory.
"""

import argparse
import gzip
import random
import resource
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

from mlcli.data.sources import find_images
from mlcli.errors import ImageError
from mlcli.imaging.decoding import decode
from mlcli.io import input_files
from tests.archives import contents, image_bytes, write_tar, write_zip


def packed(photos: Path, folder: Path) -> list[Path]:
    """The photographs in one archive of each kind."""
    import pyarrow
    from pyarrow import parquet

    members = contents(photos)
    tar = write_tar(folder / "a.tar", members)
    (folder / "a.tar.gz").write_bytes(gzip.compress(tar.read_bytes(), 1))
    rows = [{"bytes": content, "path": name} for name, content in members.items()]
    parquet.write_table(pyarrow.table({"image": rows}), folder / "a.parquet", row_group_size=100)
    return [tar, write_zip(folder / "a.zip", members), folder / "a.tar.gz", folder / "a.parquet"]


def seconds(root: Path, shuffled: bool) -> float:
    """The time of the processors, all threads together, for decoding all images below a root."""
    paths = find_images([root]).paths
    if shuffled:
        random.Random(0).shuffle(paths)
    began = time.process_time()
    for _, image in decode(paths, lambda image: None):
        assert not isinstance(image, ImageError), image
    return time.process_time() - began


def photographs(photos: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archives = packed(photos, Path(folder))
        count = len(find_images([photos]).paths)
        for shuffled in (False, True):
            times: dict[Path, list[float]] = {photos: [], **{archive: [] for archive in archives}}
            for number in range(rounds + 1):
                for root, measured in times.items():
                    taken = seconds(root, shuffled)
                    if number:  # the first round is of reading from the disk
                        measured.append(taken)
            order = "drawn" if shuffled else "in order"
            plain = count / statistics.median(times[photos])
            print(f"{order}: {photos} {plain:.0f} images a second of a processor")
            for archive in archives:
                ratios = [a / b for a, b in zip(times[photos], times[archive], strict=True)]
                print(f"{order}: {archive.name} {statistics.median(ratios):.2f} times as many")


def resident() -> float:
    """Megabytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def members(count: int) -> None:
    content = image_bytes()
    padded = content + bytes(-len(content) % 512)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.tar"
        with open(file, "wb") as stream:
            for number in range(count):
                info = tarfile.TarInfo(f"{number % 1000:03d}/{number:07d}.png")
                info.size = len(content)
                stream.write(info.tobuf() + padded)
            stream.write(bytes(1024))
        before, began = resident(), time.process_time()
        listed = len(input_files.archive(str(file)).names)
        print(f"{listed:,} members listed: {time.process_time() - began:.1f} s, {resident() - before:.0f} MB")
        began = time.process_time()
        paths = find_images([file]).paths
        told = f"{time.process_time() - began:.1f} s more, {resident() - before:.0f} MB in all"
        print(f"{len(paths):,} images found: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("photographs", "members"))
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.what == "members":
        members(arguments.count)
    else:
        photographs(arguments.photos, arguments.rounds)


if __name__ == "__main__":
    main()
