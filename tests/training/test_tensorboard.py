"""Curves that cannot be written; with a stand-in for the package, which is no part of the installation."""

import errno
import sys
from types import SimpleNamespace

import pytest

from mlcli.errors import MlcliError
from mlcli.training.run_folder import Run
from mlcli.training.tensorboard import Curves


class Writer:
    fails = ""

    def __init__(self, folder, purge_step):
        self.call("create")

    def call(self, name):
        if name == self.fails:
            raise OSError(errno.ENOSPC, "No space left on device")

    def add_scalar(self, name, value, step):
        self.call("add")

    def close(self):
        self.call("close")


@pytest.mark.parametrize("call", ["create", "add", "close"])
def test_a_full_disk(tmp_path, monkeypatch, call):
    monkeypatch.setattr(Writer, "fails", call)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    curves = Curves(Run(tmp_path))
    with pytest.raises(MlcliError, match="tensorboard: cannot be written: No space left on device; make room"):
        curves.add(1, {"loss": 1.0})
        curves.close()
