"""Finding pictures, class folders, decoding in threads, pictures for training."""

import io
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.engine import folders, images
from mlcli.engine.folders import ClassFolder, PictureSet, decode, find_images, map_pictures, places
from mlcli.errors import DataError, ImageError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def picture(path: Path, level: int = 100, size=(8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


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
    assert found(top, root=top) == ["a/1.png", "dead.png", "linked.png", "out/3.png", "z/2.png"]


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
        ("gap", "no pictures for 'b'"),
    ]:
        with pytest.raises(DataError, match=words):
            ClassFolder.open(tmp_path / root)
    with pytest.raises(DataError, match="no such folder"):
        ClassFolder.open(tmp_path / ("long" * 100))
    with pytest.raises(DataError, match="'horse': none of the model's 3 classes; nearest to it: horses"):
        ClassFolder.open(tmp_path / "data", classes=["car", "horses", "ship"])


def test_split_takes_a_share_of_each_class(tmp_path):
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
    with pytest.raises(DataError, match="'b' has one picture"):
        ClassFolder.open(tmp_path).split(0.3, seed=1)


def test_pictures_without_labels_are_one_class(tmp_path, monkeypatch):
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


# ---------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_decode_keeps_order_and_yields_errors_in_place(workers):
    def read(path):
        time.sleep(0.002 * (path % 5 == 0))  # some are slow, so that order is not given for free
        if path % 7 == 3:
            raise ImageError(f"{path}: bad")
        return torch.tensor(path)

    results = list(decode(range(60), lambda image: image * 10, workers=workers, read=read))
    assert [index for index, _ in results] == list(range(60))
    for index, image in results:
        assert str(image) == f"{index}: bad" if index % 7 == 3 else image.item() == index * 10


@pytest.mark.parametrize(("workers", "window", "most"), [(3, 5, 5), (2, None, 8), (2, 1, 1)])
def test_decode_holds_a_bounded_number_however_slow_the_consumer(workers, window, most):
    lock, taken, given, peak = threading.Lock(), 0, 0, 0

    def paths():
        nonlocal taken, peak
        for path in range(100):
            with lock:
                taken += 1
                peak = max(peak, taken - given)
            yield path

    for count, _ in enumerate(decode(paths(), read=torch.tensor, workers=workers, window=window)):
        if count % 20 == 0:
            time.sleep(0.02)
        given = count + 1
    assert given == 100 and peak <= most


def test_decode_works_in_parallel():
    meeting = threading.Barrier(3, timeout=10)  # broken unless three are in flight at a time

    def read(path):
        meeting.wait()
        return torch.tensor(path)

    assert len(list(decode(range(9), read=read, workers=3))) == 9


def test_decode_lets_other_errors_through():
    def transform(image):
        raise RuntimeError("a bug")

    for workers in (0, 2):
        with pytest.raises(RuntimeError, match="a bug"):
            list(decode(range(9), transform, read=torch.tensor, workers=workers))


def test_decode_stops_when_the_consumer_does():
    release, started = threading.Event(), []

    def read(path):
        started.append(path)
        if path:
            release.wait(10)
        return torch.tensor(path)

    generator = decode(range(1000), read=read, workers=2, window=10)
    assert next(generator)[0] == 0
    before = time.monotonic()
    generator.close()
    assert time.monotonic() - before < 1  # does not wait for the pictures in work
    release.set()
    time.sleep(0.05)
    assert len(started) <= 4  # and begins no others


# ------------------------------------------------------------------------------------------ picture sets


@pytest.fixture
def mixed(tmp_path):
    paths = [picture(tmp_path / f"{level}.png", level, size) for level, size in
             [(10, (8, 6)), (20, (40, 30)), (30, (9, 50)), (40, (16, 16))]]  # fmt: skip
    deep = np.full((20, 20), 32768, np.uint16)  # 127.5 of 255: rounded to a level
    Image.fromarray(deep).save(tmp_path / "deep.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    return [*paths[:2], tmp_path / "bad.png", *paths[2:], tmp_path / "none.png", tmp_path / "deep.png"]


@pytest.mark.parametrize("budget", [4 << 30, 0])
@pytest.mark.parametrize("channels", [1, 3])
def test_picture_set(mixed, budget, channels):
    calls = []
    data = PictureSet.load(
        mixed, [0, 1, 2, 3, 4, 5, 6], size=16, channels=channels, budget_bytes=budget, workers=2,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert len(data) == 5 and data.labels.tolist() == [0, 1, 3, 4, 6] and data.labels.dtype == torch.int64
    assert [path.name for path in data.paths] == ["10.png", "20.png", "30.png", "40.png", "deep.png"]
    assert [str(error).split(": ")[0] for error in data.problems] == [str(mixed[2]), str(mixed[5])]
    assert calls == [(done, 7) for done in range(1, 8)]
    assert (data.pixels is None) == (budget == 0)
    batch = data.batch(torch.tensor([3, 0, 0, 4]))
    assert batch.shape == (4, channels, 16, 16) and batch.dtype == torch.uint8
    assert [image.unique().tolist() for image in batch] == [[40], [10], [10], [128]]


def test_picture_set_in_memory_equals_on_demand():
    photos = find_images([Path(__file__).parents[2] / "samples" / "photos"]).paths[:4]
    held = PictureSet.load(photos, size=64)
    asked = PictureSet.load(photos, size=64, budget_bytes=4 * 3 * 64 * 64 - 1)
    assert held.labels is None and held.pixels is not None and asked.pixels is None
    assert torch.equal(held.batch(torch.arange(4)), asked.batch(torch.arange(4)))
    assert torch.equal(held.batch(torch.tensor([2]))[0], images.fit(images.read(photos[2]), 64))


def test_picture_set_of_nothing_and_gone_bad(tmp_path):
    assert len(PictureSet.load([], size=8)) == 0
    path = picture(tmp_path / "a.png")
    data = PictureSet.load([path], size=8, budget_bytes=0)
    path.write_bytes(b"gone")
    with pytest.raises(DataError, match="a.png"):
        data.batch(torch.tensor([0]))
    with pytest.raises(ValueError):
        PictureSet.load([path], [1, 2], size=8)
    with pytest.raises(ValueError):
        PictureSet.load([path], size=8, channels=2)


def test_map_pictures_gives_each_its_row(tmp_path):
    paths = [picture(tmp_path / f"{level}.png", level) for level in range(0, 70, 10)]
    paths[2].write_bytes(b"")
    shapes = []

    def compute(batch):
        shapes.append(tuple(batch.shape))
        return batch.float().mean((1, 2, 3))

    answers = list(map_pictures(paths, lambda image: image, compute, batch_size=3))
    assert [path for path, _ in answers] == paths and isinstance(answers[2][1], ImageError)
    assert [row.item() for _, row in answers if not isinstance(row, ImageError)] == [0, 10, 30, 40, 50, 60]
    assert shapes == [(2, 3, 6, 8), (3, 3, 6, 8), (1, 3, 6, 8)]


def test_places(tmp_path, monkeypatch):
    touch(tmp_path, "a/one.png", "a/two.png", "b/one.png")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "two.png").symlink_to("a/two.png")
    monkeypatch.chdir(tmp_path / "a")
    among = [tmp_path / "a" / "one.png", Path("two.png"), Path("../link/one.png")]
    asked = ["one.png", "../link/two.png", "../two.png", "../b/one.png", "absent.png"]
    assert places(asked, among).tolist() == [0, 1, 1, -1, -1]
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "one.png").symlink_to(tmp_path / "a" / "one.png")
    assert places(["one.png"], [tmp_path / "copy" / "one.png"]).tolist() == [-1]  # another name for it


def test_processors():
    assert 1 <= folders.available_processors() <= os.cpu_count()


@pytest.mark.parametrize("count, expected", [(3, [0, 3, 6]), (None, list(range(10))), (12, list(range(10))), (1, [0])])
def test_spread(count, expected):
    assert folders.spread(count, 10) == expected
