"""The preprocessing as a graph of operations against that of the images themselves."""

import pytest
import torch

from mlcli.data.preprocessing import Preprocessing
from mlcli.models.exports.preprocessing_graph import PreprocessingGraph

PILLOW = {"interpolation": "bicubic", "resampling": "pillow"}


def image(height: int, width: int) -> torch.Tensor:
    """A smooth image, with an edge and some noise."""
    random = torch.Generator().manual_seed(0)
    rows, columns = torch.linspace(0, 3, height)[:, None], torch.linspace(0, 5, width)
    smooth = torch.stack([(rows + columns + shift).sin() for shift in range(3)]) * 90 + 120
    smooth[:, height // 3 :, : width // 2] += 40
    return (smooth + 8 * torch.randn(3, height, width, generator=random)).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("size", [(40, 61), (61, 40), (24, 24), (19, 33)])
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(32, 28, **PILLOW),
        Preprocessing(32, 25, interpolation="bilinear", resampling="pillow"),
        Preprocessing(32, 28, interpolation="bilinear"),
        Preprocessing(None, 16),
        Preprocessing(20, 20, squash=True, interpolation="bicubic"),
        Preprocessing(None, 16, (0.5,), (0.25,), channels=1),
    ],
    ids=str,
)
def test_it_prepares_as_pillow_and_torch_do(preprocessing, size):
    given = image(*size)
    wanted = preprocessing.normalize(preprocessing.prepare(given)[None])
    found = PreprocessingGraph(preprocessing)(given[None])
    assert found.shape == wanted.shape
    levels = ((found - wanted) * torch.tensor(preprocessing.std)[:, None, None] * 255).abs()
    assert levels.max() < 1.01 and (levels > 0.5).float().mean() < 0.1  # rounded to the next level now and then


def test_a_batch_is_of_images_by_themselves():
    given = torch.stack([image(30, 40), image(30, 40).flip(2)])
    graph = PreprocessingGraph(Preprocessing(24, 20, **PILLOW))
    assert torch.equal(graph(given), torch.cat([graph(given[:1]), graph(given[1:])]))
