"""CifarNet: the small VGG-like network inside the package, built for accuracy and for filters that can be read."""

from collections import OrderedDict

from torch import Tensor, nn


def unit(inputs: int, outputs: int, kernel: int = 3, *, pool: str = "") -> nn.Sequential:
    """Convolution, batch norm, ReLU; `pool` is 'before' or 'after' (the convolution), or '' for no max pooling.

    Pooling between convolution and norm selects the same values as pooling after the ReLU (both are monotone
    where the norm's scale is positive) and leaves the norm a quarter of the work.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if pool == "before":
        layers["pool"] = nn.MaxPool2d(2)
    layers["conv"] = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    if pool == "after":
        layers["pool"] = nn.MaxPool2d(2)
    layers["norm"] = nn.BatchNorm2d(outputs)
    layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class CifarNet(nn.Module):
    """Five convolutional stages, global max pooling, one linear layer; 3.3 M parameters, 257 MMAC at 32 px.

    forward: (N, channels, H, W) normalized, H and W at least 16 -> logits (N, classes).
    Stages, at 32 px: conv1 (64, 32, 32), conv2 (128, 16, 16), conv3 (256, 8, 8), conv4 (384, 4, 4),
    conv5 (384, 4, 4); `features` (384) is the penultimate vector.
    conv1 has 7 x 7 kernels and stride 1: its filters are large enough to be read by eye.
    """

    LOGIT_SCALE = 0.25
    stages = ("conv1", "conv2", "conv3", "conv4", "conv5")

    def __init__(self, num_classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = unit(channels, 64, 7)
        self.conv2 = nn.Sequential(unit(64, 128, pool="before"), unit(128, 128))
        self.conv3 = nn.Sequential(unit(128, 256, pool="after"), unit(256, 256))
        self.conv4 = unit(256, 384, pool="after")
        self.conv5 = unit(384, 384)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.features = nn.Flatten()
        self.classifier = nn.Linear(384, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("conv1"):
                # The first outputs start as copies of the inputs (Dirac initialization, Zagoruyko 2017), so that
                # activations and gradients reach every layer from the first step on.
                nn.init.dirac_(module.weight.data[: module.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(x)))))
        # The maximum of ReLU maps is large; scaled logits keep a high learning rate from diverging in the first steps.
        return self.classifier(self.features(self.pool(x))) * self.LOGIT_SCALE
