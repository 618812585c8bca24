"""Optional packages keep no files and send nothing."""

import os
import subprocess
import sys

import pytest


def test_openvino_writes_nothing_into_the_home_folder(tmp_path):
    pytest.importorskip("openvino")
    code = "from mlcli.runtime import optional_packages as p; ov = p.openvino(); print(type(ov.Core()).__name__)"
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "XDG_CACHE_HOME")}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "Core\n", done.stderr
    assert list(tmp_path.iterdir()) == []
