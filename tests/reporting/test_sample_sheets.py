"""Sheets of samples, measured in their pixels."""

import numpy as np
import torch

from mlcli.reporting import captions, sample_sheets

RED, BLUE = (torch.tensor(color)[:, None, None].expand(3, 16, 16) for color in ([1.0, 0, 0], [0, 0, 1.0]))


def of_color(image, color):
    return np.nonzero((np.asarray(image) == color).all(2))


def test_columns_have_titles_above_them():
    sheet = sample_sheets.columns(("A", "A → B"), [[RED[None], BLUE[None]], [RED[None], BLUE[None]]])
    untitled = sample_sheets.columns(("", ""), [[RED[None], BLUE[None]], [RED[None], BLUE[None]]])
    for color, column in (((255, 0, 0), 0), ((0, 0, 255), 1)):
        rows, columns = of_color(sheet, color)
        assert len(rows) == 2 * 96**2, "enlarged by 6"
        title = np.asarray(sheet)[: rows.min(), columns.min() : columns.max()]
        assert (title < 200).any() and (np.asarray(untitled)[: rows.min()] == 255).all(), column


def test_a_gray_image_and_a_large_one_are_drawn_as_they_are():
    sheet = sample_sheets.columns(("input",), [[torch.full((1, 1, 200, 300), 0.2)]])
    assert len(of_color(sheet, (51, 51, 51))[0]) == 200 * 300


def test_titles_have_arrows():
    arrow, unknown = (bytes(captions.font_of_size(20).getmask(text)) for text in ("→", "\ue000"))
    assert arrow != unknown, "no box in place of the arrow"


def test_pairs_are_apart_from_each_other():
    pair = sample_sheets.Pair((RED, BLUE), ("ann", "a-very-long-name-that-does-not-fit-its-image-17"), "distance 1")
    sheet = sample_sheets.pairs([pair] * 3)
    rows, columns = of_color(sheet, (255, 0, 0))
    assert len(rows) == 3 * 96**2 and sheet.width < 470, "two in a row, which a narrow screen shows unshrunk"
    first = columns[columns < sheet.width // 2].max()
    blue = np.unique(of_color(sheet, (0, 0, 255))[1])
    second = columns[columns > sheet.width // 2].min()
    assert blue.min() - first <= 5 and second - blue[blue < sheet.width // 2].max() >= 20
