"""Collections are put off while a command starts, and no longer."""

import gc

from mlcli.commands._report import Printer
from mlcli.runtime import garbage


def test_collections_are_as_usual_once_a_command_works():
    try:
        garbage.collect_seldom()
        assert gc.get_threshold() == (100_000, *garbage.USUAL[1:])
        with Printer(quiet=True).progress(1, "classify", 0) as task:
            assert gc.get_threshold() == garbage.USUAL
            task.to(1)
    finally:
        garbage.collect_as_usual()


def test_a_command_starts_with_collections_put_off(monkeypatch):
    from mlcli import cli

    seen = []
    monkeypatch.setattr(cli, "build", lambda wanted: lambda prog_name: seen.append(gc.get_threshold()[0]))
    try:
        cli.command()
    finally:
        garbage.collect_as_usual()
    assert seen == [100_000]
