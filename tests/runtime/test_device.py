"""Device and precision."""

import platform
import subprocess
import sys

import pytest
import torch

from mlcli.errors import UsageError
from mlcli.runtime import device as runtime
from mlcli.runtime.device import Runtime

CPU = torch.device("cpu")


def test_auto_takes_bf16_only_where_the_processor_has_it(monkeypatch):
    for capabilities, precision in (
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_f": True}, "fp32"),
        ({}, "fp32"),
    ):
        monkeypatch.setattr(runtime, "cpu_capabilities", lambda found=capabilities: found)
        assert Runtime.choose("cpu", "auto").precision == precision


@pytest.mark.parametrize(
    "device, precision",
    [("tpu", "auto"), ("cuda:99", "auto"), ("cpu", "fp16"), ("cpu", "fp8"), ("meta", "auto"), ("", "auto")],
)
def test_what_cannot_be_had_is_said(device, precision):
    with pytest.raises(UsageError, match="--device|--precision"):
        Runtime.choose(device, precision)


def test_depthwise_convolutions_learn_in_fp32_on_a_cpu_unless_another_precision_is_asked_for():
    depthwise = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=4))
    bf16 = Runtime(CPU, "bf16")
    assert bf16.for_training_of(depthwise, "auto").precision == "fp32"
    assert bf16.for_training_of(depthwise, "bf16") == bf16
    assert bf16.for_training_of(torch.nn.Conv2d(4, 4, 3, groups=2), "auto") == bf16
    assert bf16.for_training_of(torch.nn.Conv2d(1, 4, 3), "auto") == bf16
    cuda = Runtime(torch.device("cuda"), "bf16")
    assert cuda.for_training_of(depthwise, "auto") == cuda


def test_training_refuses_half_precision():
    with pytest.raises(UsageError, match="fp16 loses small gradients"):
        Runtime(CPU, "fp16").for_training()
    assert Runtime(CPU, "bf16").for_training() == Runtime(CPU, "bf16")


def test_autocast_is_the_precision():
    product = {}
    for precision in ("fp32", "bf16"):
        with Runtime(CPU, precision).autocast():
            product[precision] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert product == {"fp32": torch.float32, "bf16": torch.bfloat16}


FAULTS = """
import ctypes, resource, sys
from mlcli.runtime.device import Runtime
if sys.argv[1] == "keep":
    Runtime.choose("cpu", "fp32")
libc, size = ctypes.CDLL(None), 64 << 20
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use():
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other allocators")
def test_memory_of_a_batch_is_kept_for_the_next():
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") * 20 < faults("plain"), "64 MB ten times over: mapped again each time, or only once"


def test_one_thread_and_then_as_many_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyError), runtime.one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
