from dataclasses import replace

import pytest
import torch

from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.swing_up import least_torque, swings_up


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_least_torque_suffices_and_less_does_not(damping):
    pendulum = Pendulum(damping=damping)
    least = least_torque(pendulum)
    tried = torch.tensor([0.99, 1.0, 1.01], dtype=torch.float64) * least
    assert swings_up(pendulum, tried).tolist() == [False, True, True]


def test_it_scales_with_the_pendulum():
    small = Pendulum()
    assert least_torque(small) == pytest.approx(0.46, abs=0.01)
    assert least_torque(small.similar(8, 4, 10)) == pytest.approx(32 * least_torque(small), rel=1e-6)
    assert least_torque(replace(small, time_step=0.5)) < least_torque(small)  # the episode is longer
