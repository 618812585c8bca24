"""The plan of a training: its length, and the order of the data."""

import torch

from tests.linear_fit import plan


def test_each_epoch_shows_every_item_once_in_another_order():
    chosen = plan(epochs=3)
    epochs = [torch.cat([chosen.indices(step) for step in range(e * 5, e * 5 + 5)]) for e in range(3)]
    for order in epochs:
        assert sorted(order.tolist()) == list(range(40))
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[1], epochs[2])
    assert torch.equal(chosen.indices(7), plan(epochs=3).indices(7)), "a function of (seed, step) alone"
    assert not torch.equal(chosen.indices(7), plan(epochs=3, seed=4).indices(7))


def test_a_batch_larger_than_the_data_is_the_data():
    assert plan(batch_size=100).batch_size == 40
    assert plan(batch_size=100).steps == 6


def test_the_remainder_of_an_epoch_is_left_out():
    chosen = plan(batch_size=12)
    assert chosen.steps_per_epoch == 3 and chosen.steps == 18
    assert plan(max_steps=4).steps == 4
