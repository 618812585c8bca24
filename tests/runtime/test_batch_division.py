import pytest

from mlcli.errors import UsageError
from mlcli.runtime.batch_division import WHOLE, Batches, Shard


@pytest.mark.parametrize("items, batch_size, count", [(10, 3, 2), (10, 1, 4), (7, 10, 3), (0, 4, 2), (12, 4, 3)])
def test_parts_are_the_whole_in_order_and_begin_with_a_batch(items, batch_size, count):
    shards = [Shard(number, count) for number in range(1, count + 1)]
    assert [index for shard in shards for index in shard.items(items, batch_size)] == list(range(items))
    assert [number for shard in shards for number in shard.batches(items, batch_size)] == list(
        WHOLE.batches(items, batch_size)
    )
    starts = [shard.items(items, batch_size).start for shard in shards]
    assert all(start % batch_size == 0 or start == items for start in starts)


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "a/b", "-1/2", "1/2/3"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match="--shard .*from 1/16 to 16/16"):
        Shard.parse(text)
    assert Shard.parse("3/16") == Shard(3, 16) and Shard.parse(None) == WHOLE == Shard.parse("1/1")


def test_batches_of_processes_are_the_items_in_turn():
    items = list(range(11))
    first, second = (Batches(items, 2, range(6)[rank::2]) for rank in (0, 1))
    assert list(first) == [0, 1, 4, 5, 8, 9] and list(second) == [2, 3, 6, 7, 10]
    assert first[-1] == 9 and second[1:4] == [3, 6, 7] and len(Batches(items, 2, range(0))) == 0
    with pytest.raises(IndexError):
        second[5]
