"""Classifiers of digits: LeNet as used by ADDA, the same with norms, and a deeper network with batch norm."""

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """20c5-50c5-500-K, with max pooling by 2 and ReLU after each convolution (Tzeng et al. 2017); 0.4 M parameters.

    forward: (N, channels, size, size), size at least 16 -> logits (N, classes). At 28 px the second pooling leaves
    4 x 4.
    """

    def __init__(self, num_classes: int = 10, channels: int = 1, size: int = 28) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        if side < 1:
            raise ValueError(f"images of {size} pixels are too small, 16 are needed")
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.hidden = nn.Linear(50 * side * side, 500)
        self.classifier = nn.Linear(500, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.classifier(F.relu(self.hidden(x.flatten(1))))


class NormalizedLeNet(LeNet):
    """LeNet with a batch norm after each layer but the last, (N, C, H, W) as LeNet.

    Images are first brought to mean 0 and variance 1 in each channel: brightness, contrast and tint do not count.
    """

    def __init__(self, num_classes: int = 10, channels: int = 1, size: int = 28) -> None:
        super().__init__(num_classes, channels, size)
        self.norm1, self.norm2 = nn.BatchNorm2d(20), nn.BatchNorm2d(50)
        self.norm_hidden = nn.BatchNorm1d(500)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.norm1(self.conv1(F.instance_norm(x))), 2))
        x = F.relu(F.max_pool2d(self.norm2(self.conv2(x)), 2))
        return self.classifier(F.relu(self.norm_hidden(self.hidden(x.flatten(1)))))


class DigitsNet(nn.Module):
    """Six 3 x 3 convolutions with batch norm in three stages of 32, 64 and 128 channels, then 256-K; 0.3 M parameters.

    forward: (N, channels, H, W), sides at least 16 -> logits (N, classes).
    """

    def __init__(self, num_classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for stage in (32, 64, 128):
            for _ in range(2):
                layers += [nn.Conv2d(width, stage, 3, padding=1, bias=False), nn.BatchNorm2d(stage), nn.ReLU()]
                width = stage
            layers.append(nn.MaxPool2d(2))
        self.stages = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.hidden = nn.Linear(4 * width, 256)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stages(x)).flatten(1)
        return self.classifier(self.dropout(F.relu(self.hidden(x))))
