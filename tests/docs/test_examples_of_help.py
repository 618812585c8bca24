"""The example of each command in `mlcli --help` runs."""

import pytest

from mlcli.commands import COMMANDS
from tests.docs.code_blocks import Block
from tests.docs.regenerate import ROOT

BEFORE = {"merge": "for n in 1 2; do mlcli classify photos/ --shard $n/2 -o part-$n.jsonl --format jsonl -q; done"}


@pytest.mark.parametrize("number, command", list(enumerate(COMMANDS, 1)), ids=[command.name for command in COMMANDS])
def test_it_runs(number, command, run_example):
    lines = [*filter(None, [BEFORE.get(command.name)]), command.example]
    run_example(Block(ROOT / "help", number, "sh", "\n".join(lines), ""), len(lines) - 1)
