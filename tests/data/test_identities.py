import os
import unicodedata

import pytest
import torch

from mlcli.data.folders import DividedError
from mlcli.data.identities import folds, group, hold_out, open_identities
from mlcli.errors import DataError
from tests.archives import contents, write_tar


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_an_identity_is_a_folder_with_images_and_its_group_the_folder_above(tmp_path):
    touch(tmp_path, "Greek/alpha/1.png", "Greek/alpha/2.png", "Greek/beta/1.png", "Latin/a/1.png", "Latin/a/notes.txt")
    folder, problems = open_identities(tmp_path)
    assert folder.classes == ("Greek/alpha", "Greek/beta", "Latin/a") and not problems
    assert folder.labels == [0, 0, 1, 2] and folder.paths[2] == tmp_path / "Greek/beta/1.png"
    assert [group(name) for name in (*folder.classes, "alone")] == ["Greek", "Greek", "Latin", ""]


def test_identities_in_an_archive_are_those_on_disk(tmp_path):
    touch(tmp_path / "set", "Greek/alpha/1.png", "Greek/alpha/2.png", "Greek/beta/1.png")
    file = write_tar(tmp_path / "set.tar", {name: b"x" for name in contents(tmp_path / "set")})
    folder, problems = open_identities(file)
    assert folder.classes == ("Greek/alpha", "Greek/beta") and folder.labels == [0, 0, 1] and not problems
    assert folder.paths[0] == file / "Greek/alpha/1.png"


def test_folders_inside_an_identity_belong_to_it(tmp_path):
    touch(tmp_path, "ann/1.png", "ann/holiday/2.png", "bob/work/1.png")
    folder, _ = open_identities(tmp_path)
    assert folder.classes == ("ann", "bob/work") and folder.labels == [0, 0, 1]


def test_a_image_in_no_folder_is_named_or_an_identity_by_itself(tmp_path):
    touch(tmp_path, "ann/1.png", "bob.png", "ann.jpg")
    folder, problems = open_identities(tmp_path)
    assert folder.classes == ("ann",)
    words = f"{tmp_path}: 2 images in no identity's folder, left out ('ann.jpg', 'bob.png')"
    assert [str(problem) for problem in problems] == [words]
    folder, problems = open_identities(tmp_path, loose=True)
    assert folder.classes == ("ann", "bob") and folder.labels == [0, 0, 1] and not problems


@pytest.mark.parametrize("name, message", [("absent", "no such folder"), ("file", "a file"), ("empty", "no folders")])
def test_what_holds_no_identities_is_refused(tmp_path, name, message):
    touch(tmp_path, "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        open_identities(tmp_path / name)


def test_whole_identities_are_held_out_by_the_seed(tmp_path):
    names = [f"{identity}/{number}.png" for identity in "abcdefghij" for number in range(3)]
    folder, _ = open_identities(touch(tmp_path, *names, "single/1.png"))
    rest, held = hold_out(folder, 0.3, 0)
    assert len(held.classes) == 3 and set(rest.classes) | set(held.classes) == set(folder.classes)
    assert not set(rest.classes) & set(held.classes) and "single" in rest.classes
    for part in (rest, held):
        assert [path.parent.name for path in part.paths] == [part.classes[label] for label in part.labels]
        assert sorted(set(part.labels)) == list(range(len(part.classes)))
    assert hold_out(folder, 0.3, 0)[1].classes == held.classes != hold_out(folder, 0.3, 1)[1].classes
    assert [len(part.classes) for part in hold_out(folder, 0.01, 0)] == [9, 2]
    assert [len(part.classes) for part in hold_out(folder, 0.99, 0)] == [3, 8]


def test_too_few_identities_to_hold_some_out(tmp_path):
    folder, _ = open_identities(touch(tmp_path, *(f"{i}/{n}.png" for i in "abc" for n in range(2))))
    with pytest.raises(DataError, match="four are needed"):
        hold_out(folder, 0.2, 0)


def test_folds_are_of_whole_identities_and_each_can_be_compared():
    identities = torch.tensor([0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5, 5, 7, 8, 8])  # 2 and 7 have one image, 6 none
    fold = folds(identities, 3, seed=0)
    for identity in identities.unique():
        assert len(fold[identities == identity].unique()) == 1
    several = [identity for identity in (0, 1, 3, 4, 5, 8)]
    of = [int(fold[identities == identity][0]) for identity in several]
    assert sorted(of) == [0, 0, 1, 1, 2, 2]
    assert torch.equal(fold, folds(identities, 3, seed=0)) and not torch.equal(fold, folds(identities, 3, seed=1))
    assert folds(identities, 50, seed=0).max() == 2  # no fold with one identity alone
    with pytest.raises(DataError, match="3 identities with two images or more, too few"):
        folds(torch.tensor([0, 0, 1, 1, 2, 2, 3]), 2, seed=0)


COMPOSED, TAKEN_APART = (unicodedata.normalize(form, "José é") for form in ("NFC", "NFD"))


def test_an_identity_is_one_whatever_the_unicode_normalization_of_its_name(tmp_path):
    touch(tmp_path, f"{COMPOSED}/1.png", f"{TAKEN_APART}/2.png", f"group/{TAKEN_APART}/3.png", "b/4.png")
    if len(os.listdir(tmp_path)) < 4:
        pytest.skip("this file system takes the two for one")
    folder, problems = open_identities(tmp_path)
    assert not problems and len(folder.classes) == 3 and folder.labels == [0, 0, 1, 2]
    assert f"group/{TAKEN_APART}" in folder.classes  # as the user has it
    folder, _ = open_identities(tmp_path / COMPOSED, loose=True)
    assert folder.classes == ("1",)


def test_loose_images_of_one_spelling_are_one_identity(tmp_path):
    touch(tmp_path, f"{COMPOSED}.png", f"{TAKEN_APART}.jpg")
    assert len(open_identities(tmp_path, loose=True)[0].classes) == 1


@pytest.mark.parametrize("parts", [("train", "val"), ("Training", "Test"), ("train", "test")])
def test_the_root_of_a_divided_set_holds_no_identities(tmp_path, parts):
    touch(tmp_path, *(f"{part}/{name}/1.png" for part in parts for name in ("ann", "bob")))
    with pytest.raises(DividedError, match="parts of a divided data set"):
        open_identities(tmp_path)
    assert open_identities(tmp_path / parts[0])[0].classes == ("ann", "bob")
