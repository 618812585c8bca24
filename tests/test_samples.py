"""The data sets that samples/*.py draw and write, and the pipeline of samples/Makefile."""

import bz2
import importlib.util
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.commands import COMMANDS
from mlcli.data.pairing import find_pairs
from mlcli.data.pairs import ImageSpec, PairSet, ResizeCrop
from tests.cli import ENVIRONMENT

SAMPLES = Path(__file__).parents[1] / "samples"
PARTS = {"train": 12, "test": 4}


def script(name: str):
    specification = importlib.util.spec_from_file_location(name, SAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def draw(name: str, folder: Path, *options) -> None:
    subprocess.run([sys.executable, SAMPLES / f"{name}.py", folder, *map(str, options)], check=True)


def random(*numbers):
    return np.random.default_rng(numbers)


def test_fronts_of_houses_lie_on_their_maps():
    facades = script("facades")
    seen = set()
    for number in range(12):
        labels, front = (np.asarray(image) for image in facades.draw(64, random(number)))
        assert labels.shape == (64, 64) and front.shape == (64, 64, 3)
        seen |= set(np.unique(labels).tolist())
        names = list(facades.CLASSES)
        mean = {names[label]: front[labels == label].mean(0) for label in np.unique(labels)}
        sky = front[labels == names.index("sky")].astype(int)
        assert (sky[:, 2] > sky[:, 0] + 10).all()  # to the last pixel
        assert mean["roof"].max() < 90 < mean["cornice"].min()
        assert min(np.abs(mean["wall"] - np.array(wall)).max() for wall in facades.WALLS) < 25
        again = facades.draw(64, random(number))
        assert all(np.array_equal(x, y) for x, y in zip((labels, front), again, strict=True))
    assert seen == set(range(len(facades.CLASSES)))


def test_fronts_are_pairs_to_train_on(tmp_path):
    draw("facades", tmp_path, "--size", 32, "--train", 3, "--test", 1)
    specs = ImageSpec(labels=8), ImageSpec()
    train, test = (
        PairSet.load(find_pairs(tmp_path, part), specs, ResizeCrop((32, 32), (36, 36))) for part in ("train", "test")
    )
    assert (len(train), len(test)) == (3, 1) and not train.problems
    a, b = train.batch(torch.arange(3), torch.rand(3, 3))
    assert specs[0].normalized_input(a).shape == (3, 8, 32, 32) and b.shape == (3, 3, 32, 32)


@pytest.mark.parametrize("kind", ["boat", "house", "lighthouse", "tree"])
def test_scenes_by_day_and_by_night_are_the_same_scenes(kind):
    scenes = script("scenes")
    for number in range(6):
        day, night = (np.asarray(scenes.draw(kind, 64, random(number), dark)).astype(int) for dark in (False, True))
        assert day.mean() > 3 * night.mean()
        water = [(image[-1, :, 2] > image[-1, :, 1]).mean() > 0.7 for image in (day, night)]
        assert water == [kind in ("boat", "lighthouse")] * 2
        # What stands out from the row it is in stands at the same position
        contours = [np.abs(np.diff(image[36:56], axis=1)).sum(2) for image in (day, night)]
        assert np.corrcoef(*(contour.flatten() for contour in contours))[0, 1] > 0.3
    assert not np.array_equal(day, scenes.draw(kind, 64, random(99), False))


def test_only_the_test_scenes_are_the_same_by_day_and_by_night(tmp_path):
    draw("scenes", tmp_path, "--size", 16, "--train", 4, "--test", 4)
    names = sorted(path.relative_to(tmp_path / "day").as_posix() for path in (tmp_path / "day").rglob("*.png"))
    assert names == sorted(
        path.relative_to(tmp_path / "night").as_posix() for path in (tmp_path / "night").rglob("*.png")
    )
    assert len(names) == 8 and "test/boat/000.png" in names
    scenes = script("scenes")
    for part, numbers in (("train", (0, 0, 1, True)), ("test", (0, 1, 1, False))):
        expected = scenes.draw("house", 16, random(*numbers), True)
        written = scenes.Image.open(tmp_path / "night" / part / "house" / "001.png")
        assert np.array_equal(expected, written)


def test_glyphs_of_one_character_are_similar_whoever_writes_them(tmp_path):
    draw("glyphs", tmp_path, "--train", 2, "--test", 1, "--characters", 4, "--hands", 3, "--size", 24)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert len(names) == 3 * 4 * 3 and names[0] == "test/script2/character00/00.png"
    glyphs = script("glyphs")
    style = glyphs.taste(random(0))
    characters = [glyphs.character(style, random(1, number)) for number in range(8)]
    drawn = np.stack(
        [
            [np.asarray(glyphs.draw(strokes, style, glyphs.hand(random(2, h)), 24, random(3, h))) for h in range(4)]
            for strokes in characters
        ]
    ).astype(float)  # (character, hand, 24, 24)
    ink = (255 - drawn).reshape(32, 8, 3, 8, 3).mean((2, 4)).reshape(32, -1)  # coarse, since no two hands agree
    similarity = np.corrcoef(ink).reshape(8, 4, 8, 4)
    same = np.mean([similarity[c, g, c, h] for c in range(8) for g in range(4) for h in range(4) if g != h])
    other = np.mean(
        [similarity[c, g, d, h] for c in range(8) for d in range(8) for g in range(4) for h in range(4) if c != d]
    )
    assert same > other + 0.1 and ink.mean(1).min() > 5
    assert not np.array_equal(drawn[0, 0], drawn[0, 1])


def downloaded(folder: Path, images: dict[str, np.ndarray], labels: dict[str, list[int]]) -> None:
    """Put MNIST, USPS and CIFAR-10 where a download leaves them; the images of a part are (n, 32, 32, 3)."""
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {number}" for number in range(10)]}))
    for part, name in (("train", "train"), ("test", "t10k")):
        gray, truth = images[part][..., 0], labels[part]
        head = struct.pack(">I3I", 0x803, len(gray), 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + gray[:, :28, :28].tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(truth)) + bytes(truth))
        rows = [" ".join(f"{i + 1}:{v / 127.5 - 1:.6f}" for i, v in enumerate(g[:16, :16].flatten())) for g in gray]
        text = "".join(f"{label + 1} {row}\n" for label, row in zip(truth, rows, strict=True))
        (folder / {"train": "usps.bz2", "test": "usps.t.bz2"}[part]).write_bytes(bz2.compress(text.encode()))
        files = [f"data_batch_{number}" for number in range(1, 6)] if part == "train" else ["test_batch"]
        for number, file in enumerate(files):
            own = slice(number, None, len(files))
            batch = {"data": images[part][own].transpose(0, 3, 1, 2).reshape(-1, 3072), "labels": truth[own]}
            (batches / file).write_bytes(pickle.dumps(batch))


@pytest.mark.parametrize("data_set, side", [("mnist", 28), ("usps", 16), ("cifar10", 32)])
def test_a_downloaded_data_set_becomes_class_folders(data_set, side, tmp_path, monkeypatch):
    images = {part: random(k).integers(0, 256, (n, 32, 32, 3), np.uint8) for k, (part, n) in enumerate(PARTS.items())}
    labels = {part: [(3 * k) % 10 for k in range(n)] for part, n in PARTS.items()}
    downloaded(tmp_path / "kept", images, labels)
    folders = script("class_folders")
    # The checksums of CIFAR-10 are those of the real files
    monkeypatch.setattr(folders.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(folders.datasets.cifar, "check_integrity", lambda *_: True)
    words = ["class_folders.py", data_set, str(tmp_path / "made"), "--downloads", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", words)
    folders.main()
    for part, count in PARTS.items():
        seen = sorted((tmp_path / "made" / part).rglob("*.png"), key=lambda file: file.stem)
        assert len(seen) == count and len(list((tmp_path / "made" / part).iterdir())) == 10
        # CIFAR-10 has its training images in five files, here each fifth one
        order = sorted(range(count), key=lambda k: k % 5) if (data_set, part) == ("cifar10", "train") else range(count)
        for file, k in zip(seen, order, strict=True):
            assert file.parent.name.removeprefix("class ") == str(labels[part][k])
            expected = images[part][k][:side, :side] if data_set == "cifar10" else images[part][k][:side, :side, 0]
            slack = 1 if data_set == "usps" else 0  # rounded down from [-1, 1]
            assert np.abs(np.asarray(Image.open(file)).astype(int) - expected).max() <= slack
    with pytest.raises(SystemExit):  # images of an earlier call are not mixed with these
        folders.main()


def make(build: Path, variables: dict, *more) -> str:
    """What `make` prints, with results in `build` and the commands of this checkout."""
    words = [f"{name}={value}" for name, value in (variables | {"BUILD": build, "PYTHON": sys.executable}).items()]
    words.append(f"MLCLI={sys.executable} -m mlcli.cli")
    environment = ENVIRONMENT | {"PYTHONPATH": os.fspath(SAMPLES.parent)}
    done = subprocess.run(["make", "-C", SAMPLES, *words, *more], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


needed = {"pairs", "pix2pix", "translate", "classify", "train"} - {command.name for command in COMMANDS}


@pytest.mark.skipif(bool(needed) or not shutil.which("make"), reason=f"needs make and {needed}")
def test_make_goes_from_images_to_answers_and_then_does_nothing(tmp_path):
    build = tmp_path / "build"
    small = {
        "SIZE": 32,
        "TRAIN": 8,
        "TEST": 4,
        "STEPS": 2,
        "EPOCHS": 1,
        "CLASSIFIER": "--size 32 --batch-size 4",
        "PIX2PIX": "--filters 8 --discriminator-filters 8",
    }
    make(build, small)
    for name in ("real", "translated"):
        assert json.loads((build / f"{name}.json").read_text())
    assert len(list((build / "translated").rglob("*.png"))) == 4
    before = {path: path.stat().st_mtime_ns for path in build.rglob("*")}
    assert "Nothing to be done" in make(build, small)
    assert {path: path.stat().st_mtime_ns for path in build.rglob("*")} == before
    (build / "real.json").unlink()  # what is missing is made, and nothing else
    (line,) = [line for line in make(build, small, "-n").splitlines() if "mlcli.cli" in line]
    assert " classify " in line and "real.json" in line


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_adapts_from_drawn_digits_to_handwritten_ones(tmp_path):
    """What the sample runs do, in a few steps; the figures of whole ones are in the README."""
    options = "--source-steps 250 --steps 2 --candidates 1 --max-target 60 --batch-size 40"
    small = {"METHOD": "adda", "DRAWN": 200, "ADAPT": options}
    make(tmp_path, small, "adapt")
    result = json.loads((tmp_path / "adapted-a/adda/results.json").read_text())
    assert result["test_images"] == 500 and result["source_only"]["mean"] > 0.3
    assert not any("disagree" in words for words in result["guards"])
    assert "Nothing to be done" in make(tmp_path, small, "adapt")
    lines = make(tmp_path, {}, "-n", "organs").splitlines()
    run = [line.split(" -m mlcli.cli ")[1].split()[0] for line in lines if " -m mlcli.cli " in line]
    assert run == ["render", "render", "render", "adapt", "segment"]
