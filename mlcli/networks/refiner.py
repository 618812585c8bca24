"""SimGAN's refiner (Shrivastava et al. 2017, section 3.1.1): residual blocks at full size."""

from torch import Tensor, nn


class Refiner(nn.Module):
    """3 x 3 to `filters` maps, residual blocks, 1 x 1 to the image; nothing is made smaller on the way.

    forward: (N, inputs, H, W) in [-1, 1] -> (N, outputs, H, W), about in [-1, 1]. No tanh, which public codes add: at
    black, -1, its slope is zero, and a refiner that has once made all black, which is near most digits, stays there.
    """

    depth = 0  # how often sides are halved

    def __init__(self, inputs: int = 1, outputs: int = 1, filters: int = 64, blocks: int = 4):
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
