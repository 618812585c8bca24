"""Items divided by whole batches: among the parts of a job array, and among the processes of each.

The last bits of what a network computes for an image depend on the batch that it is in. Batches therefore begin at the
same items whatever part and process computes them, and wherever interrupted work is resumed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from mlcli.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, the first is 1: a range of consecutive batches."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """Of a text such as 3/16; None is the whole. Raises UsageError for anything else."""
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        number, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= count:
            raise UsageError(f"--shard {text}: take the number of a part and how many there are, from 1/16 to 16/16")
        return cls(number, count)

    @property
    def last(self) -> bool:
        return self.number == self.count

    def batches(self, items: int, batch_size: int) -> range:
        """The numbers of its batches, of so many items."""
        batches = -(-items // batch_size)
        return range(batches * (self.number - 1) // self.count, batches * self.number // self.count)

    def items(self, items: int, batch_size: int) -> range:
        """The indices of its items."""
        batches = self.batches(items, batch_size)
        return range(min(batches.start * batch_size, items), min(batches.stop * batch_size, items))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Shard()


class Batches(Sequence[T], Generic[T]):
    """The items of some batches of a sequence, as a sequence that copies nothing.

    numbers: of the batches, in order.
    """

    def __init__(self, items: Sequence[T], batch_size: int, numbers: range) -> None:
        self.whole, self.batch_size, self.numbers = items, batch_size, numbers

    def __len__(self) -> int:
        if not self.numbers:
            return 0
        last = min(self.batch_size, len(self.whole) - self.numbers[-1] * self.batch_size)
        return (len(self.numbers) - 1) * self.batch_size + last

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        batch, inside = divmod(index % len(self), self.batch_size)
        return self.whole[self.numbers[batch] * self.batch_size + inside]
