"""`mlcli siamese-verify` over real files, on a network that tells patterns apart."""

import csv
import io
import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from mlcli.methods.metric_learning import embedder
from tests.cli import mlcli
from tests.tiny import identities

FIGURES = {"eer", "auc", "threshold", "accuracy", "one_shot", "true_accepts"}


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    data = identities(folder / "data", [f"{group}/{name}" for group in "uvw" for name in "abcdefgh"])
    options = ["--steps", 60, "--identities", 12, "--images-per-identity", 3, "--dimension", 16, "--size", 16]
    mlcli("siamese-train", data, "-o", folder / "run", *options, "--val", 0.4)
    return folder / "run"


@pytest.fixture(scope="module")
def unseen(tmp_path_factory) -> Path:
    return identities(tmp_path_factory.mktemp("unseen"), [f"{g}/{n}" for g in "xy" for n in "klmnop"], seed=9)


def answer(*words, status=0):
    return json.loads(mlcli("siamese-verify", *words, "--format", "json", status=status).stdout)


def test_two_images_are_the_same_or_not_whichever_comes_first(network, unseen):
    first, second, other = unseen / "x/k/00.png", unseen / "x/k/01.png", unseen / "y/m/00.png"
    same, different = answer(network, first, second), answer(network, first, other)
    assert same["same"] and same["distance"] <= same["threshold"] and same["probability"] > 0.5
    assert not different["same"] and different["distance"] > same["distance"] and different["probability"] < 0.5
    swapped = answer(network, other, first)
    assert swapped["distance"] == pytest.approx(different["distance"], abs=1e-6) and swapped["a"] == str(other)
    assert answer(network, first, first)["distance"] == pytest.approx(0, abs=1e-6)
    assert not answer(network, first, second, "--threshold", 0)["same"]
    shown = mlcli("siamese-verify", network, first, second).stdout
    assert "same" in shown and f"{same['distance']:.4f}" in shown


def test_a_list_of_pairs_names_files_as_from_its_folder(network, unseen, tmp_path):
    (unseen / "pairs.csv").write_text("a,b\nx/k/00.png,x/k/01.png\nx/k/00.png,absent.png\n\nx/k/00.png,y/n/03.png\n")
    answers = answer(network, unseen / "pairs.csv", status=1)
    assert [entry.get("same") for entry in answers] == [True, None, False] and "absent.png" in answers[1]["error"]
    out = tmp_path / "out.csv"
    mlcli("siamese-verify", network, unseen / "pairs.csv", "--format", "csv", "-o", out, status=1)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert float(rows[0]["distance"]) == pytest.approx(answers[0]["distance"]) and rows[1]["error"]
    assert "--overwrite" in mlcli("siamese-verify", network, unseen / "pairs.csv", "-o", out, status=2).stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_list_of_pairs_as_spreadsheets_write_it(network, unseen, tmp_path, encoding):
    pairs, a, b = tmp_path / "pairs.csv", unseen / "x/k/00.png", unseen / "y/m/00.png"
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    pairs.write_bytes(f"{mark}a,b\r\n{a},{b}\r\n{b},{b}\r\n".encode(encoding))
    assert [(entry["a"], entry["same"]) for entry in answer(network, pairs)][1] == (str(b), True)


def test_a_list_names_files_in_another_spelling(network, unseen, tmp_path):
    composed, taken_apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    shutil.copy(unseen / "x/k/00.png", tmp_path / taken_apart)
    (tmp_path / "pairs.csv").write_text(f"{composed},{composed}\n", "utf-8")
    (found,) = answer(network, tmp_path / "pairs.csv")
    assert found["same"] and found["a"] == str(tmp_path / composed)  # as the list has it


def test_special_files_among_pairs_are_named_and_never_opened(network, unseen, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # nobody writes to it
    a = unseen / "x/k/00.png"
    (tmp_path / "pairs.csv").write_text(f"{a},pipe.png\n{a},{a}\n/dev/null,{a}\n")
    result = mlcli("siamese-verify", network, tmp_path / "pairs.csv", "--format", "json", status=1)
    first, good, last = json.loads(result.stdout)
    assert "pipe.png: a pipe, not an image" in first["error"] and "a device, not an image" in last["error"]
    assert good["same"] and first["error"] in result.stderr and "2 special files" in result.stderr


@pytest.mark.parametrize(
    "lines",
    [
        "id,a,b\n7,{a},{b}",
        "B, A, note\n{b}, {a},",
        "{a}, {b}",
        '{a},"{b}",1',
    ],
)
def test_the_columns_of_a_list_of_pairs(lines, network, unseen, tmp_path):
    pairs, a, b = tmp_path / "pairs.csv", unseen / "x/k/00.png", unseen / "y/m/00.png"
    pairs.write_text(lines.format(a=a, b=b) + "\n")
    (found,) = answer(network, pairs)
    assert (found["a"], found["b"]) == (str(a), str(b))


def test_who_of_a_gallery_it_is_and_nobody(network, unseen, tmp_path):
    gallery = tmp_path / "gallery"
    for name in ("k", "l", "m"):
        shutil.copytree(unseen / "x" / name, gallery / name)
    stranger, nina, inside = unseen / "y/o/01.png", unseen / "x/n/02.png", gallery / "k/00.png"
    with Image.open(nina) as image:
        image.point(lambda value: value + 4).save(gallery / "nina.png")  # one image of her, in no folder
    apart = ["--gallery", gallery, "--threshold", 0.6]  # whichever way so small a network has learned
    found = answer(network, nina, stranger, inside, *apart, "-k", 2)
    assert [entry["identity"] for entry in found] == ["nina", None, "k"]
    assert [len(entry["nearest"]) for entry in found] == [2, 2, 2]
    assert found[2]["nearest"][0]["distance"] > 1e-3  # not compared with itself
    assert found[0]["nearest"][0]["probability"] > found[0]["nearest"][1]["probability"]
    done = mlcli("siamese-verify", network, stranger, *apart, "-k", 9)
    assert "4 identities, fewer than -k 9" in done.stderr and "nobody" in done.stdout
    rows = list(
        csv.DictReader(io.StringIO(mlcli("siamese-verify", network, stranger, *apart, "--format", "csv", "-q").stdout))
    )
    assert [row["is"] for row in rows] == ["nobody"] * 4 and float(rows[0]["distance"]) <= float(rows[1]["distance"])


def test_a_gallery_with_broken_and_copied_images_serves_with_the_rest(network, unseen, tmp_path):
    gallery = tmp_path / "gallery"
    for name in ("k", "l"):
        shutil.copytree(unseen / "x" / name, gallery / name)
    (gallery / "k/00.png").write_bytes(b"no image")
    shutil.copy(gallery / "k/01.png", gallery / "l/copy.png")
    done = mlcli("siamese-verify", network, unseen / "x/k/02.png", "--gallery", gallery, status=1)
    assert "k/00.png" in done.stderr and "stands in another class" in done.stderr and " k " in done.stdout


def test_the_only_image_of_a_gallery_is_nobody_else(network, unseen, tmp_path):
    only = tmp_path / "gallery/anna/x.png"
    only.parent.mkdir(parents=True)
    shutil.copy(unseen / "x/k/00.png", only)
    words = ["siamese-verify", network, only, "--gallery", tmp_path / "gallery", "-k", 1]
    header, _, shown = (line for line in mlcli(*words).stdout.splitlines() if line)
    assert header.split()[:2] == ["image", "is"] and shown.split() == [str(only), "nobody"]
    (row,) = csv.DictReader(io.StringIO(mlcli(*words, "--format", "csv").stdout))
    assert (row["image"], row["is"], row["error"]) == (str(only), "nobody", "") and float(row["threshold"]) > 0
    assert row["rank"] == row["identity"] == row["distance"] == row["probability"] == ""
    assert answer(*words[1:])[0]["nearest"] == []


def test_a_gallery_whose_images_are_all_of_several_identities_is_said(network, unseen, tmp_path):
    for name in ("anna", "ben"):
        (tmp_path / "gallery" / name).mkdir(parents=True)
        shutil.copy(unseen / "x/k/00.png", tmp_path / "gallery" / name)
    query = unseen / "x/k/00.png"
    said = mlcli("siamese-verify", network, query, "--gallery", tmp_path / "gallery", status=1).stderr
    assert "each of its images is of several identities" in said and "stands in another class" in said
    assert "can be read" not in said


def test_figures_on_unseen_identities(network, unseen):
    found = answer(network, "--evaluate", unseen, "--way", 5, "--shot", 1, "--trials", 60)
    assert found.keys() >= FIGURES and found["images"] == 72 and found["identities"] == 12
    assert (
        found["auc"] > 0.95 and found["eer"] < 0.15 and found["pairs"] == {"same": 180, "different": 72 * 71 // 2 - 180}
    )
    low, high = found["eer_interval"]
    assert low <= found["eer"] <= high
    one_shot = found["one_shot"]
    assert one_shot["way"] == 5 and one_shot["shot"] == 1 and one_shot["within"] == "groups"
    assert one_shot["interval"][0] < one_shot["accuracy"] <= one_shot["interval"][1] and one_shot["accuracy"] > 0.8
    assert found["one_shot_across"]["way"] == 5
    shown = mlcli("siamese-verify", network, "--evaluate", unseen, "--trials", 20)
    assert "6-way 1-shot within groups" in shown.stdout and "not 20" in shown.stderr
    rows = csv.reader(io.StringIO(mlcli("siamese-verify", network, "--evaluate", unseen, "--format", "csv").stdout))
    assert {row[0]: row[1] for row in rows}["auc"] == str(found["auc"])


def test_small_groups_are_left_out_of_one_shot_classification_and_that_is_said(network, unseen, tmp_path):
    data = shutil.copytree(unseen, tmp_path / "data")
    shutil.rmtree(data / "y/k"), shutil.rmtree(data / "y/l")
    done = mlcli("siamese-verify", network, "--evaluate", data, "--way", 6, "--trials", 10, "--format", "json")
    found = json.loads(done.stdout)
    assert (found["one_shot"]["way"], found["one_shot"]["identities"]) == (6, 6)
    assert found["one_shot_across"]["identities"] == 10
    assert "4 identities left out of 1-shot classification" in done.stderr and "not 6" not in done.stderr


# ------------------------------------------------------------------------------------------------- exit status


def test_the_exit_status_tells_scripts_the_verdict(network, unseen, tmp_path):
    same, different = [unseen / "x/k/00.png", unseen / "x/k/01.png"], [unseen / "x/k/00.png", unseen / "y/m/00.png"]
    mlcli("siamese-verify", network, *different, status=0)  # of the work, unless it is asked for
    verify = ["siamese-verify", network, "--exit-status"]
    assert " same " in mlcli(*verify, *same, status=0).stdout
    assert " different " in mlcli(*verify, *different, status=1).stdout
    (tmp_path / "same.csv").write_text("{},{}\n".format(*same))
    (tmp_path / "mixed.csv").write_text("{},{}\n{},{}\n".format(*same, *different))
    mlcli(*verify, tmp_path / "same.csv", status=0)
    mlcli(*verify, tmp_path / "mixed.csv", status=1)


def test_the_exit_status_of_a_gallery(network, unseen, tmp_path):
    for name in ("k", "l"):
        shutil.copytree(unseen / "x" / name, tmp_path / "gallery" / name)
    verify = ["siamese-verify", network, "--exit-status", "--gallery", tmp_path / "gallery", "-k", 1]
    verify += ["--threshold", 0.6]  # whichever way so small a network has learned
    inside = tmp_path / "gallery/k/02.png"
    mlcli(*verify, inside, status=0)
    mlcli(*verify, inside, unseen / "y/o/01.png", status=1)


def test_with_the_exit_status_as_verdict_whatever_fails_is_2(network, unseen, tmp_path, monkeypatch):
    verify, image = ["siamese-verify", "--exit-status", network], unseen / "x/k/00.png"
    assert "absent.png" in mlcli(*verify, image, "absent.png", status=2).stderr
    (tmp_path / "pairs.csv").write_text(f"{image},{image}\n{image},absent.png\n{image},{unseen / 'y/m/00.png'}\n")
    mlcli(*verify, tmp_path / "pairs.csv", status=2)
    assert "absent" in mlcli(*verify[:2], tmp_path / "absent", image, image, status=2).stderr
    assert "give two images" in mlcli(*verify, image, status=2).stderr
    assert "leave it out with --evaluate" in mlcli(*verify, "--evaluate", unseen, status=2).stderr
    mlcli(*verify, image, image, "-o", tmp_path / "pairs.csv" / "out", status=2)

    def out_of_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(embedder, "load", out_of_memory)
    assert "memory does not suffice" in mlcli(*verify, image, image, status=2).stderr


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["one.png"], 2, "give two images"),
        (["one.png", "two.png", "three.png"], 2, "give two images"),
        (["one.png", "two.png", "--evaluate", "one"], 2, "leave out the images"),
        (["--gallery", "one"], 2, "give two images"),
        (["--evaluate", "one"], 1, "images of 1 identity"),
        (["--evaluate", "single"], 1, "no two readable images"),
        (["bad.csv"], 2, "line 2 names no two files"),
        (["short.csv"], 2, "line 3 names no two files"),
        (["empty.csv"], 1, "holds no pairs"),
        (["absent.csv"], 1, "cannot be read"),
        (["one.png", "--gallery", "absent"], 1, "no such folder"),
        (["absent.png", "one/one/00.png"], 1, "absent.png"),
    ],
)
def test_mistakes_are_said(arguments, status, message, network, tmp_path, monkeypatch):
    identities(tmp_path / "one", ["one"])
    identities(tmp_path / "single", "ab", each=1)
    (tmp_path / "bad.csv").write_text("a.png,b.png\nc.png\n")
    (tmp_path / "short.csv").write_text("id,a,b\n1,a.png,b.png\n2,a.png\n")
    (tmp_path / "empty.csv").write_text("a,b\n")
    monkeypatch.chdir(tmp_path)
    assert message in mlcli("siamese-verify", network, *arguments, status=status).stderr


def test_what_is_no_siamese_network_is_refused(colors, network, tmp_path):
    assert "not a Siamese network" in mlcli("siamese-verify", colors, "a.png", "b.png", status=1).stderr
    assert "not a classifier" in mlcli("filters", "--model", network, "-o", tmp_path / "out.png", status=1).stderr
    (tmp_path / "config.json").write_text("{}")
    assert "no model yet" in mlcli("siamese-verify", tmp_path, "a.png", "b.png", status=1).stderr


# ---------------------------------------------------------------------------------------------- very many


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_a_list_of_pairs_and_a_gallery_are_written_while_they_are_computed(format, network, unseen, tmp_path):
    a, b, other = unseen / "x/k/00.png", unseen / "x/k/01.png", unseen / "y/m/00.png"
    (tmp_path / "pairs.csv").write_text(f"{a},{b}\n{a},absent.png\n{a},{other}\n{b},{other}\n")
    shutil.copytree(unseen / "x", tmp_path / "gallery")
    for words, errors in (((tmp_path / "pairs.csv",), 1), ((a, other, "--gallery", tmp_path / "gallery"), 0)):
        words = ("siamese-verify", network, *words, "--format", format, "--batch-size", 2)
        whole, merged = (tmp_path / f"{name}-{errors}.{format}" for name in ("whole", "merged"))
        said = mlcli(*words, "-o", whole, status=errors).stderr
        assert said.count("absent.png") == errors
        parts = [tmp_path / f"part-{number}-{errors}" for number in (1, 2)]
        for number, part in enumerate(parts, 1):
            mlcli(*words, "-o", part, "--shard", f"{number}/2", status=(0, errors))
        mlcli("merge", *parts, "-o", merged)
        assert merged.read_bytes() == whole.read_bytes()
        if format == "jsonl":
            *rows, last = map(json.loads, whole.read_text().splitlines())
            kept = json.loads(mlcli(*words, "--format", "json", status=errors).stdout)
            assert [list(row) for row in rows] == [list(row) for row in kept] and last["images"] == len(kept)
            assert ["error" in row for row in rows] == [False, True, False, False][: len(rows)] or not errors
