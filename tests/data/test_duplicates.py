"""Equal files in a data set."""

from PIL import Image

from mlcli.data.duplicates import without_duplicates
from mlcli.data.folders import ClassFolder


def test_equal_files(tmp_path):
    files = {"a/1.png": b"1", "a/2.png": b"2", "a/3.png": b"1", "b/1.png": b"3", "b/2.png": b"2", "b/4.png": b"4"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), int(content)).save(tmp_path / name)
    (tmp_path / "b/gone.png").symlink_to("nowhere")
    folder, problems, contents = without_duplicates(ClassFolder.open(tmp_path))
    left = [path.relative_to(tmp_path).as_posix() for path in folder.paths]
    assert left == ["a/1.png", "b/1.png", "b/4.png", "b/gone.png"], "what cannot be read is named when it is decoded"
    assert folder.labels == [0, 1, 1, 1] and len(contents) == 3
    same, across = sorted(map(str, problems), key=lambda text: "another class" in text)
    assert same.startswith(f"{tmp_path}/a/3.png: the same file as {tmp_path}/a/1.png")
    assert across.startswith(f"{tmp_path}/a/2.png: the same file stands in another class ({tmp_path}/b/2.png)")
    again, problems, _ = without_duplicates(folder, contents)
    assert again.paths == [tmp_path / "b/gone.png"] and "among the training images" in str(problems[0])


def test_equal_files_that_are_no_images_stay_to_be_named_as_such(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    folder, problems, contents = without_duplicates(ClassFolder.open(tmp_path))
    assert len(folder.paths) == 3 and not problems and not contents
