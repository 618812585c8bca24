import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcli.commands._many import repeated
from mlcli.imaging import image_io
from mlcli.imaging.image_io import read
from mlcli.io.locks import file_locked
from mlcli.runtime import device as runtime
from tests.cli import ENVIRONMENT, mlcli
from tests.tiny import COLORS, class_folders


@pytest.fixture
def images(tmp_path):
    """A folder with four noisy squares of each of three colors."""
    return class_folders(tmp_path / "images", per_class=4, noise=60)


@pytest.fixture
def queries(tmp_path):
    """red.png, blue.png"""
    for name in ("red", "blue"):
        Image.new("RGB", (24, 16), COLORS[name]).save(tmp_path / f"{name}.png")
    return [tmp_path / "red.png", tmp_path / "blue.png"]


def neighbors(*arguments, **options):
    return mlcli("neighbors", *arguments, **options)


def entries(*arguments, **options):
    return json.loads(neighbors(*arguments, "--format", "json", "--overwrite", **options).stdout)


def folders(entry):
    return [os.path.basename(os.path.dirname(neighbor["image"])) for neighbor in entry["neighbors"]]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_each_color_finds_its_own(images, queries, colors, tmp_path, metric):
    target = tmp_path / "out.png"
    arguments = ("--model", colors, "-k", 3, "--metric", metric, "--precision", "fp32")
    found = entries(*queries, "--among", images, *arguments, "-o", target)
    assert [entry["query"] for entry in found] == list(map(str, queries))
    assert [folders(entry) for entry in found] == [["red"] * 3, ["blue"] * 3]
    for entry in found:
        distances = [neighbor["distance"] for neighbor in entry["neighbors"]]
        assert distances == sorted(distances) and distances[0] > 0
    record = json.loads((tmp_path / "out.png.json").read_text())
    assert record["results"] == found and record["address"] == "features" and record["options"]["metric"] == metric


def test_vectors_are_those_of_fp32_and_kept_apart_from_others(images, queries, colors, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "native_bf16", lambda device: True)
    kept = []
    for given, used in (((), "fp32"), (("--precision", "auto"), "bf16")):
        neighbors(*queries, "--among", images, "--model", colors, *given, "-o", tmp_path / f"{used}.png")
        record = json.loads((tmp_path / f"{used}.png.json").read_text())
        assert record["options"]["precision"] == used
        kept.append(record["index"])
    assert len(set(kept)) == 2 and all(map(os.path.exists, kept))


def test_the_image_shows_query_and_neighbors(images, queries, colors, tmp_path):
    found = entries(*queries, "--among", images, "--model", colors, "-k", 2, "--size", 48, "-o", tmp_path / "o.png")
    drawn = read(tmp_path / "o.png")
    below = 2 * 15  # pixels of a name and a distance
    assert drawn.shape == (3, 2 * (48 + below + 6) + 6, 3 * (48 + 6) + 6 + 12)
    for row, entry in enumerate(found):
        top = 6 + row * (48 + below + 6)
        assert (drawn[:, top : top + 48, 6:54].float().mean((1, 2)) - read(entry["query"])[:, 0, 0]).abs().max() < 1
        assert (drawn[:, top : top + 48, 60:72] == 255).all()  # the gap
        for column, neighbor in enumerate(entry["neighbors"], 1):
            left = 18 + column * 54
            tile = drawn[:, top : top + 48, left : left + 48]
            assert (tile[:, 1::3, 1::3] == read(neighbor["image"])).all()  # 16 pixels, each 3 wide
        assert (drawn[:, top + 48 : top + 48 + below] < 128).any()  # labels
    first = (tmp_path / "o.png").read_bytes()
    entries(*queries, "--among", images, "--model", colors, "-k", 2, "--size", 48, "-o", tmp_path / "o.png")
    assert (tmp_path / "o.png").read_bytes() == first


def test_a_query_is_not_its_own_neighbor_but_its_copy_is(images, colors, tmp_path):
    query = images / "red" / "00.png"
    (images / "blue" / "copy.png").write_bytes(query.read_bytes())
    (tmp_path / "link").symlink_to(images)
    arguments = ("--among", images, "--model", colors, "-k", 100, "-o", tmp_path / "o.png", "--precision", "fp32")
    for name in (query, tmp_path / "link" / "red" / "00.png"):
        (entry,) = entries(name, *arguments)
        names = [neighbor["image"] for neighbor in entry["neighbors"]]
        assert names[0] == str(images / "blue" / "copy.png") and len(names) == 12 and str(query) not in names
        assert entry["neighbors"][0]["distance"] < 1e-6 < entry["neighbors"][1]["distance"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_index_is_kept_and_follows_the_folder(images, queries, colors, tmp_path, cache):
    arguments = (queries[0], "--among", images, "--model", colors, "-o", tmp_path / "out.png", "--overwrite")
    said = neighbors(*arguments).stderr
    file = Path(json.loads((tmp_path / "out.png.json").read_text())["index"])
    assert f"{file}: 12 vectors, 12 of them computed now" in said
    assert file.parent == cache / "mlcli" / "indexes" and not list(images.glob(".*"))
    before = file.read_bytes()
    again = neighbors(*arguments)
    assert "12 vectors, 0 of them computed now" in again.stderr and file.read_bytes() == before
    (images / "red" / "00.png").unlink()
    Image.new("RGB", (16, 16), COLORS["red"]).save(images / "green" / "new.png")
    changed = neighbors(*arguments)
    assert "12 vectors, 1 of them computed now; 1 file gone" in changed.stderr
    assert "new.png" in changed.stdout.splitlines()[3]  # the very color of the query
    assert "12 of them computed now" in neighbors(*arguments, "--refresh").stderr
    assert neighbors(*arguments, "-q").stderr == ""


def test_an_index_in_a_chosen_file_notices_another_layer(images, queries, colors, tmp_path):
    file = tmp_path / "new" / "vectors.safetensors"
    arguments = (queries[0], "--among", images, "--model", colors, "-o", tmp_path / "o.png", "--overwrite")
    neighbors(*arguments, "--index", file)
    assert not list(images.glob(".*")) and file.is_file()
    assert "0 of them computed now" in neighbors(*arguments, "--index", file).stderr
    other = neighbors(*arguments, "--index", file, "--layer", "conv2")
    assert "made with another model, layer" in other.stderr and "12 of them computed now" in other.stderr
    record = json.loads((tmp_path / "o.png.json").read_text())
    assert record["address"].startswith("conv2.") and record["options"]["layer"] == "conv2"


def test_an_index_among_the_images_is_used_if_it_is_named_and_never_written(images, queries, colors, tmp_path, cache):
    former = images / ".vectors-colors-features.safetensors"
    arguments = (queries[0], "--among", images, "--model", colors, "-o", tmp_path / "o.png", "--overwrite")
    neighbors(*arguments, "--index", former)  # as an earlier version named it
    before = former.read_bytes(), former.stat().st_mtime_ns
    done = neighbors(*arguments)
    assert (
        f"{former}: an index that an earlier version left" in done.stderr and "12 of them computed now" in done.stderr
    )
    assert (former.read_bytes(), former.stat().st_mtime_ns) == before
    assert "0 of them computed now" in neighbors(*arguments, "--index", former).stderr


def test_several_folders_have_an_index_of_their_own_and_a_lock(images, queries, colors, tmp_path, cache):
    arguments = (queries[0], "--model", colors, "-o", tmp_path / "o.png", "--overwrite", "--among")
    red, green, blue = (images / name for name in ("red", "green", "blue"))
    neighbors(*arguments, red, green)
    assert "8 vectors, 0 of them computed now" in neighbors(*arguments, green, red).stderr
    (file,) = cache.glob("mlcli/indexes/*.safetensors")
    Image.new("RGB", (16, 16), COLORS["red"]).save(red / "new.png")
    with file_locked(file):
        busy = neighbors(*arguments, red, green, status=1)
        assert str(file) in busy.stderr and "is working on it" in busy.stderr
        assert "4 of them computed now" in neighbors(*arguments, blue).stderr
    assert "1 of them computed now" in neighbors(*arguments, red, green).stderr
    assert not list(images.rglob(".*")) and len(list(cache.glob("mlcli/indexes/*"))) == 2


def test_files_among_stand_in_the_cache(images, queries, colors, tmp_path, cache):
    some = sorted((images / "red").iterdir())
    done = neighbors(queries[0], "--among", *some, "--model", colors, "-k", 9, "-o", tmp_path / "o.png")
    assert str(cache / "mlcli") in done.stderr and "4 vectors" in done.stderr
    paths = "\n".join(map(str, some))
    (entry,) = entries(queries[0], "--among", "-", "--model", colors, "-o", tmp_path / "o.png", input=paths)
    assert len(entry["neighbors"]) == 4


def test_bad_files_are_named_and_the_rest_goes_on(images, queries, colors, tmp_path):
    (images / "green" / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "empty.png").write_bytes(b"")
    target = tmp_path / "out.png"
    arguments = (tmp_path / "empty.png", queries[0], "--among", images, "absent.png", "--model", colors, "-k", 2)
    result = neighbors(*arguments, "-o", target, "--format", "json", status=1)
    bad, good = json.loads(result.stdout)
    assert bad["error"] in result.stderr and set(bad) == {"query", "error"} and folders(good) == ["red", "red"]
    assert "broken.jpg: " in result.stderr and "absent.png: no such file" in result.stderr and target.is_file()
    rows = list(csv.DictReader(io.StringIO(
        neighbors(*arguments, "-o", target, "--format", "csv", "--overwrite", status=1).stdout
    )))  # fmt: skip
    assert [(row["query"], row["rank"]) for row in rows] == [
        (str(queries[0]), "1"),
        (str(queries[0]), "2"),
        (str(tmp_path / "empty.png"), ""),
    ]
    assert float(rows[0]["distance"]) == good["neighbors"][0]["distance"] and "empty file" in rows[2]["error"]
    table = neighbors(*arguments, "-o", target, "--overwrite", status=1).stdout
    assert len([line for line in table.splitlines() if ".png" in line]) == 2


@pytest.mark.parametrize("among", [False, True])
def test_nothing_that_can_be_read(images, queries, colors, tmp_path, among):
    (tmp_path / "empty.png").write_bytes(b"")
    inputs = (queries[0], "--among", tmp_path / "empty.png") if among else (tmp_path / "empty.png", "--among", images)
    result = neighbors(*inputs, "--model", colors, "-o", tmp_path / "out.png", status=1)
    assert "can be read" in result.stderr and result.stdout == "" and not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    "arguments, status, text",
    [
        (["--layer", "conv9"], 2, "did you mean conv"),
        (["--layer", "conv2:1"], 2, "a whole layer is wanted"),
        (["--metric", "manhattan"], 2, "metric"),
        (["-o", "/dev/null/out.png", "--index", "none"], 1, "out.png: cannot be written"),
        (["-k", "0"], 2, "-k"),
        (["-o", "out.gif"], 2, "no format has this ending"),
        (["--index", "mine.png"], 2, "cannot be read as an index"),
        (["--index", "/dev/null/index"], 1, "cannot be written"),
        (["--among", "nowhere/"], 1, "nowhere"),
        (["--among", "folder"], 1, "no images there"),
        (["--among", "-", "-"], 1, "no images there"),
        (["--among"], 2, "among"),
    ],
)
def test_errors(images, queries, colors, tmp_path, monkeypatch, arguments, status, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    base = ["--model", colors, "-o", "out.png"] + ([] if "--among" in arguments else ["--among", images])
    result = neighbors(queries[0], *base, *arguments, status=status, input="")
    assert text in result.stderr and result.stdout == "" and not (tmp_path / "out.png").exists()
    assert (tmp_path / "mine.png").read_bytes() == b"mine" and not (tmp_path / "none").exists()


def test_an_image_that_its_format_cannot_hold(images, queries, colors, tmp_path, monkeypatch):
    monkeypatch.setitem(image_io.SIDES, "WEBP", 6 + 5 * (96 + 6) + 96 // 4)
    arguments = (queries[0], "--among", images, "--model", colors, "-o", tmp_path / "out.webp", "-q")
    assert "WEBP holds at most" in neighbors(*arguments, "-k", 5, status=2).stderr
    assert not list(images.glob(".*"))
    neighbors(*arguments, "-k", 4)


def test_what_is_there_is_refused_before_any_work(images, queries, colors, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    arguments = ("--among", images, "--model", colors, "-o", tmp_path / "mine.png")
    assert "--overwrite" in neighbors(queries[0], *arguments, status=2).stderr
    assert (tmp_path / "mine.png").read_bytes() == b"mine" and not list(images.glob(".*"))
    assert "not both" in neighbors("-", "--among", "-", "-o", tmp_path / "o.png", status=2, input="").stderr


def test_interrupted_it_keeps_what_is_done(colors, tmp_path):
    folder = class_folders(tmp_path / "many", per_class=150)
    (folder / "blue" / "40.png").write_bytes(b"")  # named on stderr: by then it is at work
    query = folder / "red" / "01.png"
    arguments = [query, "--among", folder, "--model", colors, "-o", tmp_path / "out.png"]
    command = [sys.executable, "-m", "mlcli.cli", "neighbors", *arguments, "--batch-size", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in errors and output == b""
    assert b"the same command resumes" in errors and not (tmp_path / "out.png").exists()
    assert not list(folder.glob(".mlcli*"))
    kept = int(errors.split(b": keeps ")[1].split()[0])
    done = neighbors(*arguments, status=1)
    assert f"449 vectors, {449 - kept} of them computed now" in done.stderr and 40 <= kept < 449


def test_a_query_that_among_has_taken_is_said(images, queries, colors, tmp_path):
    words = ("--model", colors, "-o", tmp_path / "o.png", "--among", images, queries[0])
    said = re.sub(r"[│\s]+", " ", neighbors(*words, status=2, env={"COLUMNS": "1000"}).stderr)
    assert f"QUERY: missing; --among has taken all words up to the next option ({images} {queries[0]})" in said
    assert "Name it before --among" in said and not (tmp_path / "o.png").exists()
    # where --among has one value alone, nothing was taken
    assert "Missing argument" in neighbors("--among", images, "-o", tmp_path / "o.png", status=2).stderr
    assert "No such option" in neighbors("--among", images, queries[0], "--nosuch", status=2).stderr


def test_an_option_takes_all_words_up_to_the_next():
    def words(line):
        return " ".join(repeated(line.split(), ["--among"]))

    assert words("q --among a b c -o out q2") == "q --among a --among b --among c -o out q2"
    assert words("--among a - --among=b c -k 3") == "--among a --among - --among=b c -k 3"
    assert words("q --among a b -- c d") == "q --among a --among b -- c d"
    assert words("q r s -o a b --among -k 3") == "q r s -o a b --among -k 3"


def test_small_images_keep_their_pixels_and_strips_are_cut(colors, tmp_path):
    random = np.random.default_rng(0)
    for name, shape in (("small", (8, 8, 3)), ("strip", (4, 400, 3)), ("large", (300, 200, 3))):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    (entry,) = entries(
        tmp_path / "small.png", "--among", tmp_path, "--model", colors, "--size", 64, "-o", tmp_path / "o.webp"
    )
    assert len(entry["neighbors"]) == 2 and read(tmp_path / "o.webp").shape == (3, 6 + 64 + 2 * 15 + 6, 6 + 3 * 70 + 16)


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_a_home_that_takes_no_index_names_the_option(images, queries, colors, tmp_path, monkeypatch, variable):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(variable, str(tmp_path / "file"))  # nothing can be made below it, by root neither
    arguments = (queries[0], "--among", images, "--model", colors, "-k", 1, "-o", tmp_path / "o.png")
    assert "or name another file for the index with --index" in neighbors(*arguments, status=1).stderr
    assert not list(images.glob(".*"))
    neighbors(*arguments, "--index", tmp_path / "index")


def test_a_user_without_a_home(images, queries, colors, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which counts as unset
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    some = sorted((images / "red").iterdir())
    arguments = (queries[0], "--among", *some, "--model", colors, "-k", 1, "-o", tmp_path / "o.png")
    assert "name a file for it with --index" in neighbors(*arguments, status=2).stderr
    assert not (tmp_path / "~").exists() and not (tmp_path / "relative").exists()
