"""ONNX files: written from a network, described in their metadata, and run by ONNX Runtime."""

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.errors import MlcliError, WeightsError, reason
from mlcli.io import schema
from mlcli.io.files import atomic_write
from mlcli.models.exports.adaptive_pooling import PoolingByProducts
from mlcli.models.exports.fixed_padding import FixedPadding
from mlcli.models.exports.subject import Subject
from mlcli.runtime import optional_packages

OPSET = 18
METADATA_KEY = "mlcli"
DESCRIPTION_FORMAT = 1


def encoded(
    network: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    free: dict[str, dict[int, str]],
) -> bytes:
    """A network as the content of an ONNX file. Raises MlcliError where an operation has no counterpart in ONNX."""
    one_size = not any(axis > 1 for axes in free.values() for axis in axes)
    network.eval()  # the exporter puts it back into the mode that it had, and its parts with it
    content = io.BytesIO()
    try:
        with (
            warnings.catch_warnings(),
            _without_log(),
            PoolingByProducts(),
            FixedPadding() if one_size else nullcontext(),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")  # the exporter's remarks on tracing; what counts is measured afterwards
            torch.onnx.export(
                network,
                tuple(inputs.values()),
                content,  # type: ignore[arg-type]  # streams are taken too, which the annotation leaves out
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # whatever an exporter raises for what it cannot express
        raise MlcliError(f"ONNX has no form for this network: {reason(error)}") from None
    return content.getvalue()


@contextmanager
def _without_log() -> Iterator[None]:
    """Where an operation has no counterpart, the exporter prints the whole graph to stdout, whatever it is told."""
    log = getattr(torch._C, "_jit_onnx_log", None)  # of no public interface: a later torch may lack it
    if log is None:
        yield
        return
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


def encoded_subject(subject: Subject) -> bytes:
    """A subject with its description as the content of an ONNX file."""
    free = {name: dict(axes) for name, axes in subject.free.items()}
    return described(encoded(subject.network, dict(subject.inputs), subject.outputs, free), description_of(subject))


def description_of(subject: Subject) -> dict[str, Any]:
    """What a file says of itself."""
    return {
        "format": DESCRIPTION_FORMAT,
        "kind": subject.kind,
        "opset": OPSET,
        "inputs": list(subject.inputs),
        "outputs": list(subject.outputs),
        **subject.description,
    }


def described(content: bytes, description: dict[str, Any]) -> bytes:
    """The content of an ONNX file with a description among its metadata."""
    import onnx

    graph = onnx.load_from_string(content)
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(description, ensure_ascii=False)})
    return graph.SerializeToString()


def write(file: Path, content: bytes) -> None:
    """Write an ONNX file, whole or not at all."""
    with atomic_write(file) as temporary:
        temporary.write_bytes(content)


def parsed(text: str, file: Path) -> dict[str, Any]:
    """A description as a file holds it. Raises WeightsError where it is damaged or of a later version."""
    try:
        found = dict(schema.loads(text, schema.mapping()))
    except schema.Invalid as error:
        raise WeightsError(f"{file}: its description is damaged ({error})") from None
    if found.get("format", DESCRIPTION_FORMAT) != DESCRIPTION_FORMAT:
        raise WeightsError(f"{file}: is of another version of exported files than this mlcli reads; export it again")
    return found


class OnnxRunner:
    """An ONNX file, or the content of one, that ONNX Runtime runs on the processor.

    description: what the file says of itself; empty for a file that this tool did not write.
    shapes: of the inputs, a text in place of each free dimension.  names: of the outputs.
    """

    def __init__(self, file: Path | bytes, threads: int | None = None):
        """Raises WeightsError for a file that ONNX Runtime does not load."""
        runtime = optional_packages.onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors alone, which are raised too
        try:
            given = file if isinstance(file, bytes) else str(file)
            self.session = runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has an exception of its own for each kind of damage
            name = "the exported network" if isinstance(file, bytes) else str(file)
            raise WeightsError(f"{name}: ONNX Runtime cannot load it: {reason(error)}") from None
        text = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.description = {} if text is None else parsed(text, Path("") if isinstance(file, bytes) else file)
        self.shapes = {each.name: tuple(each.shape) for each in self.session.get_inputs()}
        self.types = {each.name: each.type for each in self.session.get_inputs()}
        self.names = tuple(each.name for each in self.session.get_outputs())

    def __call__(self, *inputs: Tensor, outputs: Sequence[str] | None = None) -> list[Tensor]:
        """Inputs in order -> outputs in order, or those named."""
        given = {name: tensor.contiguous().numpy() for name, tensor in zip(self.shapes, inputs, strict=True)}
        wanted = list(outputs or self.names)
        return [torch.from_numpy(array) for array in self.session.run(wanted, given)]
