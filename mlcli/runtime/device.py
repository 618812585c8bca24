"""Where and how to compute: device, precision, memory format."""

import contextlib
import ctypes
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mlcli.counting import counted
from mlcli.errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """The device and the precision that a command computes with.

    precision: 'fp32', 'bf16' or 'fp16'; 'auto' has been resolved.
    """

    device: torch.device
    precision: str

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto") -> "Runtime":
        """Resolve the options --device and --precision. Raises UsageError for a device that this machine lacks."""
        chosen = choose_device(device)
        if chosen.type == "cpu":
            keep_memory()
        elif chosen.type == "cuda":
            compute_repeatably()
        return cls(chosen, choose_precision(precision, chosen))

    def for_training(self) -> "Runtime":
        """The same runtime. Raises UsageError for fp16, in which small gradients become zero."""
        if self.precision == "fp16":
            raise UsageError("--precision fp16 loses small gradients; take bf16, fp32 or auto")
        return self

    def for_training_of(self, network: nn.Module, asked: str) -> "Runtime":
        """The runtime to train a network with: fp32 where a CPU would be slower in bf16 and `asked` is 'auto'.

        On a CPU the gradient of a depthwise convolution takes twice as long in bf16, which outweighs what is gained.
        """
        depthwise = any(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in network.modules())
        return replace(self, precision="fp32") if asked == "auto" and self.device.type == "cpu" and depthwise else self

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """A context of mixed precision for the forward pass; it does nothing in fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    @property
    def memory_format(self) -> torch.memory_format:
        """channels_last, measured faster on CPUs in both precisions and on tensor cores; MPS lacks kernels for it."""
        return torch.contiguous_format if self.device.type == "mps" else torch.channels_last


def compute_repeatably() -> None:
    """Make CUDA use algorithms that give the same bits in every run, and compute fp32 with all of its 24 bits.

    By default cuDNN and cuBLAS may use others at each call, and convolutions in fp32 round to the 11 bits of TF32.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first product
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # unknown to torch's stubs
    # torch warns of this one even where it pools to a single value, so that nothing is added up in any order.
    warnings.filterwarnings("ignore", message="adaptive_max_pool2d_backward_cuda does not have a deterministic")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False


def keep_memory() -> None:
    """Make the C library keep freed memory for the next batch, in huge pages where the kernel has them.

    glibc gives every freed block over 32 MB back to the system, so the activations of a batch and the work space of its
    convolutions are mapped, zeroed page by page, and unmapped again at every step: a third or more of the time of a
    training step on a CPU. Call before the first tensor is made. Does nothing with another C library.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first large allocation
    if mallopt := c_library("mallopt"):
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # names and numbers as in malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)
        mallopt(top_pad, 64 << 20)


def trim_memory() -> None:
    """Give free memory back to the system. A long run calls it now and then, against fragmentation."""
    if malloc_trim := c_library("malloc_trim"):
        malloc_trim(0)


def c_library(name: str) -> Callable[..., Any] | None:
    """A function of the C library; None where it has no function of this name (musl, macOS, Windows)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name: 'auto' (CUDA, else MPS, else CPU), 'cpu', 'cuda', 'cuda:N' or 'mps'.

    Raises UsageError for other names and for devices that this machine lacks.
    """
    if name == "auto":
        if torch.cuda.is_available():
            # Under torchrun each process uses the GPU of its local rank.
            rank, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
            if rank >= count:
                raise UsageError(
                    f"--device auto: process {rank + 1} of a machine with {counted(count, 'CUDA device')}; start fewer "
                    "or take cpu"
                )
            return torch.device("cuda", rank)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device {name}: unknown device; take auto, cpu, cuda, cuda:N or mps")
    if device.index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"--device {name}: names one device for several processes; --device cuda gives each its own")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(f"--device {name}: this machine shows {counted(count, 'CUDA device')}; take cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this machine has no MPS device; take cpu or auto")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """The precision of a name; 'auto' is bf16 where the hardware multiplies bf16 natively, else fp32.

    Raises UsageError for other names, and for fp16 on a CPU.
    """
    if name == "auto":
        return "bf16" if native_bf16(device) else "fp32"
    if name not in DTYPES:
        raise UsageError(f"--precision {name}: take auto, fp32, bf16 or fp16")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU; on a CPU take bf16, fp32 or auto")
    return name


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware has bf16 arithmetic; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = cpu_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def cpu_capabilities() -> dict[str, Any]:
    """The instruction sets of this processor, as torch reports them; empty where this version cannot."""
    query = getattr(torch.cpu, "get_capabilities", None)
    return dict(query()) if query else {}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A context in which torch uses one thread: for work on many images at a time, each in a thread of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
