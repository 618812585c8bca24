"""The residual generator of CycleGAN (Zhu et al. 2017, appendix 7.2), based on Johnson et al. 2016."""

from torch import Tensor, nn

from mlcli.networks.norms import NORMS, SHIFTING
from mlcli.networks.padding import ReflectionPad2d
from mlcli.networks.upsampling import upsample_by_2


class ResidualBlock(nn.Module):
    """x + f(x), where f is two 3 x 3 convolutions with reflection padding and norms."""

    def __init__(self, width: int, norm: str, dropout: float) -> None:
        super().__init__()
        bias = norm not in SHIFTING
        self.body = nn.Sequential(
            ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            NORMS[norm](width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            NORMS[norm](width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResNetGenerator(nn.Module):
    """c7s1-64, d128, d256, residual blocks, u128, u64, c7s1-3; 11.4 M parameters with 9 blocks and 64 filters.

    forward: (N, inputs, H, W) in [-1, 1], sides multiples of 2^downs -> (N, outputs, H, W) in [-1, 1].
    downs: number of times that the sides are halved. With 4 and batch norm it is the global generator of pix2pixHD
    (Wang et al. 2018).
    """

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        blocks: int = 9,
        filters: int = 64,
        norm: str = "instance",
        dropout: float = 0.0,
        upsampling: str = "transposed",
        downs: int = 2,
    ) -> None:
        super().__init__()
        self.depth, bias = downs, norm not in SHIFTING
        widths = [filters * 2**level for level in range(downs + 1)]

        def after(convolution: nn.Module, width: int) -> list[nn.Module]:
            return [convolution, NORMS[norm](width), nn.ReLU(inplace=True)]

        layers = [ReflectionPad2d(3), *after(nn.Conv2d(inputs, filters, 7, bias=bias), filters)]
        for level in range(downs):
            down = nn.Conv2d(widths[level], widths[level + 1], 3, 2, 1, bias=bias)
            layers += after(down, widths[level + 1])
        layers += [ResidualBlock(widths[-1], norm, dropout) for _ in range(blocks)]
        for level in reversed(range(downs)):
            up = upsample_by_2(upsampling, widths[level + 1], widths[level], 3, bias=bias)
            layers += after(up, widths[level])
        layers += [ReflectionPad2d(3), nn.Conv2d(filters, outputs, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
