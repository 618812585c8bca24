"""Hyperparameters that the data decide."""

from dataclasses import replace

import pytest

from mlcli.methods.learning import configs
from mlcli.models import catalog


@pytest.mark.parametrize("architecture, batch_norm", [("cifarnet", True), ("resnet18", True), ("vgg11", False)])
@pytest.mark.parametrize("asked", [25, 1000, 100_000, 10**9])
def test_a_batch_larger_than_the_data_learns_at_the_rate_of_all_of_them(asked, architecture, batch_norm):
    defaults = catalog.training_defaults(architecture)

    def rate(batch_size: int) -> float:
        return configs.supervised({"batch_size": batch_size}, 24, defaults, batch_norm, configs.Supervised).lr

    assert rate(asked) == rate(24) > rate(12) and rate(24) < 0.1
    given = configs.supervised({"batch_size": asked, "lr": 0.5}, 24, defaults, batch_norm, configs.Supervised)
    assert given.lr == 0.5


def test_so_does_one_that_begins_from_known_weights():
    def rate(batch_size: int) -> float:
        return configs.gentler(replace(configs.Supervised(), batch_size=batch_size), None, True, 24).lr

    assert rate(100_000) == rate(24) > rate(12)
