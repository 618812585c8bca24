"""The options that config.json keeps, held against what the command line takes."""

import json

import pytest

from mlcli.api.stored_options import checked
from mlcli.commands import COMMANDS
from mlcli.io.schema import Invalid
from mlcli.methods.learning import configs as learning
from mlcli.methods.metric_learning import configs as metric_learning
from tests.cli import mlcli
from tests.mutations import mutations
from tests.tiny import class_folders

TRAINING = ("train", "finetune", "pretext", "siamese-train", "pix2pix", "cyclegan", "gan", "adapt", "pendulum-train")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data"), per_class=4)


@pytest.mark.parametrize("command", TRAINING)
def test_every_training_command_has_a_check_of_its_options(command):
    assert command in {entry.name for entry in COMMANDS}
    assert checked(command, {"seed": 1, "an option of a later version": [1]})["seed"] == 1
    for bad in ("1", None, 1.5, [1], True):
        with pytest.raises(Invalid, match=r"^options\.seed should be a whole number"):
            checked(command, {"seed": bad})


@pytest.mark.parametrize(
    "option, bad",
    [
        ("epochs", 0),
        ("epochs", "4"),
        ("size", 1.5),
        ("size", -1),
        ("gray", 0),
        ("lr", "high"),
        ("lr", -1),
        ("schedule", "steep"),
        ("optimizer", "adam"),
        ("data", None),
        ("model", 5),
        ("cutmix", 2),
        ("momentum", None),
    ],
)
def test_an_option_that_the_command_line_would_not_take_is_refused(option, bad):
    with pytest.raises(Invalid, match=f"^options.{option} should be "):
        checked("train", {option: bad})


@pytest.mark.parametrize("optimizer", [*learning.OPTIMIZERS, *metric_learning.OPTIMIZERS])
def test_a_default_by_the_model_is_taken_where_the_command_has_no_option_for_it(optimizer):
    """`pretext` has no --optimizer, and that of the model in force, which is another one than siamese-train's."""
    assert checked("pretext", {"optimizer": optimizer})


def test_hyperparameters_without_an_option_are_of_the_kind_of_their_default():
    assert checked("finetune", {"momentum": 0.5, "optimizer": "adamw"})
    for name, bad in (("momentum", "x"), ("optimizer", "x"), ("cutout", {}), ("schedule", 5)):
        with pytest.raises(Invalid, match=f"^options.{name} should be "):
            checked("finetune", {name: bad})


def test_a_damaged_config_is_one_message_and_a_finished_run_stays_one(data, tmp_path):
    run = tmp_path / "run"
    words = ["train", data, "--model", "smallnet", "-o", run, "--steps", 2, "--batch-size", 6, "-q"]
    mlcli(*words)
    whole = (run / "config.json").read_text()
    refused = 0
    for what, changed in mutations({"options": json.loads(whole)["options"]}, ("x", -1)):
        if isinstance(changed, dict) and isinstance(changed.get("options"), dict):
            (run / "config.json").write_text(json.dumps(json.loads(whole) | changed))
            try:
                options = checked("train", changed["options"])
            except Invalid:
                refused += 1
            else:
                assert options == changed["options"], what
    (run / "config.json").write_text(json.dumps(json.loads(whole) | {"options": {"epochs": []}}))
    said = mlcli(*words, "--resume", status=1).stderr
    assert "config.json: cannot be read (options.epochs should be a whole number" in said and "--overwrite" in said
    assert refused > 40
    (run / "config.json").write_text(whole)
    mlcli(*words, "--resume")


def test_a_longer_run_resumes_where_the_learning_rate_is_constant_and_else_says_how(data, tmp_path):
    words = ["train", data, "--model", "smallnet", "--batch-size", 6, "--schedule", "constant", "-q"]
    for folder, epochs in ((tmp_path / "whole", [2]), (tmp_path / "longer", [1, 2])):
        for number in epochs:
            mlcli(*words, "-o", folder, "--epochs", number, "--resume")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "longer")]
    assert weights[0] == weights[1]
    assert json.loads((tmp_path / "longer" / "config.json").read_text())["options"]["epochs"] == 2
    assert (
        "was started with epochs 2"
        in mlcli(*words, "-o", tmp_path / "longer", "--epochs", 1, "--resume", status=2).stderr
    )
    words = ["train", data, "--model", "smallnet", "-o", tmp_path / "falling", "--batch-size", 6, "--epochs", 1, "-q"]
    mlcli(*words)
    for longer in (["--epochs", 8], ["--epochs", 2]):
        said = mlcli(*words[:-3], *longer, "-q", "--resume", status=2).stderr
        assert "goes down over these (one-cycle)" in said
        assert f"mlcli finetune DATA --model {tmp_path / 'falling'} --freeze none -o NEW" in said
