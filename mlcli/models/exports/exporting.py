"""The way from a subject to a checked file: encoded, quantized, compared with the original, written."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mlcli.errors import MlcliError
from mlcli.models.exports import onnx_file, openvino_file
from mlcli.models.exports.agreement import LARGEST_DIFFERENCE, LEAST_AGREEMENT, Agreement, compare
from mlcli.models.exports.files import OPENVINO
from mlcli.models.exports.subject import Subject
from mlcli.runtime import optional_packages


@dataclass(frozen=True)
class Exported:
    """An exported file.

    description: what it says of itself.  agreement: with the original.  bytes: of it, and of the weights beside it.
    """

    file: Path
    description: dict[str, Any]
    agreement: Agreement
    bytes: int


def require_packages(file: Path, *, int8: bool = False) -> None:
    """Raise UsageError where a package is missing that writes or checks such a file."""
    is_openvino = file.suffix.lower() == OPENVINO
    if is_openvino:
        optional_packages.require("openvino", f"-o {file.name}")
    if int8 or not is_openvino:
        optional_packages.require("onnx", "--int8" if int8 else f"-o {file.name}")


def export(
    subject: Subject,
    file: Path,
    *,
    check: Iterable[Tensor] = (),
    calibrate: Sequence[Tensor] = (),
    weight_bits: int | None = None,
    least_agreement: float | None = None,
) -> Exported:
    """Write a subject to FILE.onnx or FILE.xml, after its outputs have been compared with the original's.

    check, calibrate: images, as the network takes them, each a batch. With some to calibrate on, the file is quantized
    to 8-bit integers, its weights to `weight_bits` (default the most for this processor), and is refused below
    `least_agreement`; one in fp32 is refused below LEAST_AGREEMENT and above LARGEST_DIFFERENCE. Without images to
    check on, random inputs are. Raises MlcliError for what cannot be exported, and where the outputs differ by more; no
    file is written then.
    """
    content = onnx_file.encoded_subject(subject)
    description = onnx_file.description_of(subject) | {"quantized": bool(calibrate)}
    if calibrate:
        from mlcli.models.exports.quantization import quantized, weight_bits_here

        weight_bits = weight_bits or weight_bits_here()
        description |= {"weight_bits": weight_bits}
        content = quantized(content, calibrate, weight_bits)
    content = onnx_file.described(content, description)
    is_openvino = file.suffix.lower() == OPENVINO
    run = openvino_file.OpenVinoRunner(content) if is_openvino else onnx_file.OnnxRunner(content)
    # Random inputs are two at a time, images one at a time: the batch must be free
    example = tuple(subject.inputs.values())
    agreement = compare(subject, run, [example, tuple(each[:1] for each in example)], images=False)
    if not calibrate:
        _refuse(agreement, file, LEAST_AGREEMENT, LARGEST_DIFFERENCE)
    images = [(batch,) for batch in check]
    if images:
        agreement = compare(subject, run, images, images=True)
        least = LEAST_AGREEMENT if not calibrate else least_agreement or 0.0
        _refuse(agreement, file, least, float("inf") if calibrate else LARGEST_DIFFERENCE)
    description |= {"checked": agreement.as_json()}
    if is_openvino:
        openvino_file.write(file, content, json.dumps(description, ensure_ascii=False))
        size = file.stat().st_size + openvino_file.weights_beside(file).stat().st_size
    else:
        onnx_file.write(file, onnx_file.described(content, description))
        size = file.stat().st_size
    return Exported(file, description, agreement, size)


def _refuse(agreement: Agreement, file: Path, least: float, largest: float) -> None:
    """Raise MlcliError where a file differs by more from its original than it may."""
    if not agreement.difference <= largest:
        raise MlcliError(
            f"{file}: its output would differ from the original's by {agreement.difference:.1e}, and the limit is "
            f"{largest:.0e}; not written"
        )
    if not agreement.agreement >= least:
        raise MlcliError(
            f"{file}: its output would agree with the original's by {agreement.agreement:.2%} ({agreement.measure}), "
            f"and the limit is {least:.1%}; not written"
        )
