"""Models as files that other programs run: ONNX and OpenVINO, written, checked and run."""
