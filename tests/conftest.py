import os
import signal
import sys
import tempfile

import pytest

# A shell starts a job in the background with SIGINT ignored, nohup one with SIGHUP, which the processes that tests
# interrupt would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Before torch is imported, which reads this once. Tests run in several processes, which share the cores; and some fork
# their process, which hangs in the fork where OpenMP has threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Indexes go to the user's cache, which for tests is another than that of whoever runs them; what libraries keep there
# stays where it is.
CACHE = tempfile.TemporaryDirectory(prefix="mlcli-tests-")
for variable, folder in {"MPLCONFIGDIR": "matplotlib", "TORCH_HOME": "torch", "HF_HOME": "huggingface"}.items():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault(variable, os.path.join(home, folder))
os.environ["XDG_CACHE_HOME"] = CACHE.name

# The figures in the tests are a processor's. tests/test_cuda.py, named by itself, finds the GPUs; and so do all tests
# where the variable is set.
if "PYTEST_XDIST_WORKER" not in os.environ and not any("test_cuda" in word for word in sys.argv):
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module", autouse=True)
def charts_left_out():
    """Charts are left out; a module or a folder that is about charts has a fixture of this name that leaves them in."""
    from tests import quick_charts  # imports torch, for which the environment is set above

    with quick_charts.left_out():
        yield


@pytest.fixture(scope="session", autouse=True)
def only_work_of_minutes_says_its_progress():
    """Else what a command says depended on how slow the machine is. Tests of progress have a clock of their own."""
    from mlcli.commands._report import Progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "FIRST_SECONDS", 600.0)
        yield
