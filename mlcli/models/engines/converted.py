"""Engines that compute a network converted to ONNX: OpenVINO, and ONNX Runtime, on the processor.

The converted network is kept in the user's cache, by the hash of the weights and all else that it depends on.
"""

import hashlib
import importlib.metadata
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.errors import MlcliError
from mlcli.io.user_cache import user_cache
from mlcli.models.exports import onnx_file, openvino_file
from mlcli.models.exports.files import ONNX, OPENVINO
from mlcli.models.model import logits
from mlcli.runtime.device import Runtime

KEPT = 16  # converted networks in the cache; the one that was used longest ago goes
INPUT, OUTPUT = "images", "values"


class _Plain(nn.Module):
    """A network as the exporter takes it: a tuple of one tensor."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (logits(self.network(images)),)


class Converted(nn.Module):
    """Normalized images (N, C, H, W) -> what the network gives, computed by another library."""

    def __init__(self, run: onnx_file.OnnxRunner | openvino_file.OpenVinoRunner):
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        (values,) = self.run(images.float().cpu())
        return values


def by_openvino(network: nn.Module, example: Tensor, runtime: Runtime, key: Any) -> nn.Module:
    """The network computed by OpenVINO.

    example: of its input, a batch of any size. key: what the network depends on, as JSON values; None to keep nothing
    in the cache. Raises MlcliError where it cannot be converted.
    """
    threads = torch.get_num_threads()
    if key is None:
        return Converted(openvino_file.OpenVinoRunner(_onnx(network, example), runtime.precision, threads))
    file = _cached(key, example, "openvino", OPENVINO)
    if os.path.isfile(file) and os.path.isfile(openvino_file.weights_beside(file)):
        with suppress(MlcliError):  # damaged, as by a full disk: it is made again
            made = Converted(openvino_file.OpenVinoRunner(file, runtime.precision, threads))
            _used(file)
            return made
    openvino_file.write(file, _onnx(network, example))
    _tidy(file.parent)
    return Converted(openvino_file.OpenVinoRunner(file, runtime.precision, threads))


def by_onnxruntime(network: nn.Module, example: Tensor, runtime: Runtime, key: Any) -> nn.Module:
    """The network computed by ONNX Runtime, in fp32. As `by_openvino`."""
    if key is None:
        return Converted(onnx_file.OnnxRunner(_onnx(network, example)))
    file = _cached(key, example, "onnxruntime", ONNX)
    if os.path.isfile(file):
        with suppress(MlcliError):
            made = Converted(onnx_file.OnnxRunner(file))
            _used(file)
            return made
    onnx_file.write(file, _onnx(network, example))
    _tidy(file.parent)
    return Converted(onnx_file.OnnxRunner(file))


def _onnx(network: nn.Module, example: Tensor) -> bytes:
    # The exporter needs contiguous memory on the CPU; the network goes back to where it was
    weights = next(iter(network.parameters()), example)
    last = weights.ndim == 4 and weights.is_contiguous(memory_format=torch.channels_last)
    plain = _Plain(network).to(memory_format=torch.contiguous_format)
    try:
        return onnx_file.encoded(plain, {INPUT: example}, [OUTPUT], {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}})
    finally:
        if last:
            network.to(memory_format=torch.channels_last)


def _cached(key: Any, example: Tensor, package: str, ending: str) -> Path:
    versions = [importlib.metadata.version(name) for name in ("torch", package)]
    parts = [key, list(example.shape[1:]), onnx_file.OPSET, versions]
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    return user_cache("converted networks; take --engine torch") / "engines" / f"{name}{ending}"


def _used(file: Path) -> None:
    with suppress(OSError):  # a cache that may be read alone
        os.utime(file)


def _tidy(folder: Path) -> None:
    """Remove the converted networks that were used longest ago, beyond KEPT."""
    with suppress(OSError):
        files = [file for file in folder.iterdir() if file.suffix in (ONNX, OPENVINO) and not file.name.startswith(".")]
        for file in sorted(files, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
            file.unlink()
            openvino_file.weights_beside(file).unlink(missing_ok=True)
