"""Domains in memory: an order that names do not change, subsets by the seed, pairs of two of them."""

from pathlib import Path

import torch

from mlcli.engine.domains import Domain, Unpaired
from mlcli.engine.runtime import generator


def some(count: int = 12, seed: int = 0) -> Domain:
    pictures = torch.randint(256, (count, 1, 4, 4), generator=generator(seed)).to(torch.uint8)
    return Domain(pictures, [Path(f"{number}.png") for number in range(count)], torch.arange(count))


def test_the_order_is_that_of_the_pictures_whatever_their_names():
    whole = some()
    mixed = torch.randperm(12, generator=generator(1))
    renamed = Domain(whole.pictures[mixed], [Path(f"other/{number}.png") for number in range(12)], whole.labels[mixed])
    assert not torch.equal(whole.pictures, renamed.pictures)
    ours, theirs = whole.in_order(), renamed.in_order()
    assert torch.equal(ours.pictures, theirs.pictures) and torch.equal(ours.labels, theirs.labels)
    assert ours.digest() == theirs.digest() != whole.digest()
    place = int(ours.labels[0])
    assert torch.equal(ours.pictures[0], whole.pictures[place]) and ours.names(torch.tensor([0])) == [f"{place}.png"]


def test_subsets_go_by_the_seed_alone():
    whole = some()
    first, same, other = whole.subset(5, 1), whole.unlabelled().subset(5, 1), whole.subset(5, 2)
    assert torch.equal(first.pictures, same.pictures) and same.labels is None
    assert not torch.equal(first.labels, other.labels) and len(first.labels.unique()) == 5
    assert whole.subset(None, 1) is whole and whole.subset(99, 1) is whole


def test_an_index_shows_the_same_picture_of_a_and_a_drawn_one_of_b():
    a, b = some(4), some(9, 1)
    both = Unpaired(a, b)
    indices, drawn = torch.arange(9), torch.full((1, 9), 0.999, dtype=torch.float64)
    of_a, of_b = both.batch(indices, drawn)
    assert len(both) == 9 and torch.equal(of_a, a.pictures[indices % 4])
    assert all(torch.equal(each, b.pictures[8]) for each in of_b)
    assert both.names(indices, drawn)[:5] == ["0.png", "1.png", "2.png", "3.png", "0.png"]
    assert torch.equal(both.batch(indices)[1], b.pictures)


def test_every_picture_is_mapped():
    inverted = some().mapped(lambda pictures: 255 - pictures, batch_size=5)
    assert torch.equal(inverted.pictures, 255 - some().pictures) and torch.equal(inverted.labels, some().labels)
