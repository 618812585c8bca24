"""SmallNet: a residual network for small images, such as faces and characters, that learns in minutes."""

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016); `halve` begins with a maximum over 2 x 2 places."""

    def __init__(self, inputs: int, outputs: int, halve: bool):
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

    A stem that halves the image and three blocks of `width` * 2, 4 and 8 channels; then every output sees all places
    of the last map, each by its own weight: what is where matters in a face and in a character.
    """

    def __init__(self, outputs: int, size: int, channels: int = 1, width: int = 32):
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
