"""What every function of the api does around its work: limits of options, messages, what was left out."""

import logging
import math
from dataclasses import dataclass

import pytest

import mlcli
from mlcli.api.call import Config
from mlcli.errors import UsageError
from mlcli.options import option
from tests.tiny import class_folders


@dataclass(frozen=True, kw_only=True)
class Limited(Config):
    weight: float = option(1.0, "Weight of the loss.", minimum=0, maximum=10)
    weights: tuple[float, ...] = option((), "Weights of the losses.", minimum=0)
    kind: str = option("a", "Kind of the loss.", choices=("a", "b"))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"weight": -1}, "weight -1: take a number from 0 to 10"),
        ({"weight": 11}, "weight 11"),
        ({"weight": math.nan}, "weight nan"),
        ({"weights": [1, -2]}, "weights -2: take a number at least 0"),
        ({"kind": "c"}, "kind c: take one of a, b"),
    ],
)
def test_values_outside_their_limits_are_refused(given, message):
    assert Limited(weight=10, weights=[0, 3], kind="b").kind == "b"
    with pytest.raises(UsageError, match=message):
        Limited(**given)


def test_what_is_left_out_is_logged(tmp_path, caplog):
    photos = class_folders(tmp_path / "photos", per_class=1)
    (photos / "notes.txt").write_text("no image")
    with caplog.at_level(logging.INFO, "mlcli"):
        mlcli.classify(photos, model="cifarnet")
    assert [record.message for record in caplog.records] == ["classify: 3 images read; left out: 1 other file (1 .txt)"]
    (photos / "blue" / "bad.png").write_bytes(b"bad")
    with caplog.at_level(logging.WARNING, "mlcli"):
        result = mlcli.classify(photos, model="cifarnet")
    assert result.failures == 1 and "bad.png" in caplog.records[-1].message
