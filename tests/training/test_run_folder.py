"""The run folder: states that survive tearing, folders that are not overwritten, self-describing models."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mlcli.errors import MlcliError, RunError
from mlcli.io import files
from mlcli.training import run_folder
from mlcli.training.run_folder import Run, save_tensors


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    run.create({"command": "train", "options": {"lr": 0.1}})
    return run


def states(run: Run) -> list:
    return sorted(run.state_folder.iterdir())


def test_the_last_two_states_are_kept(run):
    for step in (3, 20, 100):
        run.save_state(step, {"value": torch.tensor(step)})
    assert [file.name[:13] for file in states(run)] == ["step-00000020", "step-00000100"]
    assert run.load_state()["step"] == 100


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_torn_state_falls_back_to_the_one_before(run, damage):
    for step in (1, 2):
        run.save_state(step, {"value": torch.arange(1000) * step})
    content = bytearray(states(run)[-1].read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    states(run)[-1].write_bytes({"cut": content[: len(content) // 2], "flip": content, "empty": b""}[damage])
    loaded = run.load_state()
    assert loaded["step"] == 1 and torch.equal(loaded["value"], torch.arange(1000))


def test_no_whole_state_is_an_error_and_no_state_is_none(run):
    assert run.load_state() is None
    run.save_state(1, {"value": 1})
    states(run)[0].write_bytes(b"torn")
    with pytest.raises(RunError, match="none of the saved states is whole"):
        run.load_state()


def test_a_folder_with_other_files_is_never_taken(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="neither empty nor a run"):
            Run(tmp_path).check_free(overwrite)
    with pytest.raises(RunError, match="is a file"):
        Run(tmp_path / "letter.txt").check_free(True)


def test_a_run_is_replaced_only_with_overwrite(run):
    run.log(1, {"loss": 1.0})
    run.save_state(1, {})
    (run.folder / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="--resume"):
        run.check_free(False)
    run.check_free(True)
    run.create({"command": "train", "options": {"lr": 0.2}})
    assert run.load_config()["options"] == {"lr": 0.2}
    assert run.metrics() == [] and run.load_state() is None
    assert (run.folder / "notes.txt").read_text() == "mine", "a file that training did not write stays"


def test_a_replaced_run_takes_its_parts_along_and_nothing_else(run):
    part, other = run.part("seed-0", "source"), Run(run.folder / "another")
    for each in (part, other):
        each.create({"command": "train"})
        each.log(1, {"loss": 1.0})
        each.model_file.write_text("weights")
    foreign = run.folder / "seed-0" / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("[1, 2]")
    mine = [run.folder / "grid.png", foreign / "model.safetensors", part.folder / "notes.txt"]
    for file in (*mine, run.misclassified_file, run.results_file):
        file.write_text("{}")
    run.create({"command": "train"})
    assert all(file.exists() for file in (*mine, foreign / "config.json", other.model_file, other.metrics_file))
    assert not run.misclassified_file.exists() and run.results() == {}
    assert [file.name for file in part.folder.iterdir()] == ["notes.txt"]
    (part.folder / "notes.txt").unlink()
    part.create({"command": "train"})
    run.create({"command": "train"})
    assert not part.folder.exists()


def test_what_a_kill_leaves_behind_does_not_stand_in_the_way(tmp_path):
    run = Run(tmp_path / "run")
    run.state_folder.mkdir(parents=True)
    (run.folder / ".mlcli-12-ab.json").write_text("{")
    (run.state_folder / ".mlcli-12-ab.pt").write_text("half")
    run.check_free(False)
    run.create({"command": "train"})
    assert run.exists()
    run.sweep()
    assert not list(tmp_path.rglob(".mlcli-*"))


def test_a_third_state_that_a_kill_left_goes(run):
    for step in (1, 2):
        run.save_state(step, {"value": step})
    (run.state_folder / "step-00000000.0.pt").write_bytes(b"one more")
    run.sweep()
    assert [file.name[:13] for file in states(run)] == ["step-00000001", "step-00000002"]


def test_a_run_that_may_not_be_written_to(run, monkeypatch):
    run.check_writable()
    monkeypatch.setattr(files.tempfile, "TemporaryFile", lambda dir: denied(dir))
    with pytest.raises(MlcliError, match="config.json: cannot be written: Permission denied; choose a folder"):
        run.check_writable()
    monkeypatch.undo()
    run.log(1, {"loss": 1.0})
    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(MlcliError, match="metrics.jsonl: cannot be written: Permission denied"):
        run.create({"command": "train"})


def denied(path):
    raise PermissionError(13, "Permission denied", str(path))


def test_a_folder_of_another_tool_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Bert"]}')
    (tmp_path / "model.safetensors").write_bytes(b"theirs")
    run = Run(tmp_path)
    assert not run.exists()
    with pytest.raises(RunError, match="neither empty nor a run"):
        run.check_free(True)


def test_a_torn_last_line_of_the_metrics_is_left_out(run):
    run.log(1, {"loss": 1.0})
    with open(run.metrics_file, "a") as file:
        file.write('{"step": 2, "lo')
    assert [line["step"] for line in run.metrics()] == [1]
    run.rewind_metrics(1)
    run.log(2, {"loss": 0.5})
    assert [line["step"] for line in run.metrics()] == [1, 2]


def test_a_broken_config_is_said(run):
    run.config_file.write_text("{")
    with pytest.raises(RunError, match="config.json: cannot be read"):
        run.load_config()
    with pytest.raises(RunError, match="no run here"):
        Run(run.folder / "absent").load_config()


def test_tensors_carry_their_description_and_the_same_bytes(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.ones(2, dtype=torch.float16)}
    description = {"kind": "classifier", "classes": ["é", "b"]}
    for name in ("one", "two"):
        save_tensors(tmp_path / name, tensors, description)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with safe_open(tmp_path / "one", "pt") as file:
        assert json.loads(file.metadata()["mlcli"]) == description
        assert torch.equal(file.get_tensor("b"), tensors["b"])
        assert file.get_tensor("a").dtype == torch.float16


def test_the_stages_of_a_former_run_go_with_it_and_other_folders_stay(tmp_path):
    run = Run(tmp_path / "run")
    run.create({"command": "adapt", "options": {}})
    run.part("seed-0", "source").create({"command": "adapt", "options": {}})
    (run.folder / "seed-0" / "notes").mkdir()
    run.create({"command": "adapt", "options": {}})
    assert not (run.folder / "seed-0" / "source").exists() and (run.folder / "seed-0" / "notes").exists()


def test_a_run_of_an_earlier_format_is_opened_and_not_resumed(tmp_path):
    run = Run(tmp_path / "run")
    run.create({"command": "train", "options": {}, "data": {}})
    run.require_format()
    config = run.load_config()
    assert config.pop("format") == run_folder.FORMAT
    run.config_file.write_text(json.dumps(config))
    assert run.exists() and run.load_config()["command"] == "train"
    with pytest.raises(RunError, match="of format 1, .* resumes format 2; its model can be used.*--overwrite"):
        run.require_format()
