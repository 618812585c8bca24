"""The lines of Python that the docstrings of the functions show. Those of the pages run in tests/docs."""

import doctest
import importlib
from pathlib import Path

import pytest

from mlcli import api

ROOT = Path(__file__).parents[2]


@pytest.fixture
def beside_samples(tmp_path, monkeypatch):
    """A working folder that has the samples and may be written to."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sorted(api.names()))
def test_the_lines_of_a_docstring_run(name, beside_samples):
    module = importlib.import_module(f"mlcli.api.{name}")
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(module, name), name)
    assert any(f"mlcli.{name}(" in line.source for line in example.examples), "no call of the function is shown"
    runner = doctest.DocTestRunner(verbose=False)
    said = []
    runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)
