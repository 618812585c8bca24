"""The moving average of weights, by hand."""

import torch
from torch import nn

from mlcli.training.ema import EMA


def linear(value: float) -> nn.Linear:
    network = nn.Linear(2, 1)
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


def test_the_average_by_hand():
    network = linear(1.0)
    average = EMA(network, decay=0.5)
    for step, value in enumerate((2.0, 4.0, -1.0), start=100):
        nn.init.constant_(network.weight, value)
        average.update(network, step)
    # ((1 + 2) / 2 + 4) / 2 = 2.75, (2.75 - 1) / 2
    assert average.network.weight.tolist() == [[0.875, 0.875]]
    assert average.network.bias.item() == 1.0
    assert network.weight[0, 0].item() == -1.0, "the network itself is left alone"


def test_the_first_weights_are_soon_forgotten():
    network = linear(0.0)
    average = EMA(network, decay=0.9999)
    nn.init.constant_(network.weight, 1.0)
    average.update(network, 0)
    assert torch.allclose(average.network.weight, torch.tensor(0.9)), "d = 1/10 at first"
    for step in range(1, 100):
        average.update(network, step)
    assert average.network.weight.min() > 0.9999


def test_running_statistics_are_averaged_and_counters_copied():
    network = nn.BatchNorm2d(1)
    average = EMA(network, decay=0.5)
    network.running_mean.fill_(8.0)
    network.num_batches_tracked.fill_(7)
    average.update(network, 1000)
    assert average.network.running_mean.item() == 4.0 and average.network.num_batches_tracked.item() == 7


def test_it_is_for_evaluation_and_its_state_is_a_networks():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    average = EMA(network.train(), decay=0.9)
    assert not average.network.training and not any(p.requires_grad for p in average.network.parameters())
    assert average.network.state_dict().keys() == network.state_dict().keys()
