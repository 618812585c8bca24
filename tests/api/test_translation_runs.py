"""The options of the functions that train generators are the hyperparameters of their methods."""

from dataclasses import fields

import pytest

from mlcli.api.cyclegan import CycleGANConfig
from mlcli.api.gan import GanConfig
from mlcli.api.pix2pix import Pix2PixConfig
from mlcli.data.pairs import MODES
from mlcli.methods.generation import configs
from mlcli.methods.generation.gan_losses import LOSSES
from mlcli.models import translators
from mlcli.networks.initialization import INITIALIZATIONS
from mlcli.networks.norms import NORMS
from mlcli.networks.upsampling import UPSAMPLINGS
from mlcli.training.schedules import SCHEDULES

TEXTS = {"size", "load_size"}  # are texts on the command line


@pytest.mark.parametrize(
    "options, method",
    [(GanConfig, configs.Gan), (Pix2PixConfig, configs.Pix2Pix), (CycleGANConfig, configs.CycleGAN)],
    ids=lambda kind: kind.__name__,
)
def test_each_hyperparameter_is_an_option_with_the_same_default(options, method):
    known = {field.name: field for field in fields(options)}
    for field in fields(method):
        assert field.name in known
        if field.name not in TEXTS:
            assert known[field.name].default == field.default, field.name
            help = field.metadata.get("option")
            assert not help or known[field.name].metadata["option"] == help, field.name


def test_the_choices_are_those_of_the_registries():
    assert set(configs.LOSSES) == set(LOSSES)
    assert set(configs.GENERATORS) == set(translators.GENERATORS) - {"refiner"}  # of one domain alone
    assert set(configs.NORMS) == set(NORMS) - {"instance-affine"}  # is chosen by the batch size
    assert configs.UPSAMPLINGS == UPSAMPLINGS
    assert set(configs.INITIALIZATIONS) == set(INITIALIZATIONS)
    assert configs.PREPROCESSINGS == MODES
    assert configs.DIRECTIONS == translators.DIRECTIONS
    assert set(configs.SCHEDULES) == set(SCHEDULES) - {"one-cycle"}  # warms up, which Adam needs not
