"""Start-up times: `mlcli --help`, and `mlcli classify` of one photograph against importing torch and torchvision.

    python tests/benchmarks/startup.py [PHOTO] [--rounds 5] [--train DATA]

--train: also `mlcli train` of one epoch on these class folders, of a few images, and the same in a process that has
imported torch's compiler first, which torch's own optimizers import.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", default="samples/photos/cat.jpg")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", metavar="DATA")
    arguments = parser.parse_args()
    mlcli = shutil.which("mlcli") or sys.exit("mlcli is not on the PATH: activate its environment")
    commands = {
        "help": [mlcli, "--help"],
        "import": [sys.executable, "-c", "import torch, torchvision"],
        "classify": [mlcli, "classify", arguments.photo, "-q"],
    }
    if arguments.train:
        run = tempfile.mkdtemp()
        words = ["train", arguments.train, "-o", run, "--epochs", "1", "--model", "smallnet", "--overwrite", "-q"]
        program = f"import sys; sys.argv = ['mlcli', *{words}]; from mlcli import cli; cli.main()"
        commands["train"] = [sys.executable, "-c", program]
        commands["train with the compiler"] = [sys.executable, "-c", f"import torch._dynamo; {program}"]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(arguments.rounds + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if number:  # the first round warms the disk cache
                times[name].append(taken)
    median = {name: statistics.median(values) for name, values in times.items()}
    print(*(f"{name} {value:.2f} s" for name, value in median.items()))
    limit = 1.2 * median["import"] + 1
    print(f"classify takes {median['classify']:.2f} s; 1.2 x the imports + 1 s is {limit:.2f} s")


if __name__ == "__main__":
    main()
