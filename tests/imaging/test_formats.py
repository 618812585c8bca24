"""Telling image formats by endings and first bytes."""

import io

import pytest
from PIL import Image, features

from mlcli.imaging import decoder, formats
from mlcli.imaging.formats import format_of_bytes, format_of_ending, is_other


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a.JPG", "JPEG"),
        ("a.tiff", "TIFF"),
        ("IMG_1.HEIC", "HEIC"),
        ("b.heif", "HEIC"),
        ("c.jxl", "JPEG XL"),
        ("d.CR2", "camera raw"),
        ("e.dng", "camera raw"),
        ("f.dcm", "DICOM"),
        ("g.nii.gz", "NIfTI"),
        ("h.svg", "SVG"),
        ("i.exr", "OpenEXR"),
    ],
)
def test_known_endings(name, expected):
    assert format_of_ending(name).name == expected
    assert not is_other(name)


@pytest.mark.parametrize("name", ["photo", "photo.jpg_large", "photo.jpg.1", "scan.dat", "x.raw", "y.hdr", "a.bin"])
def test_endings_that_say_nothing_are_looked_into(name):
    assert format_of_ending(name) is None and not is_other(name)


@pytest.mark.parametrize(
    "name",
    "notes.txt a.json x.csv page.html run.py m.safetensors v.mp4 a.mov s.zip t.tar.gz d.pdf x.npy w.yaml "
    "photo.jpg~ photo.jpg.bak photo.jpg.part photo.png.crdownload IMG.AAE photo.jpg.md5".split(),
)
def test_endings_of_other_files_and_of_copies(name):
    assert is_other(name)


def test_every_format_that_pillow_writes_is_known_by_its_bytes():
    decoder._load_plugins()
    image = Image.new("RGB", (16, 16), "red")
    kinds = {"JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "WEBP": "WebP", "TIFF": "TIFF", "BMP": "BMP", "PPM": "PNM"}
    kinds |= {"ICO": "ICO", "JPEG2000": "JPEG 2000", "SGI": "SGI", "DDS": "DDS", "MPO": "JPEG"}
    if features.check("avif"):
        kinds["AVIF"] = "AVIF"
    for kind, name in kinds.items():
        buffer = io.BytesIO()
        image.save(buffer, kind)
        found = format_of_bytes(buffer.getvalue()[: formats.HEAD])
        assert found is not None and (found.name, found.remedy) == (name, ""), kind


@pytest.mark.parametrize(
    "head, expected",
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "camera raw"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (bytes(128) + b"DICM\x02\0", "DICOM"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw"),
        (b"\x76\x2f\x31\x01\x02", "OpenEXR"),
        (b'<?xml version="1.0"?>\n<svg xmlns=', "SVG"),
        (b"<svg width='3'>", "SVG"),
    ],
)
def test_formats_that_are_only_known(head, expected):
    found = format_of_bytes(head)
    assert found.name == expected
    assert found.remedy or expected == "HEIC"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"hello, world\n",
        b"<html><body>an image</body>",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42",  # a film
        b"BM is how this text begins, and that is no bitmap",
        b"P5th avenue",
        b"#define width 3\n",
        b"PK\x03\x04",
        b"\x7fELF\x02\x01",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"%PDF-1.7",
        bytes(200),
    ],
)
def test_other_files_are_no_images(head):
    assert format_of_bytes(head) is None


def test_what_reads_heic(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    for cached in (formats._formats, formats._by_ending):
        cached.cache_clear()
    try:
        assert "pip install pillow-heif" in format_of_ending("a.heic").remedy
        assert "pip install pillow-heif" in format_of_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").remedy
    finally:
        monkeypatch.undo()
        for cached in (formats._formats, formats._by_ending):
            cached.cache_clear()
