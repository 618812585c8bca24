"""One process and two: sums, gradients, and batch norm over the whole batch."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mlcli.errors import UsageError
from mlcli.runtime.processes import Processes

# Each of two processes takes its half of a batch through the same network, and compares with the whole.
SCRIPT = """
import torch
from torch import nn
from mlcli.errors import MlcliError, UsageError
from mlcli.runtime.processes import GroupBatchNorm1d, GroupBatchNorm2d, Processes

group = Processes(torch.device("cpu"))
assert group.count == 2 and group.main == (group.rank == 0)

def network():
    torch.manual_seed(3)
    maps = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*maps, nn.Linear(144, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))

torch.manual_seed(0)
x, y = torch.randn(6, 2, 8, 8), torch.randn(6, 1)
whole, half = network(), network()
torch.manual_seed(group.rank)
with torch.no_grad():
    if group.rank: half[0].weight.add_(1)  # other processes start from the first one's weights
group.prepare(half)
assert isinstance(half[1], GroupBatchNorm2d) and isinstance(half[5], GroupBatchNorm1d)
for _ in range(2):
    (whole(x) - y).square().mean().backward()
    (half(group.shard(x)) - group.shard(y)).square().mean().backward()
    group.average_gradients(half.parameters())
for (name, a), b in zip(whole.named_parameters(), half.parameters(), strict=True):
    assert torch.allclose(a.grad, b.grad, atol=1e-5), (name, (a.grad - b.grad).abs().max())
for (name, a), b in zip(whole.named_buffers(), half.buffers(), strict=True):
    assert torch.allclose(a, b, atol=1e-5), name
torch.manual_seed(1)
flat = torch.full((4, 2, 3, 3), 300.0) + 1e-3 * torch.randn(4, 2, 3, 3)  # hardly varies about a large mean
one, both = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
both.__class__ = GroupBatchNorm2d
expected = one.double()(flat.double())
assert torch.allclose(group.shard(expected).float(), both(group.shard(flat)), atol=0.05)
for layout in (torch.contiguous_format, torch.channels_last):
    maps = torch.randn(6, 8, 4, 4).contiguous(memory_format=layout)
    dropout = group.prepare(nn.Sequential(nn.Dropout(0.3)))
    torch.manual_seed(5)
    expected = nn.Dropout(0.3)(maps)
    torch.manual_seed(5)
    assert torch.equal(group.shard(expected), dropout(group.shard(maps))) and 0 < (expected == 0).float().mean() < 0.5
    assert dropout.eval()(maps) is maps
assert group.all_gather(torch.tensor([group.rank])).tolist() == [0, 1]
assert group.mean(torch.tensor(float(group.rank))) == 0.5
assert group.any(group.rank == 1) and not group.any(False)
assert group.gather(group.rank * "x") == ["", "x"]
assert group.by_first(lambda: group.rank) == 0  # what the other would give is not asked for
def refuses(): raise UsageError("no")
try:
    group.by_first(refuses)
    raise AssertionError
except MlcliError as error:
    assert (str(error), error.exit_status) == ("no", 2)
group.wait()
if group.main:
    print("two agree with one")
group.close()
"""


def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run(launch, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "two agree with one" in done.stdout


def test_alone_nothing_is_shared_or_changed():
    alone = Processes(torch.device("cpu"))
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    assert alone.count == 1 and alone.main
    assert alone.prepare(network) is network and type(network[1]) is nn.BatchNorm2d
    batch = torch.arange(6)
    assert torch.equal(alone.shard(batch), batch)
    assert alone.any(True) and not alone.any(False)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    alone = Processes(torch.device("cpu"))
    monkeypatch.setattr(alone, "count", 2)
    alone.check_batch(8)
    with pytest.raises(UsageError, match="not a multiple of the 2 processes"):
        alone.check_batch(7)
    with pytest.raises(UsageError, match="^--identities: a batch of 9 is"):
        alone.check_batch(9, "--identities")
