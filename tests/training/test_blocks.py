"""Rows computed block by block, each once."""

import pytest
import torch

from mlcli.runtime.processes import Processes
from mlcli.training import blocks

CPU = Processes(torch.device("cpu"))


class Squares:
    def __init__(self, breaks_at: int = -1):
        self.asked, self.breaks_at = [], breaks_at

    def __call__(self, numbers: torch.Tensor) -> torch.Tensor:
        if self.breaks_at in numbers:
            raise KeyboardInterrupt
        self.asked += numbers.tolist()
        return (numbers**2).float()[:, None]


def test_interrupted_work_resumes_at_the_same_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "SIZE", 10)
    expected = (torch.arange(35) ** 2).float()[:, None]
    first, second, third = Squares(breaks_at=25), Squares(), Squares()
    with pytest.raises(KeyboardInterrupt):
        blocks.computed(first, 35, tmp_path, "rows", CPU)
    assert torch.equal(blocks.computed(second, 35, tmp_path, "rows", CPU), expected)
    assert first.asked == list(range(20)) and second.asked == list(range(20, 35))
    (tmp_path / "rows-00000010.safetensors").write_bytes(b"damaged")
    done = []
    assert torch.equal(blocks.computed(third, 35, tmp_path, "rows", CPU, report=done.append), expected)
    assert third.asked == list(range(10, 20)) and done == [10, 20, 30, 35]
