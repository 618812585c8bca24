"""Which files are pairs."""

import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.data.pairing import find_pairs, parts
from mlcli.data.pairs import ImageSpec, PairSet, ResizeCrop
from mlcli.errors import DataError, UsageError
from mlcli.io import tally
from tests.archives import contents, write_tar
from tests.flat import flat, save


def names(pairing) -> list[tuple[str, str]]:
    return [tuple(path.relative_to(pairing.root).as_posix() for path in pair) for pair in pairing.paths]


def test_pairs_in_an_archive_are_those_on_disk(tmp_path):
    for name in ("A/1.png", "A/2.png", "B/1.png", "B/3.png"):
        flat(tmp_path / "set" / name)
    file = write_tar(tmp_path / "set.tar", contents(tmp_path / "set"))
    assert names(find_pairs(file)) == names(find_pairs(tmp_path / "set")) == [("A/1.png", "B/1.png")]
    with pytest.raises(DataError, match="stands for 2 folders, where one is needed"):
        find_pairs(tmp_path / "set{,.tar}")


def test_names_match_without_their_endings_and_what_does_not_is_listed(tmp_path):
    for name in ("A/1.png", "A/sub/2.png", "A/3.png", "A/4.png", "A/5.png", "A/5.bmp", "A/6.png", "A/6.bmp"):
        flat(tmp_path / name)
    for name in ("B/1.jpg", "B/sub/2.png", "B/2.png", "B/4.png", "B/5.png", "B/6.tif"):
        flat(tmp_path / name)
    pairing = find_pairs(tmp_path)
    assert names(pairing) == [
        ("A/1.png", "B/1.jpg"), ("A/4.png", "B/4.png"), ("A/5.png", "B/5.png"), ("A/sub/2.png", "B/sub/2.png"),
    ]  # fmt: skip
    assert pairing.layout == "A/ and B/" and not pairing.halves
    listed = {str(problem) for problem in pairing.problems}
    a, b = tmp_path / "A", tmp_path / "B"
    several = "several images of this name, here or in {}, and no telling which belong together"
    assert listed == {
        f"{a}/3.png: no image of this name in {b}; left out",
        f"{a}/5.bmp: no image of this name in {b}; left out",
        f"{a}/6.bmp: {several.format(b)}; left out",
        f"{a}/6.png: {several.format(b)}; left out",
        f"{b}/2.png: no image of this name in {a}; left out",
        f"{b}/6.tif: {several.format(a)}; left out",
    }


@pytest.mark.parametrize(
    "layout", [("trainA", "trainB", "testA", "testB"), ("train/A", "train/B", "test/A", "test/B"),
               ("A/train", "B/train", "A/test", "B/test")],
)  # fmt: skip
def test_layouts_of_published_sets(tmp_path, layout):
    for number, folder in enumerate(layout):
        flat(tmp_path / folder / f"{number // 2}.png")
    assert parts(tmp_path) == ["train", "test"]
    train, test = find_pairs(tmp_path), find_pairs(tmp_path, "test")
    assert names(train) == [(f"{layout[0]}/0.png", f"{layout[1]}/0.png")]
    assert names(test) == [(f"{layout[2]}/1.png", f"{layout[3]}/1.png")]
    assert names(find_pairs(tmp_path, "train")) == names(train) and train.digest() != test.digest()


def test_side_by_side_files(tmp_path):
    left, right = np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 4) + 100
    save(tmp_path / "train" / "1.png", np.concatenate([left, right], 1))
    flat(tmp_path / "train" / "odd.png", 7, (3, 5))
    pairing = find_pairs(tmp_path)
    assert pairing.halves and pairing.layout == "side by side in train/" and parts(tmp_path) == ["train"]
    data = PairSet.load(pairing, (ImageSpec(1), ImageSpec(1)), ResizeCrop(mode="none", multiple=1))
    a, b = data.batch(torch.tensor([0]))
    assert torch.equal(a[0, 0], torch.tensor(left, dtype=torch.uint8)) and torch.equal(b, a + 100)
    assert "odd.png: 5 pixels wide" in str(data.problems[0]) and len(data) == 1
    assert data.names(torch.tensor([0])) == [str(tmp_path / "train" / "1.png")]


def test_photographs_are_no_pairs_side_by_side(tmp_path):
    flat(tmp_path / "1.png", size=(4, 8))  # (height, width)
    upright = Image.new("RGB", (6, 12))
    exif = upright.getexif()
    exif[0x0112] = 6  # to be rotated by a quarter
    upright.save(tmp_path / "2.jpg", exif=exif)
    (tmp_path / "3.png").write_bytes(b"is named when it is decoded")
    find_pairs(tmp_path).require_side_by_side()
    flat(tmp_path / "4.png", size=(6, 8))
    with pytest.raises(UsageError, match=r"4\.png \(8 x 6 pixels\) is not 2:1.*A/ and B/.*mlcli pairs.*--side-by-side"):
        find_pairs(tmp_path).require_side_by_side()
    for side in "AB":  # of any size
        flat(tmp_path / "two" / side / "1.png", size=(6, 8))
    find_pairs(tmp_path / "two").require_side_by_side()


def test_folders_that_serve_for_nothing(tmp_path):
    flat(tmp_path / "half" / "A" / "1.png")
    flat(tmp_path / "apart" / "A" / "1.png")
    flat(tmp_path / "apart" / "B" / "2.png")
    for name in ("A", "B", "trainA", "trainB", "train/A", "train/B"):
        flat(tmp_path / "both" / name / "1.png")
    (tmp_path / "empty").mkdir()
    for root, words in [
        ("none", "no such folder"), ("half/A/1.png", "a file, not a folder"), ("empty", "no pairs in it"),
        ("half", "of A/ and B/, one is there"), ("both", "holds trainA/ and trainB/ and train/A/ and train/B/"),
        ("apart", "no pairs in it. .*A/1.png: no image of this name.*B/2.png"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=words):
            find_pairs(tmp_path / root)
    with pytest.raises(DataError, match="valA/ and valB/"):
        find_pairs(tmp_path / "both", "val")


def test_a_split_holds_out_a_fraction_of_the_pairs_by_the_seed(tmp_path):
    for side in "AB":
        (tmp_path / side).mkdir()
        for number in range(8):
            Image.new("RGB", (4, 4)).save(tmp_path / side / f"{number}.png")
    pairing = find_pairs(tmp_path)
    rest, held = pairing.split(0.25, 1)
    assert len(held.paths) == 2 and sorted(rest.paths + held.paths) == pairing.paths
    assert pairing.split(0.25, 1)[1].paths == held.paths != pairing.split(0.25, 2)[1].paths
    assert [len(part.paths) for part in pairing.split(0.999, 0)] == [1, 7]


COMPOSED, TAKEN_APART = (unicodedata.normalize(form, "Füße é") for form in ("NFC", "NFD"))


def test_names_pair_whatever_their_unicode_normalization(tmp_path):
    for name in (f"A/{COMPOSED}.png", f"A/{TAKEN_APART}2.png", f"A/{COMPOSED}/3.png", "A/é.png"):
        flat(tmp_path / name)
    for name in (f"B/{TAKEN_APART}.png", f"B/{COMPOSED}2.jpg", f"B/{TAKEN_APART}/3.png", "B/e.png"):
        flat(tmp_path / name)
    pairing = find_pairs(tmp_path)
    assert set(names(pairing)) == {
        (f"A/{COMPOSED}.png", f"B/{TAKEN_APART}.png"),  # each as it is on the disk
        (f"A/{TAKEN_APART}2.png", f"B/{COMPOSED}2.jpg"),
        (f"A/{COMPOSED}/3.png", f"B/{TAKEN_APART}/3.png"),
    }
    assert len(pairing.problems) == 2


def test_of_two_spellings_in_one_folder_the_very_same_belong_together(tmp_path):
    for name in (f"A/{COMPOSED}.png", f"A/{TAKEN_APART}.png", f"B/{TAKEN_APART}.png"):
        flat(tmp_path / name)
    if len(list((tmp_path / "A").iterdir())) < 2:
        pytest.skip("this file system takes the two for one")
    pairing = find_pairs(tmp_path)
    assert names(pairing) == [(f"A/{TAKEN_APART}.png", f"B/{TAKEN_APART}.png")]
    assert [str(problem) for problem in pairing.problems] == [
        f"{tmp_path / 'A' / COMPOSED}.png: no image of this name in {tmp_path / 'B'}; left out"
    ]


def test_partners_of_odd_endings_and_formats_that_are_not_read(tmp_path):
    tally.begin()
    for name in ("A/1.png", "A/2.png", "B/1.png", "B/2.png"):
        flat(tmp_path / name)
    (tmp_path / "A/2.png").rename(tmp_path / "A/2.jpg_large")
    (tmp_path / "B/3.jxl").write_bytes(b"x")
    pairing = find_pairs(tmp_path)
    assert names(pairing) == [("A/1.png", "B/1.png"), ("A/2.jpg_large", "B/2.png")]
    (problem,) = map(str, pairing.problems)
    assert "JPEG XL" in problem
