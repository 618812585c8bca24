"""The options of a run in its report: by their command-line names, without those of no effect."""

from pathlib import Path

from mlcli.api import option_tables
from mlcli.api.siamese_train import SiameseTrainConfig
from mlcli.options import options


def rows(command, **values):
    tables = option_tables.option_section(command, values).items
    return {table.title: dict(table.rows) for table in tables}


def test_options_are_under_the_headings_of_the_help_by_their_names_there():
    found = rows("train", data="photos", output="run", batch_size=64, lr=0.0123456789, flip=False, val=None, gray=True)
    assert found == {
        "Arguments": {"DATA": "photos"},
        "Data": {"--gray": "on"},
        "Method": {"--flip": "off"},
        "Training": {"--batch-size": "64", "--lr": "0.0123457"},
        "Output": {"--output": "run"},
    }


def test_options_of_no_effect_are_left_out():
    assert "--epochs" not in rows("train", epochs=30, steps=5)["Training"]
    assert "--epochs" in rows("train", epochs=30, steps=None)["Training"]
    assert rows("gan", loss="hinge", gradient_penalty=10.0) == {"Method": {"--loss": "hinge"}}
    assert "--gradient-penalty" in rows("gan", loss="wasserstein", gradient_penalty=10.0)["Method"]
    pixel = rows("pix2pix", discriminator="pixel", layers=3, overwrite=True, resume=True)
    assert pixel == {"Network": {"--discriminator": "pixel"}}
    assert rows("pretext", task="rotation", permutations=30, probe=None, labels=9) == {"Method": {"--task": "rotation"}}
    assert rows("pretext", task="jigsaw", permutations=30)["Method"]["--permutations"] == "30"
    whole = {"freeze": "all", "lr": 3e-4, "optimizer": "adamw", "schedule": "cosine", "momentum": 0.85}
    assert rows("finetune", **whole) == {"Method": {"--freeze": "all"}}
    tuned = rows("finetune", **whole | {"freeze": "conv3"})
    assert tuned["Training"] == {"--lr": "0.0003"}
    assert tuned["Set by the method"] == {"optimizer": "adamw", "schedule": "cosine"}, "momentum is of other optimizers"


def test_a_solved_metric_has_no_options_of_training():
    every = {each.name: each.default for each in options(SiameseTrainConfig) if each.default is not None}
    solved = rows("siamese-train", **every | {"loss": "fisher", "layer": "conv2"})
    names = {name for table in solved.values() for name in table}
    assert {"--loss", "--layer", "--val", "--flip"} <= names
    assert not names & {"--steps", "--lr", "--softmax-scale", "--rotation", "--precision", "--identities"}
    trained = {name for table in rows("siamese-train", **every).values() for name in table}
    assert {"--steps", "--softmax-scale", "--precision"} <= trained and "--margin" not in trained


def test_a_stage_which_is_no_command_has_its_settings():
    found = rows("adapt (a stage of the run in ../..)", stage="target", seed=3, weights=None, paths=[Path("a"), 2])
    assert found == {"": {"stage": "target", "seed": "3", "paths": "a, 2"}}
