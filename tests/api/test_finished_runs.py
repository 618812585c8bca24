"""A finished run says so at once, and works again where something has changed."""

import os
import shutil

import pytest

from mlcli.api.train import train
from mlcli.errors import RunError, UsageError
from tests.tiny import class_folders

QUICK = {"epochs": 2, "model": "smallnet", "batch_size": 6, "precision": "fp32"}


@pytest.fixture
def data(tmp_path):
    return class_folders(tmp_path / "data", per_class=6)


@pytest.fixture
def run(data, tmp_path):
    train(data, output=tmp_path / "run", val=0.3, schedule="constant", **QUICK)
    return tmp_path / "run"


@pytest.fixture
def decoded(monkeypatch):
    """How many times a data set has been decoded since."""
    from mlcli.api import runs

    count, read = [], runs.read_images

    def counting(*arguments):
        count.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(runs, "read_images", counting)
    return count


def contents(run):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file()}


def test_a_finished_run_is_told_by_its_files(data, run, decoded):
    before = contents(run)
    result = train(data, output=run, resume=True)
    assert result.metrics.keys() >= {"loss", "val_accuracy"} and result.folder == run
    assert train(str(data), output=str(run), resume=True, val=0.3, batch_size=6) == result
    assert not decoded and contents(run) == before


def test_data_elsewhere_are_compared_by_their_contents(data, run, decoded, tmp_path):
    shutil.copytree(data, tmp_path / "copy")
    result = train(tmp_path / "copy", output=run, resume=True)
    assert len(decoded) == 2 and result.metrics.keys() >= {"loss", "val_accuracy"}
    train(tmp_path / "copy", output=run, resume=True)
    assert len(decoded) == 2, "these are known now"


def test_an_image_that_has_changed_is_not_passed_over(data, run):
    file = next((data / "red").iterdir())
    status = file.stat()
    content = bytearray(file.read_bytes())
    file.write_bytes(next((data / "blue").iterdir()).read_bytes()[: len(content)].ljust(len(content), b"0"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(RunError, match="the training data have changed"):
        train(data, output=run, resume=True)


def test_a_run_that_lacks_something_is_finished_again(data, run, decoded):
    model = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").unlink()
    train(data, output=run, resume=True)
    assert decoded and (run / "model.safetensors").read_bytes() == model


def test_a_longer_run_resumes_and_other_options_are_refused(data, run, decoded):
    with pytest.raises(UsageError, match="was started with lr"):
        train(data, output=run, resume=True, lr=0.5)
    assert not decoded
    longer = train(data, output=run, resume=True, epochs=3)
    assert decoded and (run / "state").exists()
    decoded.clear()
    assert train(data, output=run, resume=True) == longer and not decoded


def test_what_other_commands_leave_beside_the_images_is_no_change(data, run, decoded):
    (data / "blue" / ".vectors-0.safetensors").write_bytes(b"an index")
    (data / ".cache").mkdir()
    (data / ".cache" / "any.png").write_bytes(b"")
    train(data, output=run, resume=True)
    assert not decoded
    shutil.copy(data / "blue" / "00.png", data / "blue" / "more.png")
    with pytest.raises(RunError, match="have changed"):
        train(data, output=run, resume=True)
