"""Outputs that another process claims at the same moment."""

import os
from unittest import mock

import pytest

from mlcli.api import outputs
from mlcli.errors import BusyError, RunError, UsageError
from mlcli.training.run_folder import Run


def busy(*_, **__):
    raise BusyError("another process is working on it")


@pytest.mark.parametrize("locked, error", [((False, True), BusyError), ((False, False), UsageError)])
def test_a_folder_that_another_process_begins_to_fill_is_busy(locked, error, tmp_path, monkeypatch):
    """Between the question whether it is locked and the look into it."""
    (tmp_path / "half").touch()
    monkeypatch.setattr(outputs.locks, "is_locked", mock.Mock(side_effect=locked))
    monkeypatch.setattr(outputs.locks, "folder_locked", busy)
    with pytest.raises(error):
        outputs.claim_folder(mock.Mock(), tmp_path, lambda: outputs.refuse_existing_folder(tmp_path, False))


@pytest.mark.parametrize("check", [outputs.refuse_existing_folder, lambda *given: Run(given[0]).check_free(given[1])])
@pytest.mark.parametrize("before", ["isdir", "lexists"])
def test_a_folder_that_another_process_makes_is_no_file(before, check, tmp_path, monkeypatch):
    """It is made right before one of the questions about it."""
    out, real = tmp_path / "out", getattr(os.path, before)

    def made_meanwhile(path):
        if str(path) == str(out):
            out.mkdir(exist_ok=True)
        return real(path)

    monkeypatch.setattr(os.path, before, made_meanwhile)
    check(out, False)
    (tmp_path / "file").touch()
    with pytest.raises((UsageError, RunError), match="a file"):
        check(tmp_path / "file", False)
