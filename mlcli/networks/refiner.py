"""SimGAN's refiner (Shrivastava et al. 2017, section 3.1.1): residual blocks at full resolution."""

from torch import Tensor, nn


class Refiner(nn.Module):
    """A 3 x 3 convolution to `filters` maps, residual blocks, and a 1 x 1 convolution to the image, all of stride 1.

    forward: (N, inputs, H, W) in [-1, 1] -> (N, outputs, H, W), about in [-1, 1]. There is no tanh, which public
    implementations add: its gradient vanishes at black, -1, so that a refiner whose output has once become all black,
    which is near most images of digits, would stay there.
    """

    depth = 0  # number of times that the sides are halved

    def __init__(self, inputs: int = 1, outputs: int = 1, filters: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU(), nn.Conv2d(filters, filters, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.last = nn.Conv2d(filters, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = (x + block(x)).relu()
        return self.last(x)
