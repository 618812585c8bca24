"""OpenVINO files, an .xml with its .bin beside it: converted from ONNX, described, and run by OpenVINO."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcli.errors import MlcliError, WeightsError, reason
from mlcli.io.files import write_bytes
from mlcli.models.exports.onnx_file import METADATA_KEY, parsed
from mlcli.runtime import optional_packages

PATH_OF_DESCRIPTION = [METADATA_KEY, "description"]  # in the runtime information of a model
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
# OpenVINO gives the thread a stack for signals that lives as long as the compiled network; without it the next signal
# would end the process by a segmentation fault.
_alive: list[Any] = []


def weights_beside(file: Path) -> Path:
    """The file of the weights that belongs to an .xml."""
    return file.with_suffix(".bin")


def write(file: Path, onnx: bytes, description: str = "") -> None:
    """Convert the content of an ONNX file, and write FILE.xml and FILE.bin. Raises MlcliError where that fails."""
    openvino = optional_packages.openvino()
    try:
        model = openvino.Core().read_model(onnx, b"")
    except Exception as error:  # OpenVINO raises plain RuntimeErrors and exceptions of its own
        raise MlcliError(f"{file}: OpenVINO cannot convert this network: {reason(error)}") from None
    if description:
        model.set_rt_info(description, PATH_OF_DESCRIPTION)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.xml"
        openvino.save_model(model, made, compress_to_fp16=False)
        # The weights first: a reader that sees the new .xml finds them
        write_bytes(weights_beside(file), made.with_suffix(".bin").read_bytes())
        write_bytes(file, made.read_bytes())


class OpenVinoRunner:
    """An OpenVINO file, or the content of an ONNX file, that OpenVINO runs on the processor.

    description, shapes, names: as of `onnx_file.OnnxRunner`.
    """

    def __init__(self, file: Path | bytes, precision: str = "fp32", threads: int | None = None):
        """Raises WeightsError for a file that OpenVINO does not load."""
        openvino = optional_packages.openvino()
        core = openvino.Core()
        # Read into memory: a mapped file that somebody overwrites in place would end the process by a bus error
        core.set_property({"ENABLE_MMAP": False})
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # all threads work on one batch
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # threads that decode need the same cores
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        }
        try:
            model = core.read_model(file, b"") if isinstance(file, bytes) else core.read_model(str(file))
            self.compiled = core.compile_model(model, "CPU", settings)
        except Exception as error:  # OpenVINO raises plain RuntimeErrors and exceptions of its own
            name = "the exported network" if isinstance(file, bytes) else str(file)
            raise WeightsError(f"{name}: OpenVINO cannot load it: {reason(error)}") from None
        _alive.append((core, self.compiled))
        self.description: dict[str, Any] = {}
        if not isinstance(file, bytes) and model.has_rt_info(PATH_OF_DESCRIPTION):
            self.description = parsed(model.get_rt_info(PATH_OF_DESCRIPTION).astype(str), file)
        self.shapes = {_name(port): _shape(port) for port in self.compiled.inputs}
        self.types = {_name(port): port.get_element_type().to_string() for port in self.compiled.inputs}
        self.names = tuple(_name(port) for port in self.compiled.outputs)

    def __call__(self, *inputs: Tensor, outputs: Sequence[str] | None = None) -> list[Tensor]:
        """Inputs in order -> outputs in order, or those named."""
        given = [np.ascontiguousarray(tensor.numpy()) for tensor in inputs]
        found = self.compiled(given, share_inputs=True)
        return [torch.from_numpy(found[self.names.index(name)]) for name in outputs or self.names]


def _name(port: Any) -> str:
    return port.get_any_name()


def _shape(port: Any) -> tuple[Any, ...]:
    return tuple(str(size) if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
