"""SmallNet: a residual network for small images, such as faces and characters, that can be trained in minutes."""

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut connection (He et al. 2016), after max pooling by 2 if `halve`."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if halve else nn.Identity()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.shortcut(x))


class SmallNet(nn.Module):
    """forward: (N, channels, size, size) normalized -> (N, outputs), of about unit variance.

    A stem of stride 2 and three blocks with 2, 4 and 8 times `width` channels. The last layer is fully connected to all
    positions of the map, without pooling, since the position of a feature matters in faces and in characters.
    """

    def __init__(self, outputs: int, size: int, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.block1 = Block(width, 2 * width, halve=False)
        self.block2 = Block(2 * width, 4 * width, halve=True)
        self.block3 = Block(4 * width, 8 * width, halve=True)
        self.head = nn.Conv2d(8 * width, outputs, (size + 1) // 2 // 2 // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.stem(x))))
        return self.norm(self.head(x)).flatten(1)
