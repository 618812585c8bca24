"""What a walk through a folder takes, and what it says of the rest."""

import builtins
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcli.data.sources import find_images
from mlcli.data.walking import SYSTEM_FOLDERS
from mlcli.errors import ImageError
from mlcli.imaging import decoder, formats, image_io
from mlcli.io import tally
from tests.archives import contents, write_tar


@pytest.fixture
def folder(tmp_path):
    tally.begin()
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 6), "red").save(folder / "plain.jpg")
    return folder


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_images([folder]).paths]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_is_walked_as_its_folder_is(folder, mode):
    """Those that are read from front to back in their own order."""
    for name in ("b/2.png", "a/1.png", ".hidden.png", "__MACOSX/1.png", "b/.x/1.png", "note.txt", "b/raw.dng", "c/odd"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "plain.jpg", folder / name)
    file = write_tar(folder.parent / "photos.tar", dict(reversed(contents(folder).items())), mode)
    there, said = names(folder), tally.current().summary()
    problems = [str(problem).removeprefix(str(folder)) for problem in find_images([folder]).problems]
    tally.begin()
    assert names(file) == (list(reversed(there)) if mode == "w:xz" else there) and len(there) == 4
    assert tally.current().summary().replace(str(file), str(folder)) == said
    assert [str(problem).removeprefix(str(file)) for problem in find_images([file]).problems] == problems


def test_odd_endings_are_looked_into(folder):
    odd = ["none", "a.jpg_large", "a.jpg.1", "a.jpg-orig", "scan.bin", "a.jpg?w=200", "a.jpeg!d"]
    for name in odd:
        shutil.copy(folder / "plain.jpg", folder / name)
    for name in ("LICENSE", "core", "x.unknown"):
        (folder / name).write_bytes(b"This is no image.\n")
    (folder / "empty").write_bytes(b"")
    assert names(folder) == sorted([*odd, "plain.jpg"])
    summary = tally.current().summary()
    assert "4 other files (3 without an ending, 1 .unknown)" in summary
    for path in find_images([folder]).paths:
        assert image_io.read(path).shape == (3, 6, 8)
    assert "7 recognized by the first bytes, not by the name" in tally.current().summary()


def test_files_with_a_known_ending_are_not_opened(folder, monkeypatch):
    for name in ("a.png", "b.heic", "c.txt", "d.json", "e.dcm", "f.mp4", "g.jpg.bak"):
        (folder / name).write_bytes(b"x")
    (folder / "unknown").write_bytes(b"x" * 10_000)
    opened, real = [], open

    def counted(path, *arguments, **options):
        opened.append(os.path.basename(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", counted)
    assert names(folder) == (["a.png", "b.heic"] if not formats.format_of_ending("b.heic").remedy else ["a.png"]) + [
        "plain.jpg"
    ]
    assert opened == ["unknown"]


@pytest.mark.parametrize(
    "name, kind, remedy",
    [
        ("a.jxl", "JPEG XL", "djxl"),
        ("a.cr2", "camera raw", "darktable"),
        ("a.DNG", "camera raw", "darktable"),
        ("a.dcm", "DICOM", "DCMTK"),
        ("a.svg", "SVG", "rsvg"),
        ("a.exr", "OpenEXR", "oiiotool"),
        ("a.nii.gz", "NIfTI", "nibabel"),
    ],
)
def test_formats_that_cannot_be_read_are_named_and_counted(folder, name, kind, remedy):
    for number in range(3):
        (folder / f"{number}{name}").write_bytes(b"x")
    found = find_images([folder])
    assert [path.name for path in found.paths] == ["plain.jpg"]
    (problem,) = map(str, found.problems)
    assert f"3 images in the format {kind}, left out (0{name}, 1{name}, …)" in problem and remedy in problem
    assert f"3 images in formats that are not read (3 {kind})" in tally.current().summary()


def test_a_format_known_by_its_bytes_alone_is_named_too(folder):
    (folder / "1.2.840.113").write_bytes(bytes(128) + b"DICM" + bytes(64))  # as archives of hospitals name them
    (problem,) = map(str, find_images([folder]).problems)
    assert "DICOM" in problem
    with pytest.raises(ImageError, match="in the format DICOM, which cannot be read here; convert"):
        image_io.read(folder / "1.2.840.113")


@pytest.mark.parametrize(
    "name, head, kind",
    [
        ("phone.jpg", b"\xff\x0a" + bytes(60), "JPEG XL"),
        ("scan.png", bytes(128) + b"DICM" + bytes(64), "DICOM"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom" + bytes(60), "camera raw"),
    ],
)
def test_a_file_of_such_a_format_under_another_name(folder, name, head, kind):
    (folder / name).write_bytes(head)
    with pytest.raises(ImageError, match=f"in the format {kind}, which cannot be read here"):
        image_io.read(folder / name)


def test_raw_files_beside_their_developed_ones_are_no_problem(folder):
    for name in ("plain.CR2", "other.NEF"):
        (folder / name).write_bytes(b"x")
    (problem,) = map(str, find_images([folder]).problems)
    assert "1 image in the format camera raw, left out (other.NEF)" in problem
    assert "1 raw image beside the developed" in tally.current().summary()


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found", "@EADIR", "@Recycle"])
def test_folders_of_the_system_are_passed_over(folder, name):
    (folder / "sub" / name / "deep").mkdir(parents=True)
    shutil.copy(folder / "plain.jpg", folder / "sub" / name / "deep" / "a.jpg")
    (folder / name).mkdir()
    shutil.copy(folder / "plain.jpg", folder / name / "b.jpg")
    assert name.casefold() in SYSTEM_FOLDERS
    assert names(folder) == ["plain.jpg"]
    assert f"2 folders of the system (2 {name})" in tally.current().summary()
    assert names(folder / name) == ["b.jpg"]  # named, it is meant


def test_special_files_are_named_and_never_opened(folder, monkeypatch):
    monkeypatch.chdir(folder)  # a socket's address is short
    os.mkfifo("pipe.jpg")
    os.mkfifo("plain pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        found = find_images([folder, "pipe.jpg", "socket.png", "/dev/null", "/dev/zero"])
    assert [path.name for path in found.paths] == ["plain.jpg"]
    told = [str(problem) for problem in found.problems]
    assert told == [
        f"{folder / 'pipe.jpg'}: a pipe, not an image; left out",
        f"{folder / 'plain pipe'}: a pipe, not an image; left out",
        f"{folder / 'socket.png'}: a socket, not an image; left out",
        "pipe.jpg: a pipe, not an image; left out",
        "socket.png: a socket, not an image; left out",
        "/dev/null: a device, not an image; left out",
        "/dev/zero: a device, not an image; left out",
    ]
    assert "5 special files (2 pipe, 2 device, 1 socket)" in tally.current().summary()


def test_streams_of_a_shell_are_taken():
    assert [str(path) for path in find_images(["/dev/stdin", "/dev/fd/63"]).paths] == ["/dev/stdin", "/dev/fd/63"]
    reader, writer = os.pipe()
    try:
        assert [str(path) for path in find_images([f"/dev/fd/{reader}"]).paths] == [f"/dev/fd/{reader}"]
    finally:
        os.close(reader)
        os.close(writer)


def test_heic_is_read(folder):
    heif = pytest.importorskip("pillow_heif")
    decoder._load_plugins()
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = (200, 30, 60)
    exif = Image.Exif()
    exif[274] = 6
    heif.from_pillow(Image.fromarray(pixels)).save(folder / "a.HEIC", quality=-1, chroma=444, exif=exif.tobytes())
    shutil.copy(folder / "a.HEIC", folder / "really heic.jpg")
    found = find_images([folder])
    assert [path.name for path in found.paths] == ["a.HEIC", "plain.jpg", "really heic.jpg"] and not found.problems
    rotated = np.rot90(pixels, -1).transpose(2, 0, 1).astype(int)
    for name in ("a.HEIC", "really heic.jpg"):
        image = image_io.read(folder / name)
        assert image.shape == (3, 60, 40)
        assert np.abs(image.numpy().astype(int) - rotated).max() <= 2


@pytest.mark.parametrize("ending, what", [("tif", "pages"), ("gif", "frames"), ("png", "frames"), ("webp", "frames")])
def test_what_has_more_than_one_image_is_noted(folder, ending, what):
    first, second = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    first.save(folder / f"several.{ending}", save_all=True, append_images=[second])
    first.save(folder / f"single.{ending}")
    for name in (f"several.{ending}", f"single.{ending}"):
        image_io.read(folder / name)
    noted = f"; 1 of several {what}, of which the first is read ({folder / f'several.{ending}'})"
    assert tally.current().summary() == "2 images read" + noted


def test_a_smaller_copy_in_a_tiff_is_no_page(folder):
    first, second = (Image.new("RGB", size, "red") for size in ((8, 6), (4, 3)))
    second.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(folder / "pyramid.tif", save_all=True, append_images=[second])
    with Image.open(folder / "pyramid.tif") as image:
        image.seek(1)
        if image.tag_v2.get(254) != 1:
            pytest.skip("this Pillow writes no such tag")
    image_io.read(folder / "pyramid.tif")
    assert tally.current().summary() == "1 image read"
