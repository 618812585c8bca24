"""One process or several, under torchrun or `accelerate launch`. Accelerate does the talking between them.

Gradients are averaged after the backward pass instead of inside it (DistributedDataParallel): a method with
several networks and optimizers, such as a GAN, then needs no special care.
"""

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd import Function

from mlcli.errors import UsageError


class Processes:
    """The group that this process belongs to; a group of one when started plainly."""

    def __init__(self, device: torch.device):
        self.device = device
        self.accelerator = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator  # seconds to import: only where there are several processes

            # Precision is the Runtime's, one implementation for training and inference.
            self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
            self.device = self.accelerator.device

    @property
    def count(self) -> int:
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def rank(self) -> int:
        return self.accelerator.process_index if self.accelerator else 0

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def wait(self) -> None:
        if self.accelerator:
            self.accelerator.wait_for_everyone()

    def close(self) -> None:
        if self.accelerator:
            self.accelerator.end_training()

    def check_batch(self, batch_size: int, option: str = "--batch-size") -> None:
        """Raise UsageError where the batch, that the option sets, cannot be shared equally."""
        if batch_size % self.count:
            raise UsageError(f"{option}: a batch of {batch_size} is not a multiple of the {self.count} processes")

    def share(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This process's equal part of what belongs to a whole batch."""
        return batch.chunk(self.count, dim)[self.rank]

    def collect(self, part: Tensor) -> Tensor:
        """The whole batch that every process has its `share` of."""
        return self.accelerator.gather(part.contiguous()) if self.accelerator else part

    def mean(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, reduction="mean") if self.accelerator else value

    def gather(self, value: Tensor) -> Tensor:
        """(processes,) the scalar of each process."""
        return self.accelerator.gather(value.reshape(1)) if self.accelerator else value.reshape(1)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process, so that all stop at the same step."""
        if not self.accelerator:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device), reduction="sum") > 0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if not self.accelerator:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.accelerator.reduce(torch.cat([g.reshape(-1) for g in gradients]), reduction="mean")
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def prepare(self, network: nn.Module) -> nn.Module:
        """Same start everywhere, and batch norm over the whole batch, so that N processes equal one."""
        if not self.accelerator:
            return network
        from accelerate.utils import broadcast

        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.copy_(broadcast(tensor.detach()))
        for module in network.modules():
            if type(module) is nn.Dropout:
                module.__class__ = GroupDropout
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = GroupBatchNorm2d
        return network


class _Sum(Function):
    """Sum over the processes, with its gradient (the sum of the gradients)."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        torch.distributed.all_reduce(gradient)
        return gradient


class GroupDropout(nn.Dropout):
    """Dropout of the batch of all processes: each draws for all and takes its part, so that N processes equal one.

    Their random streams must be the same at the begin of a step.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        count, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        whole = torch.ones((count * len(x), *x.shape[1:]), dtype=x.dtype, device=x.device)
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):  # whose numbers are drawn in that order
            whole = whole.contiguous(memory_format=torch.channels_last)
        return x * nn.functional.dropout(whole, self.p).chunk(count)[rank]


class GroupBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batch of all processes, on a CPU (torch's SyncBatchNorm needs a GPU)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = values.numel() // values.shape[1] * torch.distributed.get_world_size()  # equal shares
        mean = _Sum.apply(values.sum((0, 2, 3))) / count
        # In two passes: the difference of mean square and squared mean loses its digits where the mean is large.
        variance = _Sum.apply((values - mean[:, None, None]).square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
