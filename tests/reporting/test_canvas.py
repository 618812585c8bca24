import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.errors import UsageError
from mlcli.reporting import canvas, captions


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
    assert labeled.height - plain.height == captions.line_height(56)
    dark = np.asarray(labeled.convert("L")) < 128
    rows, columns = dark.nonzero()
    assert len(rows) and rows.min() >= 6 + 56 and columns.max() < 6 + 56


def test_near_square_unless_told():
    assert canvas.grid(torch.zeros(64, 3, 7, 7), gap=0).size == (8 * 56, 8 * 56)
    assert canvas.grid(torch.zeros(3, 3, 7, 7), gap=0, columns=1).size == (56, 3 * 56)


@pytest.mark.parametrize(
    "n, height, width, options",
    [
        (5, 2, 4, {"side": 20, "columns": 3}),
        (7, 90, 60, {"apart": 9}),
        (50, 2, 3, {"columns": 40, "side": 3}),
        (82, 2, 3, {"columns": 41, "side": 3, "apart": 2}),
        (42, 2, 3, {"columns": 41, "side": 3, "apart": 2}),
    ],
)
def test_the_size_of_a_grid_is_known_before(n, height, width, options):
    tiles = torch.zeros(n, 3, height, width)
    for labels, lines in ((None, 0), (["a\nb"] * n, 2)):
        drawn = canvas.grid(tiles, labels, **options)
        assert canvas.GridLayout(n, height, width, lines=lines, **options).size == (drawn.height, drawn.width)


def columns_and_lines(image, color=(0, 0, 0)):
    """(positions of tiles from the left, positions from the top): where runs of the color begin."""
    mask = (np.asarray(image) == color).all(2)
    return [np.flatnonzero(np.diff(np.r_[False, mask.any(axis)].astype(int)) == 1).tolist() for axis in (0, 1)]


def test_long_rows_have_several_lines_of_about_equal_length():
    image = canvas.grid(torch.zeros(40, 3, 8, 8), columns=20, side=8, gap=2)
    left, top = columns_and_lines(image)
    assert left == [2 + 10 * n for n in range(10)]
    assert top == [2, 12, 28, 38], "two rows of two lines, apart"
    straight = canvas.grid(torch.zeros(40, 3, 8, 8), columns=20, side=8, gap=2, wrap=False)
    assert [len(each) for each in columns_and_lines(straight)] == [20, 2]


def test_the_lines_of_a_row_stand_beside_its_first_tile():
    tiles = torch.zeros(31, 3, 8, 8)
    tiles[0, 0] = 1
    image = canvas.grid(tiles, columns=31, side=8, gap=2, apart=5)
    assert columns_and_lines(image, (255, 0, 0)) == [[2], [2]]
    assert columns_and_lines(image) == [[17 + 10 * n for n in range(15)], [2, 12]]
    assert image.width < 200 < canvas.grid(tiles, columns=31, side=8, gap=2, apart=5, wrap=False).width


def test_a_label_is_never_wider_than_its_cell():
    labels = ["a name that is far too long\n1", "b\n2"]
    image = np.asarray(canvas.grid(torch.ones(2, 3, 4, 4), labels, columns=2, side=4, gap=6).convert("L"))
    assert image.shape[1] == 2 * canvas.LABEL_WIDTH + 3 * 6
    dark = (image < 160).any(0)
    gap = slice(6 + canvas.LABEL_WIDTH, 12 + canvas.LABEL_WIDTH)
    assert dark[: gap.start].any() and dark[gap.stop :].any() and not dark[gap].any()


def test_large_tiles_are_not_shrunk_and_oblong_ones_fit():
    assert canvas.grid(torch.zeros(1, 3, 100, 30), side=56, gap=0).size == (30, 100)
    assert canvas.grid(torch.zeros(1, 3, 1, 7), side=56, gap=0).size == (56, 8)


def test_a_image_beyond_all_bounds_is_refused():
    with pytest.raises(UsageError, match="--size 1024: 2,048 tiles"):
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
    below = captions.line_height(20)
    assert same == left and end == right and low == top + 24 + below + 5  # the next row, in the middle of its cell
    assert (image[top - 1 : top + 21, left + 23] == canvas.LINE).all()  # the frame of the one that is missing
    assert (image[top : top + 20, left + 24 : left + 43] == canvas.PAPER).all()
    dark = image.sum(2) < 450
    assert dark[: top - 20].any() and dark[top - 20 : top - 1, right:].any()  # the title and the second heading
    assert dark[top : top + 20, : left - 1].any() and dark[top + 21 : top + 20 + below, left:].any()  # label, caption


def test_long_strips_of_a_sheet_have_several_lines():
    tile = torch.zeros(3, 8, 8)
    rows = [(str(n), [canvas.Strip([tile] * 60, "8 to 7"), canvas.Strip([tile] * 20, "1")]) for n in range(2)]
    image = canvas.sheet("title", ["first", "second"], rows, [60, 20], side=8, gap=4)
    left, _ = columns_and_lines(image)
    assert len(left) == 20 + 7 and image.width < 27 * 12 + 120
    lines = (np.asarray(image)[:, left[0] + 4] == 0).all(1)
    assert np.flatnonzero(np.diff(np.r_[False, lines].astype(int)) == 1).size == 6


def test_titles_and_captions_of_a_sheet_overlap_nothing():
    tile = torch.ones(3, 8, 8)
    rows = [("0", [canvas.Strip([tile], "-12.5 to -10.9"), canvas.Strip([tile], "x")])]
    title = "a title that is much longer than the sheet is wide, so it has several lines"
    image = canvas.sheet(title, ["a", "b"], rows, [1, 1], side=8)
    assert image.width > captions.font(8).getlength("-12.5 to -10.9") + 2 * 8
    short = canvas.sheet("title", ["a", "b"], rows, [1, 1], side=8)
    assert short.width == image.width and image.height >= short.height + 3 * captions.line_height(8)


def test_a_sheet_beyond_all_bounds_is_refused():
    with pytest.raises(UsageError, match="--size 5000: 90 tiles"):
        canvas.sheet("", [""], [("", [canvas.Strip([])])], [90], side=5000)


def test_the_first_column_apart_and_labels_of_two_lines():
    tiles = torch.rand(4, 3, 4, 4)
    image = np.asarray(canvas.grid(tiles, ["a\nb"] + ["c\nd"] * 3, columns=2, side=40, gap=2, apart=10))
    assert image.shape == (2 * (40 + 2 * 15 + 2) + 2, 2 * (40 + 2) + 2 + 10, 3)
    color = (tiles[3].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    assert (image[74:114, 54:94][::10, ::10] == color).all()
    assert (image[2:42, 42:54] == canvas.PAPER).all()
    lines = [(image[y : y + 15, 2:42] < 128).any() for y in (42, 57)]
    assert lines == [True, True]


def test_a_sheet_of_files(tmp_path):
    colors = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
    for name, color in colors.items():
        Image.new("RGB", (30, 50), color).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"")
    rows = [["red", "blue", "bad"], ["green", "red"]]
    image = canvas.rows_of_files([[(tmp_path / f"{name}.png", name, "1") for name in row] for row in rows], 40)
    pixels = np.asarray(image)
    assert pixels.shape == (2 * (40 + 30 + 6) + 6, 3 * 46 + 6 + 10, 3)
    shown = [[tuple(pixels[6 + row * 76 + 10, x + 10]) for x in (6, 62, 108)] for row in range(2)]
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
