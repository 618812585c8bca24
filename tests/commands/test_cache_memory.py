"""Training on more images than --cache-memory holds: on disk, they train as in memory."""

import json
from pathlib import Path

import pytest

from mlcli.methods.learning import linear_head
from tests.cli import mlcli
from tests.small_commands import SMALL, make

TRAINING = [name for name, small in SMALL.items() if small.trains and name not in ("adapt", "pendulum-train")]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("files"))


def losses(run: Path) -> list[dict]:
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("command", TRAINING)
def test_on_disk_equals_in_memory(command, files, tmp_path, monkeypatch):
    monkeypatch.setattr(linear_head, "ITERATIONS", 10)
    line = SMALL[command].line(command, files, tmp_path / "memory")
    assert "--cache-memory" not in mlcli(*line).stderr
    said = mlcli(*SMALL[command].line(command, files, tmp_path / "disk"), "--cache-memory", 0).stderr
    assert "more than --cache-memory 0 holds" in said and "GB of them are on disk, in " in said
    for found in sorted((tmp_path / "memory").rglob("model.safetensors")):
        same = tmp_path / "disk" / found.relative_to(tmp_path / "memory")
        assert same.read_bytes() == found.read_bytes()
    hashes = [json.loads((tmp_path / run / "config.json").read_text())["data"] for run in ("memory", "disk")]
    assert hashes[0] == hashes[1]
    if (tmp_path / "memory/metrics.jsonl").exists():
        assert losses(tmp_path / "memory") == losses(tmp_path / "disk")
    # A run is resumed with as much memory as there is then
    finished = mlcli(*SMALL[command].line(command, files, tmp_path / "memory"), "--resume", "--cache-memory", 0)
    assert "done" in finished.stderr


def test_a_domain_must_be_in_memory(files, tmp_path):
    refused = mlcli(*SMALL["adapt"].line("adapt", files, tmp_path / "out"), "--cache-memory", 0, status=1)
    assert "a domain must be in memory" in refused.stderr and "are on disk" not in refused.stderr


def test_masks_of_a_domain_must_be_in_memory(files, tmp_path):
    words = ["--method", "seuda", "--task", "segment", "--source-steps", 2, "--steps", 2, "--cache-memory", 0]
    refused = mlcli("adapt", files / "source-masks", files / "target-masks", *words, "-o", tmp_path / "out", status=1)
    assert "a domain must be in memory" in refused.stderr
