"""Tar archives: what lies where, and what is said of those that are damaged or made to harm."""

import io
import os
import tarfile

import pytest

from mlcli.errors import ImageError
from mlcli.io import input_files, tally
from mlcli.io.archives import recent, tar_archive
from mlcli.io.archives.archive import ArchiveError
from tests.archives import image_bytes, write_tar

MEMBERS = {
    "b/2.png": b"two",
    "a.txt": b"x" * 700,
    "b/1.png": b"1" * 512,
    "ü/" + "long" * 20 + "/é" * 20 + ".png": b"deep",
}


def read(path) -> bytes:
    with input_files.open_input(path) as stream:
        return stream.read()


def problems(file) -> list[str]:
    return [str(problem).removeprefix(f"{file}: ") for problem in input_files.archive(str(file)).problems(str(file))]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_are_those_that_tarfile_reads(tmp_path, form, mode):
    file = write_tar(tmp_path / ("a.tar" + mode[1:].replace(":", ".")), MEMBERS, mode, format=form)
    assert input_files.archive(str(file)).names == sorted(MEMBERS)
    with tarfile.open(file) as archive:
        for name, content in MEMBERS.items():
            assert read(file / name) == content == archive.extractfile(name).read()


def test_a_compressed_tar_is_read_from_any_position(tmp_path, monkeypatch):
    """Also far behind the window of bytes that are kept, where gzip begins at a copy of its decoder."""
    from mlcli.io.archives import compressed

    monkeypatch.setattr(compressed, "KEPT", 1 << 16)
    monkeypatch.setattr(compressed, "SPACING", 1 << 17)
    monkeypatch.setattr(compressed, "COPIES", 4)
    members = {f"{number:03}.png": os.urandom(10_000) for number in range(60)}
    for ending in ("gz", "bz2"):
        file = write_tar(tmp_path / f"a.tar.{ending}", members, f"w:{ending}")
        for name in [*members, *reversed(members), "030.png", "003.png", "059.png"][:: 1 if ending == "gz" else 30]:
            assert read(file / name) == members[name]
    index = input_files.archive(str(tmp_path / "a.tar.gz"))
    assert 1 < len(index._compressed._copies) <= 4


def test_only_the_archives_read_last_hold_bytes_in_memory(tmp_path):
    members = {f"{number}.png": os.urandom(300) for number in range(3)}
    files = [write_tar(tmp_path / f"{number}.tgz", members, "w:gz") for number in range(2 * recent.MOST)]
    for name in members:
        assert all(read(file / name) == members[name] for file in files)
    windows = [bool(input_files.archive(str(file))._compressed._window) for file in files]
    assert windows == [False] * recent.MOST + [True] * recent.MOST


def test_two_gzip_streams_in_a_row_are_one_file(tmp_path):
    import gzip

    whole = write_tar(tmp_path / "whole.tar", MEMBERS).read_bytes()
    file = tmp_path / "a.tgz"
    file.write_bytes(gzip.compress(whole[:1500]) + gzip.compress(whole[1500:]) + bytes(100))
    assert [read(file / name) for name in MEMBERS] == list(MEMBERS.values())


def test_zstd(tmp_path):
    zstd = pytest.importorskip("backports.zstd")
    file = tmp_path / "a.tar.zst"
    file.write_bytes(zstd.compress(write_tar(tmp_path / "a.tar", MEMBERS).read_bytes()))
    assert [read(file / name) for name in MEMBERS] == list(MEMBERS.values())


def test_without_zstd_the_message_says_what_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "compression", None)
    monkeypatch.setitem(__import__("sys").modules, "backports", None)
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(ImageError, match=r"a.tar.zst: compressed by zstd.*pip install backports.zstd"):
        input_files.archive(str(tmp_path / "a.tar.zst"))


def test_what_no_command_may_take_is_named_and_counted(tmp_path):
    tally.begin()
    names = [
        "../../etc/passwd.png",
        "/abs.png",
        "a/../../b.png",
        "C:\\x.png",
        "./fine//1.png",
        "in.zip",
        "more/in.tar.gz",
    ]
    file = write_tar(tmp_path / "a.tar", {name: b"x" for name in names})
    with tarfile.open(file, "a") as archive:
        for name, kind, target in (
            ("hard.png", tarfile.LNKTYPE, "./fine//1.png"), ("soft.png", tarfile.SYMTYPE, "fine/1.png"),
            ("fine/soft.png", tarfile.SYMTYPE, "1.png"), ("out.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("up.png", tarfile.SYMTYPE, "../up.png"), ("fifo.png", tarfile.FIFOTYPE, ""), ("null", tarfile.CHRTYPE, ""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    assert input_files.archive(str(file)).names == ["fine/1.png", "fine/soft.png", "hard.png", "soft.png"]
    assert read(file / "soft.png") == read(file / "hard.png") == read(file / "fine/soft.png") == b"x"
    assert problems(file) == [
        "4 members left out: names that lead out of the archive (../../etc/passwd.png, /abs.png, …)",
        "2 members left out: archives inside the archive (in.zip, more/in.tar.gz); unpack these, and name them on "
        "their own",
        "2 members left out: pipes or devices (fifo.png, null)",
        "2 members left out: links to what is no member (out.png, up.png)",
    ]
    assert "10 members of archives that cannot be taken" in tally.current().summary()


def test_of_equal_names_the_last_is_taken(tmp_path):
    tally.begin()
    file = write_tar(tmp_path / "a.tar", [("1.png", b"old"), ("2.png", b"x"), ("1.png", b"new"), ("./1.png", b"last")])
    assert input_files.archive(str(file)).names == ["1.png", "2.png"]
    assert read(file / "1.png") == b"last" and problems(file) == []
    tally.current().add_read(file / "1.png")
    assert "1 with a name that occurs several times in its archive" in tally.current().summary()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_of_an_archive_that_is_cut_off_the_whole_members_are_taken(tmp_path, mode):
    file = write_tar(tmp_path / "a.tar", {f"{n}.png": os.urandom(3000) for n in range(5)}, mode)
    whole = file.read_bytes()
    for size in (600, 3000, 5000, len(whole) // 2, len(whole) - 3000):
        file.write_bytes(whole[:size])
        try:
            index = input_files.archive(str(file), fresh=True)
        except ImageError as error:
            assert "cut off" in str(error) and str(error).startswith(f"{file}: ")
            continue
        assert index.names == [f"{n}.png" for n in range(len(index.names))] and len(index.names) < 5 + (":" in mode)
        assert all(len(read(file / name)) == 3000 for name in index.names)
        assert len(problems(file)) == 1 and "cut off" in problems(file)[0]


def changed_header(content: bytes, at: int, field: bytes) -> bytes:
    """A tar whose first header has another field, and the checksum that belongs to it."""
    header = bytearray(content[:512])
    header[at : at + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


@pytest.mark.parametrize(
    "size", [b"\x80" + bytes(3) + b"\xff" * 8, b"\xff" * 12, b"77777777777\0", b"-0000000001\0", b"89abcdefghi\0"]
)
def test_sizes_that_cannot_be(tmp_path, size):
    file = write_tar(tmp_path / "a.tar", {"1.png": b"x", "2.png": b"y"})
    file.write_bytes(changed_header(file.read_bytes(), 124, size))
    with pytest.raises(ImageError, match="a.tar: (damaged|cut off)"):
        input_files.archive(str(file))


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, b"x" * 5000, b"\x1f\x8b" + b"x" * 600, b"BZh9" + b"x" * 600, b"\xfd7zXZ\0" + bytes(99)]
)
def test_what_is_no_tar(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ImageError, match="a.tar: "):
        input_files.archive(str(tmp_path / "a.tar"))


def test_broken_and_oversized_pax_headers(tmp_path):
    for content in (b"9999 path=x\n", b"path=x\n", b"12 path\n", b"-1 a=b\n", b"7 a=b\n", b"20 size=99999999999\n"):
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, len(content)
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            archive.addfile(info, io.BytesIO(content))
            archive.addfile(tarfile.TarInfo("1.png"))
        with pytest.raises(ImageError, match="a.tar: (damaged|cut off)"):
            input_files.archive(str(tmp_path / "a.tar"), fresh=True)


def test_what_decompresses_without_end_is_refused(tmp_path, monkeypatch):
    from mlcli.io.archives import compressed

    monkeypatch.setattr(compressed, "ALLOWANCE", 1 << 20)
    file = write_tar(tmp_path / "a.tar.gz", {"1.png": bytes(30 << 20)}, "w:gz")
    with pytest.raises(ImageError, match="decompresses to more than 100 times its size"):
        input_files.archive(str(file))


def test_a_huge_member_of_a_compressed_archive_is_refused_and_of_a_plain_one_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_archive, "MEMBER_BYTES", 1000)
    content = os.urandom(2000)
    with pytest.raises(ImageError, match="1.png: of 2,000 bytes, more than is read"):
        read(write_tar(tmp_path / "a.tar.gz", {"1.png": content}, "w:gz") / "1.png")
    assert read(write_tar(tmp_path / "a.tar", {"1.png": content}) / "1.png") == content


def test_an_archive_that_changes_meanwhile_is_noticed(tmp_path):
    file = write_tar(tmp_path / "a.tar", {"1.png": image_bytes()})
    assert read(file / "1.png")
    write_tar(file, {"0.png": b"", "1.png": image_bytes("blue")})
    with pytest.raises(ImageError, match="1.png: the archive has changed since"):
        read(file / "1.png")
    input_files.renew(file / "1.png")
    assert read(file / "1.png") == image_bytes("blue")


def test_numbers_of_headers():
    assert tar_archive._number(b"0000644\0") == 0o644 and tar_archive._number(b"  12 \0\0\0") == 10
    assert tar_archive._number(b"\0" * 12) == 0 and tar_archive._number(b"9\0") == -1
    assert tar_archive._number(b"\x80" + bytes(9) + b"\x01\x00") == 256
    with pytest.raises(ArchiveError):
        tar_archive._pax(b"5 a\n")
