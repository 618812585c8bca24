"""The normalization layers of generators and discriminators, by name."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm: the statistics of each image alone, in training and afterwards (Ulyanov et al. 2016).

    For few images it is computed as batch norm of each image, which keeps the channels-last format; torch's instance
    norm converts the map to another format and back, which takes four times as long on a CPU.
    """

    FEW = 4

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.FEW or torch.onnx.is_in_onnx_export() or x.shape[2:].numel() == 1:
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        normed = [F.batch_norm(each, None, None, self.weight, self.bias, True, eps=self.eps) for each in x.split(1)]
        return normed[0] if len(x) == 1 else torch.cat(normed)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": InstanceNorm2d,
    # Equal to batch norm where every batch is one image, in training and in the tests of the pix2pix paper
    "instance-affine": lambda channels: InstanceNorm2d(channels, affine=True),
    "none": lambda channels: nn.Identity(),
}
SHIFTING = ("batch", "instance-affine")  # norms with a bias, so that the convolution before them needs none
