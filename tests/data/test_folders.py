"""Finding images, class folders."""

import io
import os
import pty
import unicodedata
from pathlib import Path

import pytest

from mlcli.data.folders import ClassFolder, DividedError, positions, spread
from mlcli.data.sources import as_on_disk, find_images
from mlcli.errors import DataError, MlcliError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(*inputs, root=None, **options) -> list[str]:
    result = find_images(inputs, **options)
    assert not result.problems
    return [str(path.relative_to(root) if root else path) for path in result.paths]


# ----------------------------------------------------------------------------------------------- finding


def test_an_empty_name_is_refused_and_a_too_long_one_left_to_the_reader():
    with pytest.raises(UsageError, match="empty name"):
        find_images(["a.png", ""])
    assert found("long" * 100) == ["long" * 100]


def test_folders_are_walked_sorted_and_hidden_names_skipped(tmp_path):
    touch(tmp_path, "b.png", "a/z.JPG", "a/b/c.tiff", "B.png", "a.gif", "notes.txt", "x.json", ".hidden.png")
    touch(tmp_path, ".git/a.png", "a/.cache/b.png", "noending")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path, "folder.png/in.webp")
    assert found(tmp_path, root=tmp_path) == [
        "B.png", "a.gif", "a/b/c.tiff", "a/z.JPG", "b.png", "folder.png/in.webp",
    ]  # fmt: skip
    # A hidden folder that is named is meant.
    assert found(tmp_path / ".git", root=tmp_path) == [".git/a.png"]


def test_inputs_keep_their_order_and_none_comes_twice(tmp_path, monkeypatch):
    touch(tmp_path, "f/2.png", "f/1.png", "odd.xyz", "last.png")
    monkeypatch.chdir(tmp_path)
    assert found("odd.xyz", "f/2.png", "f", "none.png", "./odd.xyz", tmp_path / "last.png", "last.png") == [
        "odd.xyz", "f/2.png", "f/1.png", "none.png", str(tmp_path / "last.png"),
    ]  # fmt: skip
    assert find_images([]).paths == []


@pytest.mark.parametrize(
    "data",
    [b"b.png\na.png\n", b"b.png\r\n\r\na.png", b"b.png\0a.png\0", b"b.png\0a.png\0b.png"],
)
def test_paths_from_stdin(data):
    assert found("-", stdin=io.BytesIO(data)) == ["b.png", "a.png"]
    assert found("c.png", "-", "d.png", stdin=io.BytesIO(data)) == ["c.png", "b.png", "a.png", "d.png"]


def test_strange_names(tmp_path):
    strange = ["-rf.png", " space .png", "new\nline.png", "Füße 猫.png", "*?[a].png", "a'\"b.png"]
    touch(tmp_path, *strange)
    undecodable = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(undecodable)).write_bytes(b"x")
        strange.append(os.fsdecode(b"caf\xe9.png"))
    except OSError:  # a file system that takes UTF-8 only
        pass
    assert sorted(found(tmp_path, root=tmp_path)) == sorted(strange)
    listing = b"\0".join(os.fsencode(tmp_path / name) for name in strange)
    assert found("-", root=tmp_path, stdin=io.BytesIO(listing)) == strange


def test_links_and_loops(tmp_path):
    touch(tmp_path, "top/a/1.png", "top/z/2.png", "outside/3.png")
    top = tmp_path / "top"
    (top / "a" / "up").symlink_to(top, target_is_directory=True)
    (top / "a" / "self").symlink_to("self")
    (top / "a" / "to_z").symlink_to(top / "z", target_is_directory=True)
    (top / "0_to_z").symlink_to(top / "z", target_is_directory=True)
    (top / "out").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "outside" / "back").symlink_to(top, target_is_directory=True)
    (top / "linked.png").symlink_to(top / "a" / "1.png")
    (top / "dead.png").symlink_to("nowhere.png")
    (top / "dead").symlink_to("nowhere")
    os.mkfifo(top / "pipe.png")
    result = find_images([top])
    names = [str(path.relative_to(top)) for path in result.paths]
    assert names == ["a/1.png", "dead.png", "linked.png", "out/3.png", "z/2.png"]
    assert [str(error) for error in result.problems] == [f"{top / 'pipe.png'}: a pipe, not an image; left out"]


def test_a_folder_that_cannot_be_listed_is_a_problem_and_the_rest_goes_on(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    real = os.scandir

    def scandir(path):  # root may list everything, so the refusal is played
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = find_images([tmp_path])
    assert [path.name for path in result.paths] == ["1.png", "3.png"]
    assert [str(error) for error in result.problems] == [f"{tmp_path / 'b'}: cannot be listed: Permission denied"]
    with pytest.raises(DataError, match="cannot be listed"):
        ClassFolder.open(tmp_path)


def test_what_a_path_names(tmp_path, monkeypatch):
    touch(tmp_path, "a/one.png", "a/two.png", "b/one.png")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "two.png").symlink_to("a/two.png")
    monkeypatch.chdir(tmp_path / "a")
    among = [tmp_path / "a" / "one.png", Path("two.png"), Path("../link/one.png")]
    asked = ["one.png", "../link/two.png", "../two.png", "../b/one.png", "absent.png"]
    assert positions(asked, among).tolist() == [0, 1, 1, -1, -1]
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "one.png").symlink_to(tmp_path / "a" / "one.png")
    assert positions(["one.png"], [tmp_path / "copy" / "one.png"]).tolist() == [-1]  # another name for it


# ------------------------------------------------------------------------------------------ class folders


def test_class_folder(tmp_path):
    touch(tmp_path, "dog/1.png", "cat/b/2.png", "cat/1.png", "README.txt", ".git/x.png", "stray.png")
    data = ClassFolder.open(tmp_path)
    assert data.classes == ("cat", "dog") and data.labels == [0, 0, 1]
    assert [str(path.relative_to(tmp_path)) for path in data.paths] == [
        "cat/1.png",
        "cat/b/2.png",
        "dog/1.png",
    ]
    known = ClassFolder.open(tmp_path, classes=["dog", "fish", "cat"])
    assert known.classes == ("dog", "fish", "cat") and known.labels == [2, 2, 0]


def test_class_folder_errors(tmp_path):
    touch(tmp_path, "data/horse/1.png", "data/ship/1.png", "flat/1.png", "gap/a/1.png", "gap/b/notes.txt")
    for root, words in [
        ("none", "no such folder"),
        ("flat/1.png", "a file, not a folder"),
        ("flat", "no class folders"),
        ("gap", "no images for 'b'"),
    ]:
        with pytest.raises(DataError, match=words):
            ClassFolder.open(tmp_path / root)
    with pytest.raises(DataError, match="no such folder"):
        ClassFolder.open(tmp_path / ("long" * 100))
    with pytest.raises(DataError, match="'horse': none of the model's 3 classes; nearest to it: horses"):
        ClassFolder.open(tmp_path / "data", classes=["car", "horses", "ship"])


def test_split_takes_a_fraction_of_each_class(tmp_path):
    touch(tmp_path, *(f"a/{i}.png" for i in range(10)), *(f"b/{i}.png" for i in range(2)))
    data = ClassFolder.open(tmp_path)
    rest, held = data.split(0.3, seed=1)
    assert rest.labels == [0] * 7 + [1] and held.labels == [0] * 3 + [1]
    assert sorted(rest.paths + held.paths) == data.paths and rest.classes == held.classes == ("a", "b")
    assert data.split(0.3, seed=1)[1].paths == held.paths != data.split(0.3, seed=2)[1].paths
    rest, held = data.split(0.95, seed=1)
    assert rest.labels == [0, 1] and held.labels == [0] * 9 + [1]
    data.require_classes(2)
    with pytest.raises(DataError, match="3 are needed"):
        data.require_classes(3)
    (tmp_path / "b/0.png").unlink()
    with pytest.raises(DataError, match="'b' has one image"):
        ClassFolder.open(tmp_path).split(0.3, seed=1)


def test_images_without_labels_are_one_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "data/a.png", "data/b/c.png")
    data = ClassFolder.of_one(find_images(["data"]).paths)
    assert data.root == tmp_path / "data" and data.classes == ("",) and data.labels == [0, 0]
    digest = data.digest()
    (tmp_path / "data").rename(tmp_path / "moved")
    assert ClassFolder.of_one(find_images([tmp_path / "moved"]).paths).digest() == digest


def test_digest_tells_lists_apart(tmp_path):
    touch(tmp_path, "one/a/1.png", "one/b/2.png", "two/a/1.png", "two/b/2.png")
    digest = ClassFolder.open(tmp_path / "one").digest()
    assert len(digest) == 64 and digest == ClassFolder.open(tmp_path / "two").digest()
    (tmp_path / "two/b/2.png").write_bytes(b"xy")
    assert digest != ClassFolder.open(tmp_path / "two").digest()
    (tmp_path / "one/b/2.png").rename(tmp_path / "one/b/3.png")
    assert digest != ClassFolder.open(tmp_path / "one").digest()


@pytest.mark.parametrize("count, expected", [(3, [0, 3, 6]), (None, list(range(10))), (12, list(range(10))), (1, [0])])
def test_spread(count, expected):
    assert spread(count, 10) == expected


def test_stdin_that_cannot_be_read():
    ours, theirs = pty.openpty()
    os.close(theirs)  # one whose other end is gone, and one that is open for writing alone
    for number, why in ((ours, "Input/output error"), (os.open(os.devnull, os.O_WRONLY), "Bad file descriptor")):
        with os.fdopen(number, "rb", buffering=0) as stdin:
            with pytest.raises(MlcliError, match=f"^-: standard input cannot be read: {why}"):
                find_images(["-"], stdin=stdin)


# ------------------------------------------------------------------------------- divided sets and spellings

COMPOSED, TAKEN_APART = (unicodedata.normalize(form, "Füße é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    "names, training, held_out",
    [
        ("train/a/1.png train/b/1.png val/a/1.png val/b/1.png", "train", "val"),
        ("train/a/1.png test/a/1.png", "train", "test"),
        ("Training/a/1.png Validation/a/1.png", "Training", "Validation"),
        ("train/1.png test/2.png", "train", "test"),
        ("train/a/1.png train/b/1.png", "train", None),
        ("val/a/1.png test/a/1.png", None, "val"),
        ("train/a/1.png val/a/1.png test/a/1.png models/x.png", "train", "val"),
        ("train/a/1.png dev/a/1.png annotations/x.json", "train", "dev"),
    ],
)
def test_the_parts_of_a_divided_set_are_no_classes(tmp_path, names, training, held_out):
    touch(tmp_path, *names.split())
    with pytest.raises(DividedError, match="parts of a divided data set") as caught:
        ClassFolder.open(tmp_path)
    assert caught.value.training == (training and tmp_path / training)
    assert caught.value.held_out == (held_out and tmp_path / held_out)


@pytest.mark.parametrize(
    "names",
    [
        "train/1.png bus/1.png test/1.png",
        "train/1.png",
        "trains/1.png tests/1.png",
        "test/1.png car/1.png car/sub/2.png",
    ],
)
def test_names_that_classes_may_have(tmp_path, names):
    touch(tmp_path, *names.split())
    ClassFolder.open(tmp_path)


def test_names_that_the_classes_of_a_model_may_have(tmp_path):
    touch(tmp_path, "train/1.png", "test/1.png")
    assert ClassFolder.open(tmp_path, classes=["train", "test"]).labels == [1, 0]


def test_images_beside_the_class_folders_are_a_problem_and_no_error(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "1.png", "2.jpg", "notes.txt", "x.jxl")
    data = ClassFolder.open(tmp_path)
    assert data.labels == [0, 1]
    beside, unread = map(str, data.problems)
    assert beside == f"{tmp_path}: 2 images in no class folder, left out ('1.png', '2.jpg')" and "JPEG XL" in unread
    assert data.split(0.5, 0, keep_single=True)[0].problems == () == data.part([0]).problems  # not to be said again


def test_folders_of_one_spelling_are_one_class(tmp_path):
    touch(tmp_path, f"{COMPOSED}/1.png", f"{TAKEN_APART}/2.png", "b/3.png")
    if len(os.listdir(tmp_path)) < 3:
        pytest.skip("this file system takes the two for one")
    data = ClassFolder.open(tmp_path)
    assert len(data.classes) == 2 and data.labels == [0, 0, 1]
    assert data.classes[0] in (COMPOSED, TAKEN_APART)


def test_a_class_that_is_empty_in_one_spelling_alone(tmp_path):
    touch(tmp_path, f"{COMPOSED}/1.png", "b/3.png")
    (tmp_path / TAKEN_APART).mkdir(exist_ok=True)
    assert len(ClassFolder.open(tmp_path).paths) == 2


def test_a_linked_class_folder_has_images_of_its_own(tmp_path):
    touch(tmp_path, "d/a/1.png", "elsewhere/2.png")
    (tmp_path / "d/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d/c").symlink_to(tmp_path / "d/a")
    assert ClassFolder.open(tmp_path / "d").labels == [0, 1, 2]


def test_names_as_they_are_on_the_disk(tmp_path, monkeypatch):
    touch(tmp_path, f"{TAKEN_APART}/x/{COMPOSED}.png", "plain.png")
    monkeypatch.chdir(tmp_path)
    if os.path.lexists(COMPOSED):
        pytest.skip("this file system takes the two for one")
    assert as_on_disk(f"{COMPOSED}/x/{TAKEN_APART}.png") == Path(f"{TAKEN_APART}/x/{COMPOSED}.png")
    assert as_on_disk(tmp_path / COMPOSED) == tmp_path / TAKEN_APART
    for same in ("plain.png", "absent.png", f"{COMPOSED}/absent.png", "é.png", "\0é"):
        assert str(as_on_disk(same)) == same
    (tmp_path / COMPOSED).mkdir()
    assert as_on_disk(COMPOSED) == Path(COMPOSED)
    # a folder too, and a list
    assert found(f"{COMPOSED}") == [] and len(found(f"{TAKEN_APART}/x")) == 1
