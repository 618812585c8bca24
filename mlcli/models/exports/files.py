"""How exported files are named."""

ONNX, OPENVINO = ".onnx", ".xml"


def is_exported(name: str) -> bool:
    """Whether a name of a model is that of an exported file."""
    return name.lower().endswith((ONNX, OPENVINO))
