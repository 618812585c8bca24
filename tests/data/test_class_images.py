"""Classes that an archive or a list names, and class folders in archives."""

import json
import shutil

import pytest

from mlcli.data import class_images
from mlcli.data.folders import ClassFolder, DividedError
from mlcli.errors import DataError
from tests.archives import contents, image_bytes, write_tar, write_zip
from tests.tiny import class_folders


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data") / "classes", per_class=3, size=8)


def rows(folder: ClassFolder, root) -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(root)), folder.classes[label])
        for path, label in zip(folder.paths, folder.labels, strict=True)
    ]


def test_class_folders_in_an_archive_are_those_on_disk(data, tmp_path):
    there = rows(ClassFolder.open(data), data)
    for file in (write_tar(tmp_path / "a.tar", contents(data)), write_zip(tmp_path / "a.zip", contents(data))):
        found = ClassFolder.open(file)
        assert rows(found, file) == there and found.root == file and found.problems == ()
        assert found.digest() == ClassFolder.open(data).digest()
    wrapped = write_tar(tmp_path / "w.tar", {f"./data/{name}": content for name, content in contents(data).items()})
    assert rows(ClassFolder.open(wrapped), wrapped / "data") == there
    assert ClassFolder.open(wrapped / "data").paths == ClassFolder.open(wrapped).paths


def test_the_parts_of_a_divided_archive_are_named(data, tmp_path):
    members = {f"{part}/{name}": content for part in ("train", "val") for name, content in contents(data).items()}
    file = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DividedError, match=f"name {file}/train or {file}/val"):
        ClassFolder.open(file)
    assert len(ClassFolder.open(file / "train").paths) == 9


def test_a_class_can_be_spread_over_shards(data, tmp_path):
    members = contents(data)
    write_tar(tmp_path / "s-00.tar", {name: members[name] for name in members if not name.startswith("red")})
    write_tar(tmp_path / "s-01.tar", {name: members[name] for name in members if name.startswith("red")})
    write_tar(tmp_path / "s-02.tar", {name: members[name] for name in members if name.endswith("00.png")})
    found = ClassFolder.open(tmp_path / "s-{00..02}.tar")
    assert found.classes == ("blue", "green", "red") and len(found.paths) == 12
    assert [str(path.relative_to(tmp_path)) for path in found.paths if found.labels[found.paths.index(path)] == 2] == [
        "s-01.tar/red/00.png", "s-01.tar/red/01.png", "s-01.tar/red/02.png", "s-02.tar/red/00.png",
    ]  # fmt: skip
    digest = found.digest()
    shutil.move(tmp_path / "s-02.tar", tmp_path / "s-03.tar")
    assert ClassFolder.open(tmp_path / "s-{00..01}.tar").digest() != digest
    with pytest.raises(DataError, match="no such folder"):
        ClassFolder.open(tmp_path / "s-{00..02}.tar")


def test_members_that_name_the_class_of_the_image_beside_them(tmp_path):
    members = {"skipped.png": image_bytes()}
    for number in range(12):
        members |= {f"{number:04}.png": image_bytes(), f"{number:04}.cls": b"%d\n" % number, f"{number:04}.json": b"{}"}
    found = ClassFolder.open(write_tar(tmp_path / "a.tar", members))
    assert found.classes == tuple(map(str, range(12)))  # 2 before 10
    assert [path.name for path in found.paths] == [f"{number:04}.png" for number in range(12)]
    assert "1 image in no class folder, left out ('skipped.png')" in str(found.problems[0])
    known = ClassFolder.open(tmp_path / "a.tar", [f"class {number}" for number in range(12)])
    assert known.labels == list(range(12))
    with pytest.raises(DataError, match="none of the model's 3 classes"):
        ClassFolder.open(tmp_path / "a.tar", ["a", "b", "c"])


def test_other_labels_under_the_same_names_are_other_data(tmp_path):
    digests = []
    for labels in ("ab", "ac", "ab"):
        members = {"1.png": image_bytes(), "2.png": image_bytes()}
        members |= {f"{number}.cls": label.encode() for number, label in enumerate(labels, 1)}
        digests.append(ClassFolder.open(write_tar(tmp_path / "a.tar", members)).digest())
    assert digests[0] == digests[2] != digests[1]


def test_the_column_of_labels_of_a_parquet_file(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = {"label": {"_type": "ClassLabel", "names": ["dog", "cat"]}}
    table = pyarrow.table({"image": [image_bytes()] * 4, "label": [0, 1, None, 0]})
    metadata = {"huggingface": json.dumps({"info": {"features": names}})}
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    found = ClassFolder.open(tmp_path / "a.parquet")
    assert rows(found, tmp_path / "a.parquet") == [("0000001", "cat"), ("0000000", "dog"), ("0000003", "dog")]
    assert len(found.problems) == 1


def test_a_list_of_classes(data, tmp_path):
    file = write_tar(tmp_path / "a.tar", contents(data))
    shutil.copytree(data, tmp_path / "classes")
    list_file = tmp_path / "list.csv"
    list_file.write_text(f"image,note,class\na.tar/red/00.png,,warm\nclasses/blue/01.png,,cold\n{file}/red/01.png,,\n")
    found = ClassFolder.open(list_file)
    assert rows(found, tmp_path) == [("classes/blue/01.png", "cold"), ("a.tar/red/00.png", "warm")]
    assert len(found.problems) == 1 and class_images.is_labeled(list_file)
    list_file.write_text("a,b\n")
    with pytest.raises(DataError, match="does not name the columns image and class"):
        ClassFolder.open(list_file)
    with pytest.raises(DataError, match="no such folder"):
        ClassFolder.open(tmp_path / "absent.csv")


def test_archives_that_cannot_be_read(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match="a.tar: no tar archive"):
        ClassFolder.open(tmp_path / "a.tar")
