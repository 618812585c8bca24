"""The example of each command in `mlcli --help` runs."""

import pytest

from mlcli.commands import COMMANDS
from tests.docs.code_blocks import Block
from tests.docs.regenerate import ROOT


@pytest.mark.parametrize("number, command", list(enumerate(COMMANDS, 1)), ids=[command.name for command in COMMANDS])
def test_it_runs(number, command, run_example):
    run_example(Block(ROOT / "help", number, "sh", command.example, ""), 0)
