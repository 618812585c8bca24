"""Tiny runs of `mlcli adapt`, for the tests of its parts."""

from pathlib import Path

from mlcli.methods.adaptation.registry import METHODS, Optimized
from tests import shapes
from tests.cli import mlcli

QUICK = ["--source-steps", 30, "--steps", 9, "--batch-size", 12, "--candidates", 3, "--precision", "fp32"]
QUICK += ["--keep", "adapted"]  # what trains for so few steps may be worse
SMALL = {"adda": [], "simgan": ["--filters", 4], "cycada": ["--pixel-steps", 6, "--filters", 4]}
SMALL["seuda"] = ["--filters", 4]
SMALL |= {"shot": [], "dann": [], "self-ensembling": [], "adabn": []}
TRAINED = [name for name, method in METHODS.items() if issubclass(method.config, Optimized)]  # on the target


def write_domains(root: Path) -> Path:
    """root/source, root/target, root/bare, which is the target without labels, and root/test."""
    shapes.write(root / "source", 60)
    shapes.write(root / "target", 60, 1, target=True)
    shapes.write(root / "bare", 60, 1, target=True, labeled=False)
    shapes.write(root / "test", 30, 2, target=True)
    return root


def adapt(data, output, *options, method="adda", target="target", status=0):
    quick = QUICK if method in TRAINED else ["--source-steps", 30, "--precision", "fp32"]
    words = ["adapt", "--method", method, data / "source", data / target, "-o", output, *quick, *SMALL[method]]
    return mlcli(*words, *options, status=status)


def files(run):
    """The bytes of what was learned: the models of every stage, and the state of the training."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.suffix == ".safetensors" or path.name.startswith("step-")
    }
