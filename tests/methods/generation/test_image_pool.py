"""The pool: all is kept until it is full, then half of what comes back is old."""

import pytest
import torch

from mlcli.methods.generation.image_pool import ImagePool
from mlcli.runtime.random_streams import generator


def image(number: float) -> torch.Tensor:
    return torch.full((1, 1, 2, 2), float(number))


def test_a_pool_that_fills_gives_back_what_it_gets():
    pool = ImagePool(3)
    for number in range(3):
        assert torch.equal(pool.exchange(image(number), generator(0, number)), image(number))
    assert pool.images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_full_pool_gives_back_half_old_ones_each_for_a_new_one():
    pool, old, seen = ImagePool(50), 0, []
    for number in range(1050):
        before = pool.images.clone()
        given = pool.exchange(image(number), generator(0, number))[0, 0, 0, 0].item()
        if number < 50:
            continue
        seen.append(given)
        if given == number:
            assert torch.equal(pool.images, before), "a new image that is shown is not kept"
        else:
            old += 1
            now = set(pool.images[:, 0, 0, 0].tolist())
            assert given in before and given not in now and number in now
    assert len(pool.images) == 50
    assert 450 <= old <= 550
    assert len(set(seen)) == len(seen), "no image is given back twice"


def test_images_of_a_batch_are_exchanged_each_by_itself():
    pool = ImagePool(4)
    pool.exchange(torch.zeros(4, 1, 2, 2), generator(0))
    given = pool.exchange(torch.ones(64, 1, 2, 2), generator(1))[:, 0, 0, 0]
    assert 0 < (given == 0).sum() <= 4 and (given == 1).sum() >= 60


def test_no_pool_and_no_gradients():
    fake = torch.ones(2, 1, 2, 2, requires_grad=True) * 2
    for size in (0, 5):
        given = ImagePool(size).exchange(fake, generator(0))
        assert torch.equal(given, fake) and not given.requires_grad


def test_a_restored_pool_continues_in_the_same_way():
    one, other = ImagePool(4), ImagePool(4)
    for number in range(6):
        one.exchange(image(number), generator(0, number))
    other.load_state_dict(one.state_dict())
    for number in range(6, 20):
        same = (pool.exchange(image(number), generator(0, number)) for pool in (one, other))
        assert torch.equal(*same)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_the_kind_of_number_is_kept(kind):
    pool = ImagePool(1)
    for number in range(4):
        assert pool.exchange(image(number).to(kind), generator(number)).dtype == kind
