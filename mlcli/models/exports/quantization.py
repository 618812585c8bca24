"""An ONNX network in 8-bit integers: static quantization, calibrated on images.

Weights have a scale for each channel, activations one for the whole tensor, from their range on the images (Nagel et
al. 2021). The result is an ONNX file with pairs of QuantizeLinear and DequantizeLinear, which ONNX Runtime and OpenVINO
compute in integers.

Many processors without instructions for it (VNNI) add two products of bytes in 16 bits, which is too few for weights of
8 bits: their sums are cut off. Weights of 7 bits are right everywhere, and cost accuracy.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mlcli.errors import MlcliError, reason
from mlcli.models.exports.subject import IMAGES
from mlcli.runtime import optional_packages


def quantized(content: bytes, images: Sequence[Tensor], weight_bits: int) -> bytes:
    """The content of an ONNX file with its network quantized. Raises MlcliError where that cannot be done.

    images: to calibrate on, each a batch as the network takes it. weight_bits: 7 or 8.
    """
    optional_packages.onnxruntime()
    from onnxruntime import quantization as tool

    class Reader(tool.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Tensor] = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.left, None)
            return None if batch is None else {IMAGES: batch.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, prepared, made = (Path(folder) / name for name in ("plain.onnx", "prepared.onnx", "quantized.onnx"))
        plain.write_bytes(content)
        try:
            # Shapes, and what is constant: without them the operations around convolutions stay in floats
            tool.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            tool.quantize_static(
                prepared,
                made,
                Reader(),
                quant_format=tool.QuantFormat.QDQ,
                per_channel=True,
                activation_type=tool.QuantType.QUInt8,
                weight_type=tool.QuantType.QInt8,
                reduce_range=weight_bits == 7,
            )
        except Exception as error:  # the package raises whatever its parts raise
            raise MlcliError(f"--int8: this network cannot be quantized: {reason(error)}") from None
        return made.read_bytes()


def weight_bits_here() -> int:
    """The most bits of weights with which ONNX Runtime's sums are right on this processor: tried out once."""
    return 8 if _sums_are_right() else 7


@cache
def _sums_are_right() -> bool:
    onnxruntime = optional_packages.onnxruntime()
    from onnx import TensorProto, helper

    terms = 64
    weights = helper.make_tensor("weights", TensorProto.INT8, (terms, 16), np.full(terms * 16, 127, np.int8))
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["values", "weights"], ["sums"])],
        "sums",
        [helper.make_tensor_value_info("values", TensorProto.UINT8, (1, terms))],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, (1, 16))],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"values": np.full((1, terms), 255, np.uint8)})
    return bool((sums == terms * 127 * 255).all())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the package logs."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
