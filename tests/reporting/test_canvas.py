import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.errors import UsageError
from mlcli.reporting import canvas


def test_tiles_stand_in_rows_with_their_pixels_kept_square():
    tiles = torch.rand(5, 3, 2, 4)
    image = np.asarray(canvas.grid(tiles, side=20, gap=2, columns=3))
    assert image.shape == (2 * (10 + 2) + 2, 3 * (20 + 2) + 2, 3)
    for index, tile in enumerate(tiles):
        y, x = 2 + index // 3 * 12, 2 + index % 3 * 22
        cell = image[y : y + 10, x : x + 20].reshape(2, 5, 4, 5, 3)
        assert (cell == cell[:, :1, :, :1]).all()
        assert (cell[:, 0, :, 0] == (tile.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)).all()
    assert (image[14:, 46:] == canvas.PAPER).all()  # no sixth tile
    assert (image[:2] == canvas.PAPER).all() and (image[:, 22:24] == canvas.PAPER).all()


def test_labels_stand_below_their_tiles():
    tiles = torch.ones(2, 3, 7, 7)
    plain, labeled = canvas.grid(tiles, columns=2), canvas.grid(tiles, ["1", ""], columns=2)
    assert labeled.height - plain.height == 14
    dark = np.asarray(labeled.convert("L")) < 128
    rows, columns = dark.nonzero()
    assert len(rows) and rows.min() >= 6 + 56 and columns.max() < 6 + 56


def test_near_square_unless_told():
    assert canvas.grid(torch.zeros(64, 3, 7, 7), gap=0).size == (8 * 56, 8 * 56)
    assert canvas.grid(torch.zeros(3, 3, 7, 7), gap=0, columns=1).size == (56, 3 * 56)


@pytest.mark.parametrize(
    "n, height, width, options", [(5, 2, 4, {"side": 20, "columns": 3}), (7, 90, 60, {"apart": 9})]
)
def test_the_size_of_a_grid_is_known_before(n, height, width, options):
    tiles = torch.zeros(n, 3, height, width)
    for labels, lines in ((None, 0), (["a\nb"] * n, 2)):
        drawn = canvas.grid(tiles, labels, **options)
        assert canvas.grid_size(n, height, width, lines=lines, **options) == (drawn.height, drawn.width)


def test_large_tiles_are_not_shrunk_and_oblong_ones_fit():
    assert canvas.grid(torch.zeros(1, 3, 100, 30), side=56, gap=0).size == (30, 100)
    assert canvas.grid(torch.zeros(1, 3, 1, 7), side=56, gap=0).size == (56, 8)


def test_a_image_beyond_all_bounds_is_refused():
    with pytest.raises(UsageError, match="--size 1024: 2048 tiles"):
        canvas.grid(torch.zeros(1, 3, 1, 1).expand(2048, -1, -1, -1), side=1024)


def test_a_sheet_of_labeled_rows():
    red, wide = torch.zeros(3, 20, 20), torch.zeros(3, 10, 20, dtype=torch.uint8)
    red[0], wide[1] = 1, 255
    rows = [
        ("0", [canvas.Strip([red, None], "5"), canvas.Strip([])]),
        ("123", [canvas.Strip([wide]), canvas.Strip([])]),
    ]
    image = np.asarray(canvas.sheet("a title", ["first", "second"], rows, [2, 1], side=20, gap=4)).astype(int)
    (top, left), (bottom, right) = (f(np.argwhere((image == (255, 0, 0)).all(2)), 0) for f in (np.min, np.max))
    assert (bottom - top, right - left) == (19, 19)
    (low, same), (_, end) = (f(np.argwhere((image == (0, 255, 0)).all(2)), 0) for f in (np.min, np.max))
    assert same == left and end == right and low == top + 38 + 5  # the next row, in the middle of its cell
    assert (image[top - 1 : top + 21, left + 23] == canvas.LINE).all()  # the frame of the one that is missing
    assert (image[top : top + 20, left + 24 : left + 43] == canvas.PAPER).all()
    dark = image.sum(2) < 450
    assert dark[: top - 20].any() and dark[top - 20 : top - 1, right:].any()  # the title and the second heading
    assert dark[top : top + 20, : left - 1].any() and dark[top + 21 : top + 38, left:].any()  # label and caption


def test_a_sheet_beyond_all_bounds_is_refused():
    with pytest.raises(UsageError, match="--size 5000: 90 tiles"):
        canvas.sheet("", [""], [("", [])], [90], side=5000)


def test_the_first_column_apart_and_labels_of_two_lines():
    tiles = torch.rand(4, 3, 4, 4)
    image = np.asarray(canvas.grid(tiles, ["a\nb"] + ["c\nd"] * 3, columns=2, side=20, gap=2, apart=10))
    assert image.shape == (2 * (20 + 2 * 14 + 2) + 2, 2 * (20 + 2) + 2 + 10, 3)
    color = (tiles[3].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    assert (image[52:72, 34:54][::5, ::5] == color).all()
    assert (image[2:22, 22:34] == canvas.PAPER).all()
    lines = [(image[y : y + 14, 2:22] < 128).any() for y in (22, 36)]
    assert lines == [True, True]


@pytest.mark.parametrize("text", ["short", "a name that is far too long for its tile.jpg", "", "w" * 5000])
def test_long_labels_lose_their_middle(text):
    shown = canvas.shortened(text, 60)
    drawn = canvas.ImageFont.load_default(canvas.FONT_SIZE).getlength(shown)
    if drawn < 60 and "…" not in shown:
        assert shown == text
    else:
        first, last = shown.split("…")
        assert text.startswith(first) and text.endswith(last) and 0 <= len(first) - len(last) <= 1
        assert 50 < drawn <= 60


def test_a_sheet_of_files(tmp_path):
    colors = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
    for name, color in colors.items():
        Image.new("RGB", (30, 50), color).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"")
    rows = [["red", "blue", "bad"], ["green", "red"]]
    image = canvas.rows_of_files([[(tmp_path / f"{name}.png", f"{name}\n1") for name in row] for row in rows], 20)
    pixels = np.asarray(image)
    assert pixels.shape == (2 * (20 + 28 + 6) + 6, 3 * 26 + 6 + 5, 3)
    shown = [[tuple(pixels[6 + row * 54 + 10, x + 10]) for x in (6, 37, 63)] for row in range(2)]
    white = (255, 255, 255)
    assert shown == [[colors["red"], colors["blue"], white], [colors["green"], colors["red"], white]]


def test_a_square_of_any_image():
    small = torch.arange(12.0).view(1, 3, 4)
    assert torch.equal(canvas.square(small, 9)[:, 1::3, 1::3], small[:, :, :3])
    assert torch.equal(canvas.square(small, 9)[:, ::3], canvas.square(small, 9)[:, 2::3])
    assert canvas.square(torch.rand(3, 40, 1000), 16).shape == (3, 16, 16)


def test_a_mosaic_of_groups():
    tile = torch.full((3, 4, 8), 0.0)
    image = np.asarray(canvas.mosaic([[tile] * 3, [], [None]], 8, rows=2, gap=2))
    assert image.shape == (2 * 10 + 2, 2 * 10 + 10 + 2 + 1, 3)
    black = (image == 0).all(2)
    expected = np.zeros_like(black)
    for y, x in ((2, 2), (2, 12), (12, 2)):
        expected[y + 2 : y + 6, x : x + 8] = True  # in the middle of its cell
    assert np.array_equal(black, expected)
    assert (image[2:10, 23:31] == canvas.PAPER).all() and (image[2:10, 31] == canvas.LINE).all()
