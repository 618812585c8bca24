import pytest
import torch

from mlcli.data.content import cut_to_content


def page(top, left, height, width, ink=0, paper=255):
    image = torch.full((3, 60, 80), paper, dtype=torch.uint8)
    image[:, top : top + height, left : left + width] = ink
    return image


@pytest.mark.parametrize("ink, paper", [(0, 255), (200, 20)])
def test_content_is_centered_with_a_margin_whatever_its_position(ink, paper):
    one, other = (cut_to_content(page(*position, 20, 10, ink, paper)) for position in ((10, 30), (33, 5)))
    assert torch.equal(one, other) and one.shape == (3, 23, 23) and one.dtype == torch.uint8
    inked = (one[0] == ink).nonzero()
    assert inked.min(0).values.tolist() == [1, 6] and inked.max(0).values.tolist() == [20, 15]


def test_paper_goes_on_where_the_image_ends():
    cut = cut_to_content(page(0, 1, 6, 40))
    assert cut.shape == (3, 46, 46) and (cut[0] == 0).sum() == 240 and (cut[:, :20] == 255).all()


def test_grain_does_not_count_and_a_dot_stays_small():
    image = page(30, 40, 2, 2).float() / 255
    image[:, 5, 5] = 0.8
    cut = cut_to_content(image)
    assert cut.shape == (3, 14, 14) and (cut[0] == 0).sum() == 4


def test_one_color_stays_as_it_is():
    assert cut_to_content(torch.ones(3, 5, 9)).shape == (3, 5, 9)
