"""Where results go, of every command whose -o names one document."""

import json

import pytest
from PIL import Image

from tests.cli import mlcli


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_an_open_descriptor_keeps_what_others_have_written_to_it(colors, tmp_path, more):
    with open(tmp_path / "log", "wb", buffering=0) as log:
        log.write(b"before\n")
        mlcli("layers", "--model", colors, "--format", "json", "-o", f"/dev/fd/{log.fileno()}", *more)
        log.write(b"after\n")
    first, *document, last = (tmp_path / "log").read_text().splitlines()
    assert (first, last) == ("before", "after") and len(json.loads("\n".join(document))) > 5


def test_a_link_to_a_descriptor_is_one(colors, tmp_path):
    with open(tmp_path / "log", "ab", buffering=0) as log:
        log.write(b"before\n")
        (tmp_path / "out.csv").symlink_to(f"/dev/fd/{log.fileno()}")
        mlcli("layers", "--model", colors, "--format", "csv", "-o", tmp_path / "out.csv")
    assert (tmp_path / "log").read_text().startswith("before\naddress,") and (tmp_path / "out.csv").is_symlink()


def test_a_descriptor_that_is_not_open_is_named_before_the_work(tmp_path):
    said = mlcli("layers", "--model", "nosuchmodel", "-o", "/dev/fd/98", status=1).stderr
    assert said.startswith("mlcli: /dev/fd/98: cannot be written: ") and "nosuchmodel" not in said


def test_a_file_that_exists_is_refused_and_replaced(colors, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert "--overwrite" in mlcli("layers", "--model", colors, "-o", tmp_path / name, status=2).stderr
    assert (tmp_path / "file").read_text() == "mine"
    mlcli("layers", "--model", colors, "-o", tmp_path / "link", "--overwrite")
    assert "conv1" in (tmp_path / "file").read_text() and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "is not JSON"),
        ("[]", "should be an object, is a list"),
        ("null", "should be an object, is null"),
        ('{"command": 5, "options": {}}', "command should be a text"),
        ('{"command": "pairs"}', "has no options"),
        ('{"command": "pairs", "options": [1]}', "options should be an object, is a list"),
        ('{"command": "pairs", "options": {}, "sha256": 5}', "sha256 should be a text"),
        ("[" * 100_000, "nests its parts too deep"),
    ],
)
def test_a_record_of_results_that_is_none_is_said(text, told, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    words = ("pairs", tmp_path / "a.png", "--make", "gray", "-o", tmp_path / "pairs")
    mlcli(*words)
    (tmp_path / "pairs" / "pairs.json").write_text(text)
    said = mlcli(*words, status=2).stderr
    assert "pairs.json: cannot be read (" in said and told in said and "--overwrite makes all from scratch" in said
    mlcli(*words, "--overwrite")
