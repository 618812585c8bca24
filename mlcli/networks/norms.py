"""The norms of generators and discriminators, by name."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm by the statistics of each image alone, in training and after (Ulyanov et al. 2016).

    Of a single image it is batch norm, whose kernels keep channels_last; torch's instance norm copies the map to
    another format and back, which on a CPU takes four times as long.
    """

    FEW = 4

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.FEW or torch.onnx.is_in_onnx_export() or x.shape[2:].numel() == 1:
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        normed = [F.batch_norm(each, None, None, self.weight, self.bias, True, eps=self.eps) for each in x.split(1)]
        return normed[0] if len(x) == 1 else torch.cat(normed)


NORMS = {
    "batch": nn.BatchNorm2d,
    "instance": InstanceNorm2d,
    # What batch norm is where every batch is one image, in training and in the pix2pix paper's tests
    "instance-affine": lambda channels: InstanceNorm2d(channels, affine=True),
    "none": lambda channels: nn.Identity(),
}
SHIFTING = ("batch", "instance-affine")  # those that bring a bias of their own: the convolution before needs none
