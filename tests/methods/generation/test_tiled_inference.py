"""Translation of images of any size: borders, tiles, kinds."""

import pytest
import torch
from torch import nn

from mlcli.data.pairs import ImageSpec
from mlcli.methods.generation.tiled_inference import reflected, spans, translate
from mlcli.models.translators import Translator, create
from mlcli.runtime.device import Runtime

FP32 = Runtime(torch.device("cpu"), "fp32")


class Blur(nn.Module):
    """Sees 5 x 5 pixels, so that tiles with their margins show what the whole image would."""

    depth = 2

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect", groups=3, bias=False)
        nn.init.constant_(self.layer.weight, 1 / 25)

    def forward(self, x):
        return self.layer(x)


def blur() -> Translator:
    return Translator(Blur(), "resnet", ImageSpec(), ImageSpec(), (32, 32))


def test_reflected_by_hand():
    assert reflected(4, 8).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]
    assert reflected(2, 7).tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert reflected(1, 3).tolist() == [0, 0, 0]
    assert reflected(5, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("length, side", [(300, 200), (1000, 200), (201, 200), (200, 200), (5, 200)])
def test_spans_cover_all_evenly_and_overlap(length, side):
    weights = torch.zeros(length)
    for where, weight in spans(length, side):
        weights[where] += weight
    assert weights.min() > 0.1
    parts = [part for part, _ in spans(length, side)]
    assert parts[0].start == 0 and parts[-1].stop == length
    assert all(a.stop - b.start >= 64 for a, b in zip(parts, parts[1:], strict=False))


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (17, 33), (64, 64)])
def test_every_size_comes_back(shape):
    torch.manual_seed(0)
    for name in ("unet", "resnet-6"):
        translator = create(name, ImageSpec(), ImageSpec(1), (16, 16), filters=4, norm="instance")
        made = translate(translator, torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8), FP32)
        assert made.shape == (2, 1, *shape) and made.isfinite().all()


def test_tiles_show_no_seam():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 300, 500)
    whole = translate(blur(), image, FP32, tile=1024)
    assert torch.allclose(whole[..., 2:-2, 2:-2], nn.functional.avg_pool2d(image, 5, 1), atol=1e-5)
    tiled = translate(blur(), image, FP32, tile=192, batch_size=2)
    assert (tiled - whole).abs().max() < 1e-4


def test_tiles_of_a_network_that_answers_each_differently_fade_into_each_other():
    class Mean(Blur):
        def forward(self, x):
            return x.mean((1, 2, 3), keepdim=True).expand_as(x)

    image = torch.zeros(1, 3, 16, 600)
    image[..., 300:] = 1
    made = translate(Translator(Mean(), "resnet", ImageSpec(), ImageSpec(), (32, 32)), image, FP32, tile=192)
    steps = made[0, 0, 0].diff().abs()
    assert made[0, 0, 0, 0] < 0.2 and made[0, 0, 0, -1] > 0.8 and steps.max() < 0.05


def test_a_image_of_its_own_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    translator = create("unet", ImageSpec(), ImageSpec(), (32, 32), filters=4, norm="instance-affine", dropout=0.5)
    translator.network.eval()
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    together = translate(translator, images, FP32, batch_size=5)
    assert torch.allclose(together[3:4], translate(translator, images[3:4], FP32), atol=1e-5)


def test_maps_become_the_numbers_of_their_classes():
    class First(Blur):
        def forward(self, x):
            return torch.cat([x[:, :1], -x[:, :1]], 1)

    translator = Translator(First(), "resnet", ImageSpec(), ImageSpec(labels=2), (32, 32))
    image = torch.zeros(1, 3, 10, 10)
    image[..., 5:] = 1
    made = translate(translator, image, FP32)
    assert made.dtype == torch.uint8 and made[0, 0, 0].tolist() == [1] * 5 + [0] * 5
