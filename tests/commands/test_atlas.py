"""`mlcli atlas` over real files: what is in a row, resuming, and the page in a browser."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from markupsafe import escape
from PIL import Image

from mlcli.methods.visualization import unit_atlas as method
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.training import run_folder
from tests import browser
from tests.cli import ENVIRONMENT, mlcli
from tests.tiny import COLORS

BLUE = sorted(COLORS).index("blue")  # the unit of conv1 that sees blue in the middle of its window
QUICK = ("--steps", 3, "--precision", "fp32", "-q")
MADE = ["neuron.png", "positive.png", "diverse.png", "negative.png"]
FOUND = ["strongly_positive.jpg", "strongly_negative.jpg", "spectrum.jpg"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Black images of 32 x 48 with a square of 8 pixels, the later the bluer."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        pixels = np.zeros((32, 48, 3), np.uint8)
        pixels[8:16, 24:32, 2] = 100 + 20 * number
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def finished(images, colors, tmp_path_factory):
    """An atlas of three units with patches, of one batch for each unit."""
    folder = tmp_path_factory.mktemp("finished") / "atlas"
    mlcli(*command(colors, images), "-o", folder)
    return folder


def command(colors, images):
    options = ("--layer", "conv1", "--units", f"{BLUE},5,7", "--batch-size", 4, "--top", 4)
    return ("atlas", "--model", colors, "--images", images, *options, *QUICK)


def content(folder):
    """name: bytes of every file, the page's and the record's too, but for the command line, which names the folder."""
    typed = rb'"command_line": ".*"|<pre>.*</pre>'
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): re.sub(typed, b"", file.read_bytes()) for file in files}


def changed(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def unit(folder, number):
    return json.loads((folder / "units" / f"{number}.json").read_text())


def pixels(folder, entry, name):
    (file,) = [p["file"] for p in entry["images"] if p["file"].endswith(f"-{name}")]
    return np.asarray(Image.open(folder / file)).astype(int)


def test_a_row_of_a_unit_that_sees_blue(finished, images, colors, tmp_path):
    assert sorted(os.listdir(finished)) == ["atlas.json", "index.html", "patches.json", "units"]
    assert len(os.listdir(finished / "units")) == 3 * (len(MADE) + len(FOUND) + 1)
    record = json.loads((finished / "atlas.json").read_text())
    assert record["command"] == "atlas" and record["model_hash"] == registry.load(str(colors)).hash
    assert record["options"]["steps"] == 3 and record["images"]["count"] == 6
    page = (finished / "index.html").read_text()
    assert (
        f"<pre>{escape(record['command_line'])}</pre>" in re.sub("</?span>", "", page)
        and '<th scope="row">--layer</th>' in page
    )
    entry = unit(finished, BLUE)
    assert entry["heading"] == f"conv1:{BLUE}"
    order = [p["file"].removeprefix(f"units/{BLUE}-") for p in entry["images"]]
    assert order == ["neuron.png", "positive.png", "diverse.png", FOUND[0], "negative.png", FOUND[1], FOUND[2]]

    positive, negative = (pixels(finished, entry, f"{kind}.png") for kind in ("positive", "negative"))
    assert positive.shape == (128, 128, 3)  # 16 pixels, each of them a square of 8
    assert np.array_equal(positive, positive[::8, ::8].repeat(8, 0).repeat(8, 1))
    assert positive[..., 2].mean() > negative[..., 2].mean() + 2
    values = {kind: [one["activation"] for one in made] for kind, made in entry["optimized"].items()}
    captions = [p["caption"] for p in entry["images"]]
    assert captions[1] == f"channel +: {values['positive'][0]:.3g}" and len(values["diverse"]) == 4

    # The patches are those of `mlcli patches`, and the spectrum has them in rising order between what was made
    options = ("--layer", "conv1", "--units", BLUE, "--top", 4, "--batch-size", 4, "--precision", "fp32", "-q")
    mlcli("patches", images, "--model", colors, *options, "-o", tmp_path / "patches")
    (layer,) = json.loads((tmp_path / "patches" / "patches.json").read_text())["layers"]
    known = json.loads((finished / "patches.json").read_text())
    assert known["images"] == 6 and known["units"][0] == layer["units"][0]
    groups = layer["units"][0]
    assert captions[3] == "most excited by: " + " to ".join(
        f"{groups['strongly_positive'][at]['value']:.3g}" for at in (0, -1)
    )
    top = pixels(finished, entry, FOUND[0])
    assert top.shape == (2 * 98 + 2, 2 * 98 + 2, 3)
    blues = [top[y : y + 96, x : x + 96, 2].max() for y in (2, 100) for x in (2, 100)]
    assert blues == sorted(set(blues), reverse=True) and blues[-1] > 130
    spectrum = pixels(finished, entry, FOUND[2])
    first, *_, last = (spectrum[2:98, x : x + 96] for x in (2, 0, spectrum.shape[1] - 98))
    for end, made in ((first, negative), (last, positive)):
        assert end.mean((0, 1)) == pytest.approx(made.mean((0, 1)), abs=3)
    blue = [spectrum[2:98, spectrum.shape[1] - x : spectrum.shape[1] - x + 96, 2].max() for x in (404, 306, 208)]
    assert blue == sorted(blue) and blue[0] > 120


def test_a_finished_atlas_is_left_alone(finished, images, colors):
    before = changed(finished)
    arguments = [word for word in command(colors, images) if word != "-q"]
    assert "done already" in mlcli(*arguments, "-o", finished, "--resume").stderr
    assert "--resume completes it, --overwrite replaces it" in mlcli(*arguments, "-o", finished, status=2).stderr
    assert changed(finished) == before


@pytest.mark.parametrize(
    "options, told",
    [
        (("--steps", 4), "other steps 3;"),
        (("--units", "5"), f"other units {BLUE},5,7;"),
        (("--seed", 1, "--top", 5), "other top 4, seed 0;"),
    ],
)
def test_resuming_with_other_options_is_refused(finished, images, colors, options, told):
    before = changed(finished)
    result = mlcli(*command(colors, images), "-o", finished, "--resume", *options, status=1)
    assert told in result.stderr and changed(finished) == before


def test_resuming_with_other_images_or_weights_is_refused(finished, images, colors, tmp_path, monkeypatch):
    result = mlcli(*command(colors, images), "-o", finished, "--resume", "--images", "samples", status=1)
    assert "other images" in result.stderr and "images;" in result.stderr
    monkeypatch.setattr(Model, "hash", "another")
    assert "other model weights;" in mlcli(*command(colors, images), "-o", finished, "--resume", status=1).stderr


def test_killed_and_resumed_equals_never_killed(finished, images, colors, tmp_path):
    folder = tmp_path / "atlas"
    arguments = [*map(str, command(colors, images)), "-o", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", "mlcli.cli", *arguments], env=ENVIRONMENT)
    while not list(folder.glob("units/[0-9].json")) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder / "units" / ".mlcli-1.png").write_bytes(b"torn")
    done = {file: file.stat().st_mtime_ns for file in folder.glob("units/[0-9].json")}
    assert 0 < len(done) < 3
    mlcli(*arguments, "--resume")
    assert all(file.stat().st_mtime_ns == before for file, before in done.items())
    assert content(folder) == content(finished)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_says_how_to_go_on(finished, images, colors, tmp_path, monkeypatch, number, status):
    folder = tmp_path / "atlas"
    optimize, begun = method.optimize, []

    def interrupted(*arguments, **options):
        begun.append(arguments[2])
        if len(begun) == 2:
            os.kill(os.getpid(), number)
        return optimize(*arguments, **options)

    monkeypatch.setattr(method, "optimize", interrupted)
    result = mlcli(*command(colors, images), "-o", folder, status=status)
    assert "has 1 of 3 units" in result.stderr and "--resume" in result.stderr
    page = (folder / "index.html").read_text()
    assert page.count("<section") == 1 and "1 of 3 units so far" in page
    mlcli(*command(colors, images), "-o", folder, "--resume")
    assert begun == [[BLUE], [5], [5], [7]] and content(folder) == content(finished)


def test_a_missing_unit_or_page_is_made_again(finished, images, colors, tmp_path):
    folder, before = tmp_path / "atlas", content(finished)
    shutil.copytree(finished, folder)
    for name in ("units/5.json", "index.html"):
        (folder / name).unlink()
        mlcli(*command(colors, images), "-o", folder, "--resume")
        assert content(folder) == before


def test_overwriting_leaves_nothing_of_the_former(finished, images, colors, tmp_path):
    folder = tmp_path / "atlas"
    arguments = ("atlas", "--model", colors, "--layer", "classifier", *QUICK, "-o", folder)
    mlcli(*command(colors, images), "-o", folder)
    mlcli(*arguments, "--overwrite")
    assert sorted(os.listdir(folder)) == ["atlas.json", "index.html", "units"]
    files = [f"{n}{end}" for n in range(3) for end in ("-diverse.png", "-negative.png", "-positive.png", ".json")]
    assert sorted(os.listdir(folder / "units")) == files
    assert [unit(folder, n)["heading"] for n in range(3)] == [
        "classifier:0 blue", "classifier:1 green", "classifier:2 red"
    ]  # fmt: skip
    page = (folder / "index.html").read_text()
    assert "Made without --images" in page and "the neuron at the center" not in page
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    result = mlcli(*arguments[:-1], tmp_path / "mine", "--overwrite", status=2)
    assert "neither empty nor an atlas" in result.stderr and os.listdir(tmp_path / "mine") == ["notes.txt"]


def test_bad_files_are_named_and_the_rest_goes_on(images, colors, tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    for file in images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "torn.png").write_bytes((images / "5.png").read_bytes()[:60])
    arguments = ("atlas", "--model", colors, "--layer", "conv1", "--units", BLUE, "--top", 2, *QUICK)
    whole = mlcli(*arguments, "--images", folder, "-o", tmp_path / "whole", status=1)
    assert "torn.png" in whole.stderr and len(whole.stderr.splitlines()) == 1
    cut = method.optimize

    def optimize_and_lose(*given, **options):
        (folder / "5.png").unlink()
        return cut(*given, **options)

    monkeypatch.setattr(method, "optimize", optimize_and_lose)
    lost = mlcli(*arguments, "--images", folder, "-o", tmp_path / "lost", status=1)
    assert "torn.png" in lost.stderr and "5.png: no such file" in lost.stderr and len(lost.stderr.splitlines()) == 2
    seen = {name: pixels(tmp_path / name, unit(tmp_path / name, BLUE), FOUND[0]) for name in ("whole", "lost")}
    assert (seen["whole"][2:98, 2:98, 2] > 150).any() and (seen["lost"][20:80, 20:80] == 255).all()
    assert np.abs(seen["whole"][102:] - seen["lost"][102:]).mean() < 2  # the other is still there
    (folder / "none").mkdir()
    (folder / "none" / "torn.png").write_bytes(b"no image")
    result = mlcli(*arguments, "--images", folder / "none", "-o", tmp_path / "none", status=1)
    assert "no readable image" in result.stderr and not (tmp_path / "none").exists()


def test_a_gray_model_without_images(tmp_path):
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["a", "b"], 16, channels=1)
    run_folder.save_tensors(tmp_path / "run" / "model.safetensors", model.network.state_dict(), model.describe())
    folder = tmp_path / "atlas"
    mlcli("atlas", "--model", tmp_path / "run", "--layer", "conv2:12", "--size", 20, *QUICK, "-o", folder)
    entry = json.loads((folder / "units" / "12.json").read_text())
    assert len(entry["images"]) == len(MADE)
    shown = pixels(folder, entry, "neuron.png")
    assert shown.shape == (128, 128, 3) and np.ptp(shown, axis=2).max() == 0


def test_the_page_in_a_browser(finished, tmp_path):
    """All rows are there, the box filters them, and every image that comes into view is loaded."""
    dom = browser.run(finished / "index.html", "#q=5-7", "--dump-dom")
    assert rows(dom) == {BLUE: False, 5: True, 7: True}
    count = "addEventListener('load', () => setTimeout(() => { document.title = [...document.images].filter("
    count += "image => image.complete && image.naturalWidth > 99).length + ' loaded'; }, 1000));"
    probe = finished / "probe.html"
    probe.write_text((finished / "index.html").read_text() + f"<script>{count}</script>")
    try:
        dom = browser.run(probe, "", "--dump-dom", "--window-size=1400,1600")
    finally:
        probe.unlink()
    assert rows(dom) == {BLUE: True, 5: True, 7: True}
    assert f"<title>{3 * (len(MADE) + len(FOUND))} loaded</title>" in dom


def rows(dom: str) -> dict[int, bool]:
    """number: whether the row is shown."""
    found = re.findall(r'<section data-number="?(\d+)"?([^>]*)>', dom)
    return {int(number): "hidden" not in rest for number, rest in found}


@pytest.mark.parametrize(
    "arguments, status, text",
    [
        (["--layer", "conv9"], 2, "did you mean conv"),
        (["--units", "999"], 2, "conv4 has the units 0 to 383"),
        (["--layer", "conv4:1", "--units", "2"], 2, "names a unit"),
        (["--layer", "conv5", "--size", "4"], 2, "--size 4: does not suit"),
        (["--images", "absent"], 1, "absent: no such file"),
        (["-o", "file"], 2, "a file; give the name of a folder"),
        (["-o", "folder"], 2, "neither empty nor an atlas"),
        (["-o", "folder", "--resume"], 2, "neither empty nor an atlas"),
        (["--device", "cuda:9"], 2, "--device"),
    ],
)
def test_errors(colors, tmp_path, arguments, status, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    result = mlcli("atlas", "--model", colors, "-o", "out", "--steps", 1, *arguments, status=status)
    assert text in result.stderr and sorted(tmp_path.rglob("*")) == before


def test_patches_are_those_of_fp32_whatever_the_optimization_takes(finished, images, colors, tmp_path):
    mlcli(*command(colors, images), "--units", BLUE, "--precision", "bf16", "--steps", 1, "-o", tmp_path / "out")
    patches = json.loads((tmp_path / "out" / "patches.json").read_text())
    assert patches["units"][0] == json.loads((finished / "patches.json").read_text())["units"][0]


PATCH = {"file": "a.png", "value": 1.0, "position": [0, 0], "box": [0, 0, 4, 4], "size": [4, 4]}


@pytest.mark.parametrize(
    "name, change, told",
    [
        ("atlas.json", lambda file: {"command": "atlas"}, "has no options"),
        ("atlas.json", lambda file: {"command": "atlas", "options": []}, "options should be an object"),
        ("patches.json", lambda file: [], "should be an object"),
        ("patches.json", lambda file: {"images": 6}, "has no units"),
        ("patches.json", lambda file: {"images": 6, "units": []}, "has no unit"),
        ("patches.json", lambda file: {**file, "images": "x"}, "images should be a whole number"),
        ("patches.json", lambda file: with_patch(file, {}), "has no file"),
        ("patches.json", lambda file: with_patch(file, PATCH | {"value": None}), "value should be a number"),
        ("patches.json", lambda file: with_patch(file, PATCH | {"box": [0, 0, 4]}), "box should be a list of 4"),
        ("patches.json", lambda file: with_patch(file, PATCH | {"box": [0, 0, 9, 4]}), "box should be inside"),
        ("patches.json", lambda file: with_patch(file, PATCH | {"box": [2, 0, 2, 4]}), "box should be inside"),
        ("units/005.json", lambda file: 5, "should be an object"),
        ("units/005.json", lambda file: {**file, "heading": None}, "heading should be a text"),
        ("units/005.json", lambda file: {**file, "images": [1]}, "images.0 should be an object"),
        ("units/005.json", lambda file: with_file(file, "../../secret.png"), "file should be a file in units/"),
        ("units/005.json", lambda file: with_file(file, "javascript:alert(1)"), "file should be a file in units/"),
    ],
)
def test_damaged_files_are_one_message(name, change, told, finished, images, colors, tmp_path):
    folder = tmp_path / "atlas"
    shutil.copytree(finished, folder)
    file = next(folder.glob(name.replace("005", "*5")))
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    next(folder.glob("units/*7.json")).unlink()  # so that there is something to do
    said = mlcli(*command(colors, images), "-o", folder, "--resume", status=1).stderr
    assert f"{file}: cannot be read (" in said and told in said and said.count("\n") == 1


def with_patch(document, patch):
    document["units"][0]["slightly_positive"] = [patch]
    return document


def with_file(document, name):
    document["images"][0]["file"] = name
    return document
