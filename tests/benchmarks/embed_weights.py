"""Make the network of a run the embedded one: mlcli/weights/cifarnet.safetensors, in fp16.

    python tests/benchmarks/embed_weights.py RUN

The statistics of the norms go to fp16 as well; the published accuracy is that of the file.
"""

import argparse
from pathlib import Path

import mlcli
from mlcli.io.files import file_hash
from mlcli.models import artifacts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    trained = artifacts.read(parser.parse_args().run / "model.safetensors")
    file = Path(mlcli.__file__).parent / "weights" / "cifarnet.safetensors"
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in trained.tensors.items()}
    artifacts.save(file, halved, trained.description)
    print(f"{file.stat().st_size / 1e6:.2f} MB, SHA-256 {file_hash(file)}")


if __name__ == "__main__":
    main()
