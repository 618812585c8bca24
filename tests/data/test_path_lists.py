"""Lists of paths in the encodings that programs write."""

import codecs
import io
import os

import pytest
from PIL import Image

from mlcli.data import path_lists
from mlcli.data.sources import find_images
from mlcli.errors import DataError

LISTED = "photos/a.png\r\n./Füße 猫.png\r\n/b c.png\r\n"
NAMES = ["photos/a.png", "./Füße 猫.png", "/b c.png"]
MARKED = {
    "utf-8": (b"", "utf-8"),
    "utf-8 with a mark": (codecs.BOM_UTF8, "utf-8"),
    "utf-16 little": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "utf-16 big": (codecs.BOM_UTF16_BE, "utf-16-be"),
    "utf-16 little without a mark": (b"", "utf-16-le"),
    "utf-16 big without a mark": (b"", "utf-16-be"),
    "utf-32": (codecs.BOM_UTF32_LE, "utf-32-le"),
}


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_a_list_in_any_encoding(encoding, ends):
    mark, codec = MARKED[encoding]
    assert path_lists.paths(mark + LISTED.replace("\r\n", ends).encode(codec)) == NAMES
    # and with a single line
    assert path_lists.paths(mark + f"photos/a.png{ends}".encode(codec)) == ["photos/a.png"]


def test_nul_separated_names_stay_names():
    assert path_lists.paths("a\0b\0ü\0new\nline.png\0".encode()) == ["a", "b", "ü", "new\nline.png"]
    assert path_lists.paths("x.png\0y/猫.png\0".encode()) == ["x.png", "y/猫.png"]
    assert path_lists.paths("\ufeffx.png\0y.png\0".encode()) == ["x.png", "y.png"]


@pytest.mark.parametrize("data", [b".\n", b"/\n", b"a.png\n.\n", b"a.png\0.\0b.png\0", b"d\n", b"~\0x.png\0"])
def test_a_folder_of_one_letter_is_never_walked(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("d", "~"):
        os.mkdir(name)
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail(f"{path} was walked"))
    with pytest.raises(DataError):
        find_images(["-"], stdin=io.BytesIO(data))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_utf_16_list_without_separators_walks_nothing(encoding, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("h")
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail(f"{path} was walked"))
    with pytest.raises(DataError, match="'h' in a list"):  # as good as any other answer to it
        find_images(["-"], stdin=io.BytesIO("photo".encode(encoding)))


@pytest.mark.parametrize(
    "data, words",
    [
        (codecs.BOM_UTF16_LE + b"a\0b", "UTF-16 and is broken"),
        (b"caf\xe9.png\nb.png\n", "neither UTF-8 nor UTF-16"),
        (b"\x80\x81\x82\n", "neither UTF-8 nor UTF-16"),
    ],
)
def test_what_is_neither_is_refused(data, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words):
        path_lists.paths(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_an_image_in_place_of_a_list(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    with pytest.raises(DataError, match=f"holds a {kind} image, not a list"):
        path_lists.paths(buffer.getvalue())


def test_names_that_are_not_utf_8_and_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        with open(b"caf\xe9.png", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert [os.fsencode(name) for name in path_lists.paths(b"caf\xe9.png\n")] == [b"caf\xe9.png"]
