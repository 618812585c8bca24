"""Zip archives: what lies where, and what is said of those that are damaged or made to harm."""

import os
import random
import struct
import zipfile
import zlib

import pytest

from mlcli.errors import ImageError
from mlcli.io import input_files
from mlcli.io.archives import zip_archive
from tests.archives import write_zip

MEMBERS = {
    "b/2.png": b"two" * 900,
    "a.txt": os.urandom(70_000),
    "b/1.png": b"1",
    "ü/" + "long" * 60 + "/é.png": b"deep",
}


def read(path) -> bytes:
    with input_files.open_input(path) as stream:
        return stream.read()


def problems(file) -> list[str]:
    return [str(problem).removeprefix(f"{file}: ") for problem in input_files.archive(str(file)).problems(str(file))]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("front", [b"", b"#!/bin/sh\n" * 99])
def test_members_are_those_that_zipfile_reads(tmp_path, method, front, monkeypatch):
    """Also with a program in front of the archive, and with a directory that is read in several pieces."""
    monkeypatch.setattr(zip_archive, "PIECE", 100)
    file = write_zip(tmp_path / "a.zip", MEMBERS, method)
    with zipfile.ZipFile(file, "a") as archive:
        archive.mkdir("folder")
        archive.comment = b"a comment"
    file.write_bytes(front + file.read_bytes())
    assert input_files.archive(str(file)).names == sorted(MEMBERS)
    assert {name: read(file / name) for name in MEMBERS} == MEMBERS and problems(file) == []


def test_zip64(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    file = write_zip(tmp_path / "a.zip", MEMBERS)
    assert b"PK\6\6" in file.read_bytes()
    assert {name: read(file / name) for name in input_files.archive(str(file)).names} == MEMBERS


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_no_command_may_take_is_named_and_counted(tmp_path):
    file = write_zip(tmp_path / "a.zip", {"../up.png": b"x", "/abs.png": b"x", "in.tar": b"x", "1.png": b"x"})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("lzma.png", b"x", zipfile.ZIP_LZMA)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "1.png")
        archive.writestr("secret.png", b"x")
        archive.writestr("1.png", b"again")
    content = bytearray(file.read_bytes())
    content[content.rindex(b"secret.png") - 46 + 8] |= 1  # the flag of encryption
    file.write_bytes(content)
    assert input_files.archive(str(file)).names == ["1.png"] and read(file / "1.png") == b"again"
    assert input_files.archive(str(file)).repeated == ["1.png"]
    assert problems(file) == [
        "2 members left out: names that lead out of the archive (../up.png, /abs.png)",
        "1 member left out: archives inside the archive (in.tar); unpack these, and name them on their own",
        "1 member left out: compressed by method 14 (lzma.png); unpack the archive",
        "1 member left out: links (link.png)",
        "1 member left out: encrypted (secret.png); unpack the archive with its password",
    ]


@pytest.mark.parametrize("size", [0, 10, 500, -1, -30, -200])
def test_an_archive_that_is_cut_off(tmp_path, size):
    whole = write_zip(tmp_path / "a.zip", MEMBERS).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[:size])
    with pytest.raises(ImageError, match="a.zip: (no zip archive, or cut off|damaged)"):
        input_files.archive(str(tmp_path / "a.zip"), fresh=True)


def test_damaged_members_are_named(tmp_path):
    file = write_zip(tmp_path / "a.zip", {"1.png": os.urandom(500), "2.png": os.urandom(500)})
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)
    with pytest.raises(ImageError, match="a.zip/1.png: damaged"):
        read(file / "1.png")
    assert len(read(file / "2.png")) == 500


@pytest.mark.parametrize(
    "declared, said", [(200 << 20, "made to fill"), (1 << 30, "more than is read"), (10, "damaged")]
)
def test_bombs_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch, declared, said):
    """A member of many zeros that declares other sizes."""
    monkeypatch.setattr(zip_archive, "BOMB_BYTES", 1 << 20)
    file = write_zip(tmp_path / "a.zip", {"1.png": bytes(2 << 20)})
    content = file.read_bytes()
    file.write_bytes(content.replace(struct.pack("<L", 2 << 20), struct.pack("<L", declared)))
    with pytest.raises(ImageError, match=f"a.zip/1.png: .*{said}"):
        read(file / "1.png")


def test_no_damage_is_a_traceback(tmp_path):
    """Bytes changed at random: an ImageError, or bytes whose check sum is right."""
    whole = write_zip(tmp_path / "a.zip", {f"{n}.png": b"content" * n for n in range(9)}).read_bytes()
    drawn = random.Random(0)
    for number in range(150):
        content = bytearray(whole)
        for _ in range(drawn.randint(1, 4)):
            content[drawn.randrange(len(content))] = drawn.choice((0, 1, 255, drawn.randrange(256)))
        file = tmp_path / f"{number}.zip"
        file.write_bytes(content)
        try:
            names = input_files.archive(str(file)).names
        except ImageError:
            continue
        for name in names:
            try:
                assert zlib.crc32(read(file / name)) is not None
            except ImageError as error:
                assert str(error).startswith(str(file))
