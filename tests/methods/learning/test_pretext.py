"""Classes without labels: rotated images and shuffled tiles by hand, and that they can be learned."""

import pytest
import torch

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.learning import configs
from mlcli.methods.learning.pretext import GRID, Jigsaw, Pretext, Rotation, permutations, task
from mlcli.models import registry
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import generator
from tests.in_memory import dataset

CPU = torch.device("cpu")


def sample_image(size: int = 18) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=generator(0))


def test_turns_by_hand():
    image = torch.tensor([[1, 2], [3, 4]]).expand(4, 1, 2, 2)
    rotated = Rotation()(image, torch.arange(4), torch.empty(0, 4))[:, 0].tolist()
    # counter-clockwise: what stood at the right stands at the top
    assert rotated == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_permutations_are_far_from_each_other():
    orders = permutations(30, 0)
    assert (orders.sort(1).values == torch.arange(9)).all() and len(orders.unique(dim=0)) == 30
    apart = (orders[:, None] != orders[None]).sum(2)[~torch.eye(30, dtype=torch.bool)]
    random = torch.stack([torch.randperm(9, generator=generator(1, n)) for n in range(30)])
    by_chance = (random[:, None] != random[None]).sum(2)[~torch.eye(30, dtype=torch.bool)]
    assert apart.min() >= 7 > by_chance.min() and apart.double().mean() > by_chance.double().mean()
    assert (orders[0] != orders[1]).all()
    assert torch.equal(orders, permutations(30, 0)) and not torch.equal(orders, permutations(30, 1))


def test_each_tile_stands_where_its_order_says():
    """Tiles of two gray levels each, whose fraction of light pixels identifies them."""
    cell = 7
    image = torch.zeros(1, 3, GRID * cell, GRID * cell)
    for tile in range(9):
        top, left = tile // 3 * cell, tile % 3 * cell
        image[..., top : top + cell, left : left + cell] = (torch.arange(cell * cell) % 10 <= tile).view(cell, cell)
    puzzle = Jigsaw(5, 0)
    drawn = puzzle.draw(1, 21, generator(0))
    laid = puzzle((image * 200).to(torch.uint8), torch.tensor([3]), drawn).float()
    spread = []
    for position in range(9):
        top, left = position // 3 * cell, position % 3 * cell
        spread.append(laid[0, 0, top : top + cell - 1, left : left + cell - 1])
    # the mean and deviation of a tile are taken away; how skewed its levels are shows the fraction of light ones
    skew = torch.stack([((tile - tile.mean()) ** 3).mean() / tile.std(correction=0) ** 3 for tile in spread])
    assert skew.argsort(descending=True).argsort().tolist() == puzzle.orders[3].tolist()


def test_tiles_have_lost_their_own_brightness():
    image = sample_image(30).float()
    image[..., :10, :10] = image[..., :10, :10] / 4  # a dark tile
    puzzle = Jigsaw(2, 0)
    laid = puzzle(image.to(torch.uint8), torch.tensor([1]), puzzle.draw(1, 30, generator(0))).float()
    means = [laid[..., top : top + 9, left : left + 9].mean() for top in (0, 10, 20) for left in (0, 10, 20)]
    assert max(means) - min(means) < 6
    assert laid.shape == image.shape


def test_tiles_begin_anywhere_in_their_cells_and_stay_inside():
    drawn = Jigsaw(2, 0).draw(200, 32, generator(0))  # cells of 10, tiles of 9
    assert drawn.shape == (2, 9, 200) and drawn.unique().tolist() == [0, 1]
    assert Jigsaw(2, 0).sides(225) == (75, 11)


def gradients(count: int = 80) -> ImageDataset:
    """Light above, dark below: which side is up can be seen."""
    light = torch.linspace(220, 30, 16)[None, None, :, None].expand(count, 3, 16, 16)
    pixels = light + 10 * torch.randn(count, 3, 16, 16, generator=generator(0))
    return dataset(pixels.clamp(0, 255).to(torch.uint8), torch.zeros(count, dtype=torch.int64))


def method(chosen, steps: int, **settings) -> Pretext:
    torch.manual_seed(0)
    config = configs.Pretext(batch_size=40, **settings)
    model = registry.create("cifarnet", chosen.classes, 16)
    return Pretext(chosen, model, gradients(), config, steps, Runtime(CPU, "fp32"), Processes(CPU))


def test_learns_which_way_is_up():
    learner = method(Rotation(), 10)
    for step in range(10):
        losses = learner.step(learner.load(torch.arange(40) + 40 * (step % 2), step), step)
    assert losses["accuracy"] >= 0.9


@pytest.mark.parametrize("name, classes", [("rotation", 4), ("jigsaw", 8)])
def test_a_batch_has_each_class_as_often_and_is_a_function_of_its_step(name, classes):
    chosen = task(name, 8, 0)
    assert len(chosen.classes) == classes
    learner = method(chosen, 10)
    batch = learner.load(torch.arange(40), 3)
    assert batch.labels.bincount().tolist() == [40 // classes] * classes and batch.left.min() == 1
    again, other = learner.load(torch.arange(40), 3), learner.load(torch.arange(40), 4)
    assert torch.equal(batch.images, again.images) and torch.equal(batch.labels, again.labels)
    assert not torch.equal(batch.labels, other.labels)
