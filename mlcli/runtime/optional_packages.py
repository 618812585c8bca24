"""The optional packages that write and run exported files, imported without their telemetry."""

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from mlcli.errors import UsageError

EXTRAS = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}


def missing(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def require(extra: str, option: str) -> None:
    """Raise UsageError where a package of the extra is not installed. option: what needs it, for the message."""
    absent = missing(extra)
    if absent:
        raise UsageError(f"{option} needs {', '.join(absent)}: pip install {' '.join(absent)}")


def onnxruntime() -> ModuleType:
    """ONNX Runtime, which otherwise sends figures to its maker, and keeps files in the user's cache."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("onnxruntime")


def openvino() -> ModuleType:
    """OpenVINO, whose import otherwise writes an identifier into the home folder and sends an event to its maker.

    Without the package of its telemetry it takes a stub of its own in place of it.
    """
    if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's way to forbid an import
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules["openvino_telemetry"]
    return importlib.import_module("openvino")
