"""One process, or several that torchrun starts, by distributed.

Gradients are averaged after the backward pass instead of inside it (DistributedDataParallel): a method with
several networks and optimizers, such as a GAN, then needs no special care.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function

from mlcli.errors import MlcliError, UsageError

Value = TypeVar("Value")
Network = TypeVar("Network", bound=nn.Module)


class Processes:
    """The group of processes that this one belongs to; a group of one when it was started alone.

    device: of this process; of several processes on "cuda", each computes on the GPU of its local rank.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", "1")), 0
        if self.count == 1:
            return
        if device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
            distributed.init_process_group("nccl", device_id=self.device)
        else:
            distributed.init_process_group("gloo")
        self.rank = distributed.get_rank()

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leave the group, at the end of the work."""
        if self.count > 1:
            distributed.destroy_process_group()

    def check_batch(self, batch_size: int, option: str = "--batch-size") -> None:
        """Raise UsageError where a batch of the size that the option sets cannot be divided equally."""
        if batch_size % self.count:
            raise UsageError(f"{option}: a batch of {batch_size} is not a multiple of the {self.count} processes")

    def shard(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This process's equal part of a tensor for the whole batch, cut along `dim`."""
        return batch.chunk(self.count, dim)[self.rank]

    def all_gather(self, shard: Tensor) -> Tensor:
        """The tensor for the whole batch, joined along its first dimension from the shards of all processes."""
        if self.count == 1:
            return shard
        shards = [torch.empty_like(shard, memory_format=torch.contiguous_format) for _ in range(self.count)]
        distributed.all_gather(shards, shard.contiguous())
        return torch.cat(shards)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes of a tensor that has the same shape in each."""
        if self.count == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes of a tensor that has the same shape in each."""
        return self.sum(value) / self.count if self.count > 1 else value

    def mean_of_parts(self, own: Tensor) -> Tensor:
        """The mean over the processes of a tensor, with the gradient of this process's own.

        Where the gradients of the weights are averaged afterwards, they are those of what is computed from the mean.
        """
        return own + (self.mean(own.detach()) - own.detach()) if self.count > 1 else own

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process, so that all stop at the same step."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0) if self.count > 1 else flag

    def gather(self, value: Value) -> list[Value]:
        """The values that the processes give, in their order; any that can be pickled."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def by_first(self, work: Callable[[], Value]) -> Value:
        """What `work` returns in the first process. An MlcliError that it raises there is raised in all."""
        if self.count == 1:
            return work()
        told: list[Any] = [None, None]
        error: MlcliError | None = None
        if self.main:
            try:
                told[0] = work()
            except MlcliError as problem:
                error = problem
                told[1] = (str(problem), problem.exit_status)
        distributed.broadcast_object_list(told, 0)
        if error is not None:
            raise error
        if told[1] is not None:
            raise of_another_process(*told[1])
        return told[0]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.mean(torch.cat([g.reshape(-1) for g in gradients]))
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def prepare(self, network: Network) -> Network:
        """The network, changed so that N processes compute what one would.

        Its weights become those of the first process; dropout and batch norm work on the whole batch.
        """
        if self.count == 1:
            return network
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                distributed.broadcast(tensor.detach(), 0)
        for module in network.modules():
            if type(module) is nn.Dropout:
                module.__class__ = GroupDropout
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = GroupBatchNorm2d
            elif type(module) is nn.BatchNorm1d:
                module.__class__ = GroupBatchNorm1d
        return network


def of_another_process(message: str, exit_status: int) -> MlcliError:
    """The MlcliError that another process of the group has met."""
    error = MlcliError(message)
    error.exit_status = exit_status
    return error


class _Sum(Function):
    """Sum over the processes, with its gradient (the sum of the gradients)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient


class GroupDropout(nn.Dropout):
    """Dropout on the batch of all processes: each draws the mask of the whole batch and takes its shard of it.

    The random streams of the processes must be the same at the beginning of a step.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        count, rank = distributed.get_world_size(), distributed.get_rank()
        whole = torch.ones((count * len(x), *x.shape[1:]), dtype=x.dtype, device=x.device)
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):  # its mask is drawn in memory order
            whole = whole.contiguous(memory_format=torch.channels_last)
        return x * nn.functional.dropout(whole, self.p).chunk(count)[rank]


class GroupBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batch of all processes, on a CPU (torch's SyncBatchNorm needs a GPU)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float().transpose(1, -1)  # (N, ..., C)
        dims = tuple(range(values.ndim - 1))
        count = values.numel() // values.shape[-1] * distributed.get_world_size()  # the shards are equal
        mean = _Sum.apply(values.sum(dims)) / count
        # In two passes: the difference of mean square and squared mean loses precision where the mean is large.
        variance = _Sum.apply((values - mean).square().sum(dims)) / count
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return (values * scale + shift).transpose(1, -1).to(x.dtype)


class GroupBatchNorm2d(GroupBatchNorm, nn.BatchNorm2d):
    """`GroupBatchNorm` of maps (N, C, H, W)."""


class GroupBatchNorm1d(GroupBatchNorm, nn.BatchNorm1d):
    """`GroupBatchNorm` of vectors (N, C)."""
