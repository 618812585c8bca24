import hashlib

import numpy as np
import pytest
import torch

from mlcli.methods.synthesis import digits


def series(count, seed=0, size=28, fonts=(), style="a"):
    drawn = [digits.digit(number, seed, size, fonts, style) for number in range(count)]
    return torch.stack([image for image, _ in drawn]), torch.tensor([label for _, label in drawn])


def test_a_stroke_is_as_wide_as_its_pen():
    ends = np.array([[4.0, 8.0]]), np.array([[12.0, 8.0]])
    ink = digits.strokes_of(*ends, np.array([2.0]), 1.0, 17)
    across = ink[:, 8]  # pixels at a distance of 0, 1, 2, 3 from the middle: full, full, half, none
    assert across[8:12].tolist() == [1, 1, 0.5, 0] and across[5:9].tolist() == [0, 0.5, 1, 1]
    assert ink[8, 2] == 0.5 and ink[8, 1] == 0 and ink[8, 14] == 0.5  # round at its ends
    assert ink.sum() == pytest.approx(8 * 4 + np.pi * 4, rel=0.03)


def test_a_curve_goes_through_its_points():
    points = np.array([(0.0, 0.0), (1.0, 0.5), (0.5, 1.0)])
    curve = digits.spline(points)
    assert np.allclose(curve[:: digits.PIECES], points) and len(curve) == 2 * digits.PIECES + 1
    turn = np.arange(9) * np.pi / 4
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    circle[-1] = circle[0]
    assert np.abs(np.linalg.norm(digits.spline(circle), axis=1) - 1).max() < 0.01  # round where it closes too


@pytest.mark.parametrize("label", range(10))
def test_skeletons_stand_between_top_and_foot(label):
    for number in range(len(digits.SKELETONS[label])):
        strokes = digits.skeleton(label, number)
        points = np.array([point for stroke in strokes for point in stroke])
        assert all(len(stroke) >= 3 for stroke in strokes)
        assert points.min() >= 0 and points[:, 0].max() <= 0.8
        assert points[:, 1].min() <= 0.05 and points[:, 1].max() >= 0.95


def test_bright_ink_in_the_middle_of_a_dark_image():
    images, labels = series(200)
    assert images.dtype == torch.uint8 and labels.tolist() == list(range(10)) * 20
    unit = images.double() / 255
    assert unit.flatten(1).amax(1).min() > 0.7 and unit[:, [0, -1]].max() < 0.3 and unit[:, :, [0, -1]].max() < 0.3
    assert 0.03 < unit.mean((1, 2)).min() and unit.mean((1, 2)).max() < 0.35  # MNIST: 0.13 in the mean
    ink = unit > 0.4
    sides = torch.stack([ink.any(2).sum(1), ink.any(1).sum(1)]).amax(0)
    assert 14 <= sides.min() and sides.max() <= 23


def test_the_same_numbers_give_the_same_image_whatever_else_is_drawn():
    one, _ = digits.digit(17, 3)
    series(5, seed=3)
    again, label = digits.digit(17, 3)
    assert torch.equal(one, again) and label == 7
    assert not torch.equal(one, digits.digit(17, 4)[0]) and not torch.equal(one, digits.digit(27, 3)[0])


def test_the_same_on_every_machine():
    images, _ = series(20, seed=1)
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "9d2aa2f5ef243623"


def test_styles_differ_in_appearance_alone():
    """The same shapes, in paler and thinner strokes."""
    pen, hairline = (series(100, style=style)[0].double() / 255 for style in "ab")
    soft = [torch.nn.functional.avg_pool2d(x[:, None], 4).flatten(1) for x in (pen, hairline)]
    unit = [torch.nn.functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in soft]
    assert ((unit[0] @ unit[1].T).argmax(1) == torch.arange(100)).double().mean() > 0.9
    bright = [x.flatten(1).kthvalue(28 * 28 - 20).values.mean() for x in (pen, hairline)]
    assert bright[1] < 0.7 * bright[0]
    inked = [(x > x.amax((1, 2), keepdim=True) / 2).double().mean() for x in (pen, hairline)]
    assert inked[1] < 0.7 * inked[0]


def test_digits_are_distinguished_by_their_shape():
    """Each of 200 unseen digits by the label of the most similar of 600 others: shapes vary, and classes do not mix."""
    images, labels = series(800)
    soft = torch.nn.functional.avg_pool2d(images[:, None].float(), 2).flatten(1)
    unit = torch.nn.functional.normalize(soft, dim=1)
    nearest = (unit[600:] @ unit[:600].T).argmax(1)
    assert (labels[nearest] == labels[600:]).double().mean() > 0.78  # of MNIST itself about 0.85
    twins = unit[:600] @ unit[:600].T - 2 * torch.eye(600)
    assert twins.amax(1).median() < 0.98  # hardly one is drawn twice


def test_fonts_set_every_second_digit():
    fonts = digits.available_fonts()
    assert fonts[0] is None  # Pillow's own is always there
    drawn, _ = series(20)
    printed, _ = series(20, fonts=[None])
    assert torch.equal(drawn[:10], printed[:10]) and not torch.equal(drawn[10:], printed[10:])
    zero = printed[10] > 100
    assert zero.any() and not zero[12:16, 12:16].all()  # a ring


def test_larger_images_show_the_same_digit():
    small, large = (digits.digit(12, 0, size)[0].float() for size in (28, 84))
    reduced = torch.nn.functional.avg_pool2d(large[None, None], 3)[0, 0]
    assert torch.corrcoef(torch.stack([small.flatten(), reduced.flatten()]))[0, 1] > 0.9
