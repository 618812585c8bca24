import hashlib

import numpy as np
import pytest
import torch

from mlcli.methods.synthesis import phantoms


def series(count, style, seed=0, size=64):
    drawn = [phantoms.phantom(number, seed, size, style) for number in range(count)]
    return torch.stack([image for image, _ in drawn]).double() / 255, torch.stack([mask for _, mask in drawn])


@pytest.fixture(scope="module")
def both():
    return series(24, "a"), series(24, "b")


def test_styles_differ_in_appearance_alone(both):
    (a, mask_a), (b, mask_b) = both
    assert torch.equal(mask_a, mask_b) and mask_a.dtype == torch.uint8
    assert (a - b).abs().mean((1, 2)).min() > 0.1
    assert not torch.equal(mask_a[:12], series(12, "a", seed=1)[1])


def test_every_organ_is_where_it_belongs(both):
    (_, masks), _ = both
    x = torch.arange(64.0)
    fractions, middles = [], []
    for number in (1, 2, 3):
        organ = (masks == number).double()
        fractions.append(organ.mean((1, 2)))
        middles.append((organ.sum(1) * x).sum(1) / organ.sum((1, 2)))
    assert all(fraction.min() > 0.01 and fraction.max() < 0.25 for fraction in fractions)
    assert (middles[0] < middles[2]).all() and (middles[2] < middles[1]).all()
    assert torch.stack(fractions)[:2].sum(0).std() > 0.01  # no chest is like another
    assert masks[:, [0, -1]].max() == 0 and masks[:, :, [0, -1]].max() == 0


def test_scanners_show_tissues_by_their_own_levels(both):
    for (images, masks), name in zip(both, "ab", strict=True):
        style = phantoms.STYLES[name]
        lungs, heart = (images[mask].mean() for mask in ((masks == 1) | (masks == 2), masks == 3))
        assert lungs == pytest.approx(style.levels[2] ** style.gamma, abs=0.1)
        assert heart == pytest.approx(style.levels[3] ** style.gamma, abs=0.1) and heart > lungs + 0.3
    (a, masks), (b, _) = both
    assert b[masks == 1].mean() > a[masks == 1].mean() + 0.15  # paler
    sharp = [(images[:, 1:] - images[:, :-1]).abs().amax((1, 2)).mean() for images in (a, b)]
    assert sharp[0] > 1.3 * sharp[1]


def test_a_blur_keeps_the_mean_and_spreads_as_told():
    spot = np.zeros((33, 33))
    spot[16, 16] = 1
    soft = phantoms.blurred(spot, 2.0)
    assert soft.sum() == pytest.approx(1)
    rows = np.arange(33) - 16
    assert np.sqrt((soft.sum(1) * rows**2).sum()) == pytest.approx(2.0, rel=0.03)
    assert np.allclose(phantoms.blurred(np.full((9, 9), 0.3), 1.5), 0.3)


def test_the_same_numbers_give_the_same_phantom():
    one, mask = phantoms.phantom(5, 2, style="b")
    again, same = phantoms.phantom(5, 2, style="b")
    assert torch.equal(one, again) and torch.equal(mask, same)
    assert not torch.equal(one, phantoms.phantom(6, 2, style="b")[0])


def test_the_same_on_every_machine():
    images = torch.stack([torch.cat(phantoms.phantom(number, 1, 48, style)) for number in range(3) for style in "ab"])
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "232b628021bbea03"


@pytest.mark.parametrize("size", [32, 65, 128])
def test_sizes_show_the_same_chest(size):
    mask = phantoms.phantom(3, 0, size)[1]
    other = phantoms.phantom(3, 0, 64)[1]
    fractions = [[float((m == number).double().mean()) for number in range(4)] for m in (mask, other)]
    assert fractions[0] == pytest.approx(fractions[1], abs=0.01)
