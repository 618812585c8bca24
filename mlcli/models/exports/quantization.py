"""An ONNX network in 8-bit integers: static quantization, calibrated on images.

Weights have a scale for each channel, activations one for the whole tensor, from their range on the images (Nagel et
al. 2021). The result is an ONNX file with pairs of QuantizeLinear and DequantizeLinear, which ONNX Runtime and OpenVINO
compute in integers.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mlcli.errors import MlcliError, reason
from mlcli.models.exports.subject import IMAGES
from mlcli.runtime import optional_packages


def quantized(content: bytes, images: Sequence[Tensor]) -> bytes:
    """The content of an ONNX file with its network quantized. Raises MlcliError where that cannot be done.

    images: to calibrate on, each a batch as the network takes it.
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
                # 7 bits for weights: with 8 the sums of pairs overflow on processors without VNNI
                reduce_range=True,
            )
        except Exception as error:  # the package raises whatever its parts raise
            raise MlcliError(f"--int8: this network cannot be quantized: {reason(error)}") from None
        return made.read_bytes()


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
